"""Signals that come to whoever waits for a datagram, or for a server that has no room.

Each line is a thing and what became of it, and has to be the same behind every jail.
"""
import ctypes, os, signal, socket, struct, sys, threading, time

LIBC = ctypes.CDLL(None, use_errno=True)
PATIENCE = 30


class Woken(Exception):
    pass


def wake(*_):
    raise Woken


def told(name, *outcome):
    print(name, *outcome, flush=True)


def bound():
    one = socket.socket(type=socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one


def say(what, to):
    socket.socket(type=socket.SOCK_DGRAM).sendto(what, to.getsockname())


def received(one):
    """As C has it: Python makes a call again itself."""
    room, name, length = ctypes.create_string_buffer(9), ctypes.create_string_buffer(128), ctypes.c_int(128)
    got = LIBC.recvfrom(one.fileno(), room, 9, 0, name, ctypes.byref(length))
    return room.value if got >= 0 else ctypes.get_errno()


def woken(name, call):
    signal.signal(signal.SIGALRM, wake)
    signal.alarm(1)
    begun = time.monotonic()
    try:
        told(name, call())
    except Woken:
        told(name, "woken", time.monotonic() - begun < PATIENCE)


def stopped(name, body, let_go):
    """Stops a child that does something, has it go on, and tells how it ends."""
    if not (child := os.fork()):
        signal.alarm(0)
        os._exit(body())
    time.sleep(0.5)
    os.kill(child, signal.SIGSTOP)
    until, changed = time.monotonic() + PATIENCE, (0, 0)
    while not changed[0] and time.monotonic() < until:
        changed = os.waitpid(child, os.WUNTRACED | os.WNOHANG)
        time.sleep(0.02)
    os.kill(child, signal.SIGCONT)
    time.sleep(0.5)
    let_go()
    told(name, changed[0] == child and os.WIFSTOPPED(changed[1]), os.waitpid(child, 0)[1] >> 8)


one = bound()
woken("datagram", lambda: one.recvfrom(9))

heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append("heard"))
for again in (True, False):
    signal.siginterrupt(signal.SIGALRM, not again)
    signal.alarm(1)
    if not (child := os.fork()):
        time.sleep(3)
        say(b"late", one)
        os._exit(0)
    told("again" if again else "once", received(one), heard)
    os.waitpid(child, 0)
    heard.clear()
signal.siginterrupt(signal.SIGALRM, False)
limited = bound()
limited.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE, 0))
signal.alarm(1)
told("limited", received(limited), heard)


def in_a_thread():
    got = []
    thread = threading.Thread(target=lambda: got.append(two.recvfrom(9)[0]))
    thread.start()
    thread.join()
    return got == [b"go"] and 7


two = bound()
stopped("alone", lambda: two.recvfrom(9)[0] == b"go" and 7, lambda: say(b"go", two))
stopped("with others", in_a_thread, lambda: say(b"go", two))

# A server of the unix family that has no room.
path = sys.argv[1]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(0)
first = socket.socket(socket.AF_UNIX)
first.connect(path)
woken("unix", lambda: socket.socket(socket.AF_UNIX).connect(path))
stopped("unix", lambda: socket.socket(socket.AF_UNIX).connect_ex(path) == 0 and 7, server.accept)
told("end")
