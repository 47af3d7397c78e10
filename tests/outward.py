"""Signals to processes that are not the session's, in every way that there is, and whom those reach that
name many. Arguments: a process outside. Each answer is a line."""

import errno, fcntl, os, select, signal, socket, struct, sys, threading

from calls import BY_HANDLE, QUEUE, TGKILL, THREAD_QUEUE, TKILL, call

DETAILS = struct.pack("iii", 0, 0, -1) + bytes(116)


def tell(what, attempt):
    try:
        attempt()
        print(what, "reached")
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def place(pid):
    fields = open(f"/proc/{pid}/stat", errors="replace").read().rsplit(") ", 1)[1].split()
    return int(fields[1]), int(fields[2])


def ways(pid, number):
    handle, folder = os.pidfd_open(pid), os.open(f"/proc/{pid}", os.O_RDONLY)
    details = struct.pack("i", number) + DETAILS[4:]
    yield "kill", lambda: os.kill(pid, number)
    yield "tkill", lambda: call(TKILL, pid, number)
    yield "tgkill", lambda: call(TGKILL, pid, pid, number)
    yield "queue", lambda: call(QUEUE, pid, number, details)
    yield "thread-queue", lambda: call(THREAD_QUEUE, pid, pid, number, details)
    yield "handle", lambda: call(BY_HANDLE, handle, number, 0, 0)
    yield "handle-queue", lambda: call(BY_HANDLE, handle, number, details, 0)
    yield "folder", lambda: call(BY_HANDLE, folder, number, 0, 0)


def attempt_all(outside):
    for name, pid in outside:
        for number in (0, signal.SIGKILL):
            for way, attempt in ways(pid, number):
                tell(f"{name} {way} {number}", attempt)


def by_file(pid):
    """Has the kernel send it: it may take the owner, but then nothing may arrive."""
    for arrange in (
        lambda fd: fcntl.fcntl(fd, fcntl.F_SETOWN, pid),
        lambda fd: fcntl.fcntl(fd, 15, struct.pack("ii", 1, pid)),
        lambda fd: fcntl.ioctl(fd, 0x8901, struct.pack("i", pid)),
        lambda fd: fcntl.ioctl(fd, 0x8902, struct.pack("i", pid)),
    ):
        ours, theirs = socket.socketpair()
        for step in (
            lambda: arrange(ours.fileno()),
            lambda: fcntl.fcntl(ours, 10, signal.SIGKILL),
            lambda: fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK),
        ):
            try:
                step()
            except OSError:
                pass
        theirs.send(b"x")
        select.select([ours], [], [])


def below(parent):
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if place(entry)[0] == parent:
                yield int(entry)
        except FileNotFoundError:
            pass


usher = os.getppid()
keeper = place(usher)[0]
beside = [pid for pid in below(keeper) if pid != usher]
other = int(sys.argv[1])
outside = [("usher", usher), ("keeper", keeper), ("other", other)] + [("beside", pid) for pid in beside]
assert beside, "there is a proxy"
print("attempts", len(outside) * 2 * 8 * 2)
attempt_all(outside)
thread = threading.Thread(target=attempt_all, args=[outside])
thread.start()
thread.join()
for _, pid in outside:
    by_file(pid)
group = place(other)[1]
tell("group", lambda: os.kill(-group, signal.SIGURG))
tell("nobody", lambda: os.kill(2**22 - 3, 0))

# Those that name many reach the session, each process once; boundary is in the command's group.
reader, writer = os.pipe()
children = []
for number in range(3):
    if not (child := os.fork()):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
        os.write(writer, b"r")
        signal.sigwait([signal.SIGURG])
        os.write(writer, b"s")
        os._exit(0)
    children.append(child)
for _ in children:
    assert os.read(reader, 1) == b"r"
heard = []
signal.signal(signal.SIGURG, lambda *_: heard.append("own"))
tell("own group", lambda: os.kill(0, signal.SIGURG))
print("heard", heard)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
print(os.read(reader, 9))

if not (child := os.fork()):
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(7)
assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
tell("everybody", lambda: os.kill(-1, signal.SIGCONT))
print("went on", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
