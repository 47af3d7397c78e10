"""What the tests of tests/escape/witness.rs run: each says what became of what it tried, a line each.

Its first word says which.
"""

import ctypes
import errno
import fcntl
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_DUMPABLE, CLONE_FILES, TUNSETIFF = 4, 0x400, 0x400454CA
# Sockets that are refused in every jail: vsock, packets, and one that is raw.
REFUSED = [(40, socket.SOCK_STREAM, 0), (17, socket.SOCK_RAW, 0), (socket.AF_INET, socket.SOCK_RAW, 1)]


def tell(*words):
    print(*words, flush=True)


def outcome(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def refused():
    for made in REFUSED:
        tell("made", outcome(lambda: socket.socket(*made).close()))


def ushers():
    """The processes of boundary that can be seen from here."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/comm") as comm:
                name = comm.read().strip()
        except OSError:
            continue
        if name in ("boundary-usher", "boundary-init"):
            yield int(number)


def limits():
    """Leaves boundary's processes no descriptors."""
    found = list(ushers())
    for number in found:
        tell("limit", outcome(lambda: resource.prlimit(number, resource.RLIMIT_NOFILE, (0, 0))))
        for thread in os.listdir(f"/proc/{number}/task"):
            tell("limit", outcome(lambda: resource.prlimit(int(thread), resource.RLIMIT_AS, (4096, 4096))))
    tell("processes", len(found))
    child = os.fork()
    if child == 0:
        threading.Event().wait(30)
        os._exit(0)
    tell("child", outcome(lambda: resource.prlimit(child, resource.RLIMIT_NOFILE, (64, 64))))
    os.kill(child, 9)
    os.waitpid(child, 0)
    # The usher's next thread may have it when the kernel looks.
    tell("nobody", outcome(lambda: resource.prlimit(child, resource.RLIMIT_NOFILE, (64, 64))))
    beside = threading.Thread(target=lambda: time.sleep(1))
    beside.start()
    tell("beside", outcome(lambda: resource.prlimit(beside.native_id, resource.RLIMIT_NOFILE, (4000, 4000))))
    tell("self", outcome(lambda: resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (4000, 4000))))
    refused()


def served(prepare, start, started):
    """A server of the command's own, under a path and under a name, and clients of it."""
    for address in ("tmp/served.sock", "\0served"):
        with socket.socket(socket.AF_UNIX) as client:
            started.clear()

            def serve():
                prepare()
                with socket.socket(socket.AF_UNIX) as own:
                    own.bind(address)
                    own.listen()
                    started.set()
                    accepted, _ = own.accept()
                    accepted.sendall(b"served")
                    accepted.close()

            server = start(serve)
            started.wait(10)
            client.settimeout(10)
            tell("connected", outcome(lambda: client.connect(address)))
            tell("said", client.recv(9).decode())
            server.join()


def process(work):
    started = multiprocessing.Process(target=work)
    started.start()
    return started


def thread(work):
    started = threading.Thread(target=work)
    started.start()
    return started


def named(name, gate):
    """A client that waits for a server under a name, which becomes somebody else's."""
    address = "\0" + name
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(0)
    waiting, clients = [], [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for client in clients:
        client.settimeout(None)
        thread = threading.Thread(target=lambda client=client: waiting.append(outcome(lambda: client.connect(address))))
        thread.start()
    while len(waiting) < 1:
        pass
    tell("waits")
    listener.close()
    open(gate).read()
    for client in clients:
        client.settimeout(0.5)
    until = time.time() + 10
    while len(waiting) < len(clients) and time.time() < until:
        time.sleep(0.05)
    heard = []
    for client in clients:
        try:
            client.sendall(b"from inside")
            heard.append(client.recv(99).decode())
        except OSError:
            pass
    tell("outcomes", *sorted(waiting))
    tell("heard", *heard)
    os._exit(0)


def main(what, *words):
    match what:
        case "limits":
            limits()
        case "hidden":
            served(lambda: libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), process, multiprocessing.Event())
        case "own-files":
            served(lambda: libc.unshare(CLONE_FILES), thread, threading.Event())
        case "named":
            named(*words)
        case "tun":
            with open("/dev/null") as null:
                tell("attached", outcome(lambda: fcntl.ioctl(null, TUNSETIFF, bytes(40))))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main(*sys.argv[1:])
