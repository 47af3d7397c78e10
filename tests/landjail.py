"""What programs do with sockets: each thing in one line, the same in and out of a jail."""
import array, errno, fcntl, os, select, socket, struct, threading, time

HOST = "allowed.test"
ADDRESS = socket.getaddrinfo(HOST, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4]
REQUEST = b"GET / HTTP/1.0\r\nHost: %s\r\n\r\n" % HOST.encode()


def told(what, *is_so):
    print(what, *is_so, flush=True)


def asked(stream):
    stream.setblocking(True)
    stream.settimeout(30)
    stream.sendall(REQUEST)
    answer = b""
    while b"this is " + HOST.encode() not in answer:
        answer += stream.recv(65536) or bytes(1 << 20)
        if len(answer) > 1 << 20:
            return False
    return b"200 OK" in answer


def error(call, *arguments):
    try:
        return call(*arguments)
    except OSError as failure:
        return errno.errorcode.get(failure.errno, failure.errno)


def under_way(stream, address=ADDRESS):
    stream.setblocking(False)
    return stream.connect_ex(address) in (0, errno.EINPROGRESS)


s = socket.socket()
told("unconnected peer", error(s.getpeername))
s.connect(ADDRESS)
told("peer", s.getpeername() == ADDRESS, "own", s.getsockname()[1] > 0)
told("again", error(s.connect, ADDRESS))
told("answer", asked(s))

s = socket.socket()
poll = select.epoll()
poll.register(s, select.EPOLLIN | select.EPOLLOUT)
told("under way", under_way(s))
told("epoll", any(event & select.EPOLLOUT for _ in range(100) for _, event in poll.poll(0.3)))
told("error", s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
told("answer", asked(s))

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.connect(ADDRESS)
told("kept", s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
     s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)

s = socket.socket()
t = s.dup()
s.connect(ADDRESS)
s.close()
told("duplicate", t.getpeername() == ADDRESS, asked(t))

s = socket.socket()
child = os.fork()
if child == 0:
    s.connect(ADDRESS)
    os._exit(0)
told("child", os.waitpid(child, 0)[1], asked(s))

s = socket.socket()
told("select", under_way(s), bool(select.select([], [s], [], 30)[1]), asked(s))

s = socket.socket()
s.bind(("", 0))
bound = s.getsockname()[1]
s.connect(ADDRESS)
told("bound", s.getsockname()[1] == bound, asked(s))

s = socket.socket()
s.connect(ADDRESS)
s.sendmsg([REQUEST], [], 0, ("192.0.2.1", 9))
s.shutdown(socket.SHUT_WR)
answer = b""
while b"this is" not in answer:
    chunk = s.recv(65536)
    assert chunk, answer
    answer += chunk
told("half closed", b"200 OK" in answer)

s6 = socket.socket(socket.AF_INET6)
mapped = "::ffff:" + ADDRESS[0]
s6.connect((mapped, 80))
told("mapped", s6.getpeername()[0] == mapped, asked(s6))

# Servers on loopback, and what a closed port says.
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    l = socket.socket(family)
    l.bind((host, 0))
    port = l.getsockname()[1]
    refused = socket.socket(family)
    told("not yet", errno.errorcode.get(refused.connect_ex((host, port))))
    l.listen()
    c = socket.socket(family)
    c.connect((host, port))
    a, peer = l.accept()
    told("accepted", peer == c.getsockname(), c.getpeername() == l.getsockname(),
         a.getpeername() == c.getsockname(), a.getsockname() == l.getsockname())
    told("connected", error(a.connect, (host, port)), error(l.connect, (host, port)))
    a.sendall(b"x")
    told("said", c.recv(9))
    l.close()
    told("closed", errno.errorcode.get(socket.socket(family).connect_ex((host, port))))

l = socket.create_server(("", 0))
c = socket.socket()
told("any", error(c.connect, ("0.0.0.0", l.getsockname()[1])))

# Over and over: after the peer has gone the same socket may be used again.
s = socket.socket()
told("refused", errno.errorcode.get(s.connect_ex(("127.0.0.1", 1))))
s.connect(ADDRESS)
told("then", asked(s))

# Asked again what became of a connection that nobody waited for: it is refused once, and may be tried again.
def name(number):
    return errno.errorcode.get(number, number)


for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    s = socket.socket(family)
    s.setblocking(False)
    told("tried", name(s.connect_ex((host, 1))) in ("EINPROGRESS", "ECONNREFUSED"), error(s.getpeername))
    select.select([], [s], [], 30)
    told("nobody there", name(s.connect_ex((host, 1))), error(s.getpeername))
    l = socket.create_server((host, 0), family=family)
    told("then", under_way(s, l.getsockname()), bool(select.select([], [s], [], 30)[1]))
    told("made", *[name(s.connect_ex(l.getsockname())) for _ in range(2)], s.getpeername() == l.getsockname())
    s.close()
    told("gone", l.accept()[0].recv(9))

# A server that has no room: whoever waits for it gives up in time, is told to, or gets in.
l = socket.socket()
l.bind(("127.0.0.1", 0))
l.listen(0)
crowd = [socket.socket() for _ in range(4)]
[under_way(early, l.getsockname()) for early in crowd]
s = socket.socket()
s.setblocking(False)
told("no room", name(s.connect_ex(l.getsockname())), error(s.getpeername))
later = s
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
begun = time.monotonic()
told("out of time", errno.errorcode.get(s.connect_ex(l.getsockname())), 0.9 < time.monotonic() - begun < 9)
s = socket.socket()
threading.Timer(0.5, lambda: error(s.shutdown, socket.SHUT_RDWR)).start()
told("called off", errno.errorcode.get(s.connect_ex(l.getsockname())))
s = socket.socket()
def let_in():
    while True:
        crowd.append(l.accept()[0])
door = threading.Timer(0.5, let_in)
door.daemon = True
door.start()
told("let in", s.connect_ex(l.getsockname()), s.getpeername() == l.getsockname(), s.getblocking())
told("room", bool(select.select([], [later], [], 30)[1]))
told("in the end", *[name(later.connect_ex(l.getsockname())) for _ in range(2)])

# Handed to another process over a unix socket.
one, other = socket.socketpair()
child = os.fork()
if child == 0:
    stream = socket.socket()
    one.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stream.fileno()]))])
    os._exit(0)
data, beside, _, _ = other.recvmsg(9, socket.CMSG_LEN(4))
stream = socket.socket(fileno=struct.unpack("i", beside[0][2][:4])[0])
os.waitpid(child, 0)
told("handed", data, stream.family.name, stream.type.name, error(stream.connect, ADDRESS), asked(stream))

# Many at once.
done = []
def one_of_many():
    stream = socket.create_connection(ADDRESS)
    done.append(asked(stream))
threads = [threading.Thread(target=one_of_many) for _ in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
told("many", done == [True] * 20)

# Datagrams between own sockets.
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 0))
b.bind(("127.0.0.1", 0))
told("kind", b.type.name, b.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM)
b.sendto(b"one", a.getsockname())
told("datagram", a.recvfrom(99) == (b"one", b.getsockname()))
b.connect(a.getsockname())
b.send(b"two")
told("connected", a.recvmsg(99)[0], b.getpeername() == a.getsockname())
a.sendto(b"back", b.getsockname())
told("back", b.recv(99))
a.settimeout(0.2)
try:
    a.recvfrom(9)
except TimeoutError:
    told("late")
b.setblocking(False)
told("nothing", error(b.recvfrom, 9))
waiting = threading.Thread(target=lambda: told("waited", a.recvfrom(9)[0]))
a.settimeout(None)
waiting.start()
b.send(b"three")
waiting.join()

# Errors are waited for by nobody, and no datagram is one.
told("no error", error(a.recvmsg, 9, 99, socket.MSG_ERRQUEUE))
b.send(b"none")
told("no error", error(a.recvmsg, 9, 99, socket.MSG_ERRQUEUE), a.recv(9))

# One that is shut down says nothing, and hears what it is sent.
b.setblocking(True)
b.send(b"four")
b.shutdown(socket.SHUT_WR)
told("shut down", a.recv(9), error(b.send, b"five"))
a.settimeout(0.5)
try:
    told("and said", a.recv(9))
except TimeoutError:
    told("silent")
a.sendto(b"six", b.getsockname())
told("heard", b.recv(9))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.connect(a.getsockname())
c.shutdown(socket.SHUT_RD)
c.send(b"seven")
said, sender = a.recvfrom(9)
told("half", said, error(a.sendto, b"unheard", sender))
told("end")
