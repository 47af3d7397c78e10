"""What `a18_a19_messages_…` of tests/escape/unix.rs runs, in a folder of its own; `foreign` is bound there
when somebody has written to the file that is named."""

import array, ctypes, os, signal, socket, struct, sys, time

U, D, L = socket.AF_UNIX, socket.SOCK_DGRAM, socket.SOL_SOCKET
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = os.sysconf("SC_PAGE_SIZE")
SECRET = 447  # memfd_secret(2)


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("parts", ctypes.c_void_p),
        ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("gap", ctypes.c_int), ("sent", ctypes.c_uint), ("end", ctypes.c_uint),
    ]


kept = []


def message(text, name):
    """One message, whose parts live as long as the program."""
    part = Part(text, len(text))
    made = Message(parts=ctypes.addressof(part), count=1)
    if name is not None:
        address = ctypes.create_string_buffer(struct.pack("H", U) + name)
        made.name, made.name_length = ctypes.addressof(address), len(name) + 2
        kept.append(address)
    kept.append(part)
    return made


def checked(returned):
    if returned < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned


def several(sender, names):
    messages = (Message * len(names))(*[message(b"to %d" % at, name) for at, name in enumerate(names)])
    sent = checked(libc.sendmmsg(sender.fileno(), messages, len(names), 0))
    return sent, [message.sent for message in messages][:sent]


def attempt(name, call):
    try:
        print(name, call(), flush=True)
    except OSError as error:
        print(name, error.strerror, flush=True)


def pages(count, file=-1):
    """Memory of so many pages, anonymous or of a file."""
    flags = 0x22 if file < 0 else 1  # MAP_PRIVATE | MAP_ANONYMOUS, or MAP_SHARED
    at = libc.mmap(None, count * PAGE, 3, flags, file, 0)
    if at in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "no such memory here")
    return at


def half_an_array():
    """The second of two messages lies where nothing is."""
    at = pages(2)
    checked(libc.munmap(at + PAGE, PAGE))
    first = message(b"half", b"foreign.mail")
    place = at + PAGE - ctypes.sizeof(first)
    ctypes.memmove(place, ctypes.byref(first), ctypes.sizeof(first))
    return libc_call("sendmmsg", place, 2)


def libc_call(name, at, *more):
    return checked(getattr(libc, name)(ctypes.c_int(sender.fileno()), ctypes.c_void_p(at), *more, 0))


def secret():
    """Memory that the kernel reads for its owner alone."""
    file = libc.syscall(SECRET, 0)
    if file < 0:
        raise OSError(ctypes.get_errno(), "no such memory here")
    checked(libc.ftruncate(file, PAGE))
    return pages(1, file)


def secret_name():
    at, address = secret(), struct.pack("H", U) + b"foreign.mail"
    ctypes.memmove(at, address, len(address))
    made = message(b"secret", None)
    made.name, made.name_length = at, len(address)
    return libc_call("sendmsg", ctypes.addressof(made))


def secret_array():
    at, made = secret(), message(b"secret", b"foreign.mail")
    ctypes.memmove(at, ctypes.byref(made), ctypes.sizeof(made))
    return libc_call("sendmmsg", at, 1)


def secret_connect():
    at, address = secret(), struct.pack("H", U) + b"foreign"
    ctypes.memmove(at, address, len(address))
    stream = socket.socket(U)
    return checked(libc.connect(stream.fileno(), ctypes.c_void_p(at), len(address)))


def claimed(process, user):
    """A letter of somebody: a process and a user."""
    who = struct.pack("3i", process, user, os.getgid())
    return sender.sendmsg([b"x"], [(L, socket.SCM_CREDENTIALS, who)], 0, "mine")


def letter():
    who = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    beside = [(L, socket.SCM_RIGHTS, array.array("i", [write])), (L, socket.SCM_CREDENTIALS, who)]
    length = sender.sendmsg([b"one ", b"letter"], beside, 0, "mine")
    content, beside, _, _ = own.recvmsg(64, 256)
    found = {kind: data for _, kind, data in beside}
    os.write(struct.unpack("i", found[socket.SCM_RIGHTS])[0], b"through the file")
    user = struct.unpack("3i", found[socket.SCM_CREDENTIALS])[1]
    return length, content, os.read(read, 64), user == os.getuid()


def sender_of_a_plain_one():
    """Whom the receiver takes the sender for who says nothing of himself."""
    sender.sendto(b"x", "mine")
    _, beside, _, _ = own.recvmsg(64, 256)
    who = [struct.unpack("3i", data)[1:] for _, kind, data in beside if kind == socket.SCM_CREDENTIALS]
    return who == [(os.getuid(), os.getgid())]


def killed_while_it_waited():
    """What comes after others of a sender who waited for room and was killed."""
    sender.setblocking(False)
    count = 0
    try:
        while True:
            count += sender.sendto(b"x", "mine")
    except BlockingIOError:
        sender.setblocking(True)
    child = os.fork()
    if child == 0:
        sender.sendto(b"late", "mine")
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    first = {own.recv(64) for _ in range(count)}
    own.settimeout(0.5)
    try:
        return first, own.recv(64)
    except TimeoutError:
        return first, "nothing"
    finally:
        own.settimeout(5)


own, sender = socket.socket(U, D), socket.socket(U, D)
attempt("bind:", lambda: own.bind("mine"))
own.setsockopt(L, socket.SO_PASSCRED, 1)
own.settimeout(5)
print("ready", flush=True)
open(sys.argv[1]).read()
read, write = os.pipe()
attempt("letter:", letter)
attempt("from:", sender_of_a_plain_one)
attempt("several:", lambda: (several(sender, [b"mine", b"mine"]), own.recv(64)))
attempt("killed:", killed_while_it_waited)
attempt("another process:", lambda: claimed(1, os.getuid()))
attempt("another user:", lambda: (claimed(os.getpid(), 12345), own.recv(64)))
attempt("foreign:", lambda: sender.sendmsg([b"x"], [], 0, "foreign.mail"))
attempt("half an array:", half_an_array)
attempt("secret name:", secret_name)
attempt("secret array:", secret_array)
attempt("secret connect:", secret_connect)
attempt("nothing of nowhere:", lambda: libc_call("sendmmsg", ctypes.c_void_p(-1).value, 0))
attempt("connect:", lambda: sender.connect("mine"))
attempt("hidden:", lambda: (several(sender, [None, b"foreign.mail"]), own.recv(64)))
one, other = socket.socketpair(U, D)
print("pair:", one.sendmsg([b"x"]), other.recv(1))
print("end")
