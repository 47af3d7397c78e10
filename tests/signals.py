"""What signals do among the processes of one command: each thing told in a line that has to be the same
without boundary."""

import errno, os, signal, struct, subprocess, sys, threading, time

from calls import QUEUE, TGKILL, THREAD_QUEUE, TKILL, call


def tell(what, attempt):
    try:
        print(what, attempt())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def start(body):
    """A process in a group of its own, once it says that it is ready."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        try:
            body(lambda: os.write(writer, b"r"))
        finally:
            os._exit(99)
    os.close(writer)
    assert os.read(reader, 1) == b"r"
    os.close(reader)
    return child


def sleeper(ready):
    ready()
    while True:
        time.sleep(1000)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def waiter(ready):
    """Ends with the number of the one signal that it takes, and what came with it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    ready()
    info = signal.sigwaitinfo([signal.SIGUSR1, signal.SIGRTMIN + 3])
    kind = {0: 10, -1: 20, -6: 30}[info.si_code]
    os._exit(kind + (info.si_signo == signal.SIGUSR1))


def details(number, code=-1):
    return struct.pack("iii", number, 0, code) + bytes(116)


heard = []
signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
signal.raise_signal(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
call(QUEUE, os.getpid(), signal.SIGUSR1, details(signal.SIGUSR1))
call(TKILL, threading.get_native_id(), signal.SIGUSR1)
threads = [
    threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR1)),
    threading.Thread(target=lambda: call(TKILL, os.getpid(), signal.SIGUSR1)),
    threading.Thread(target=lambda: call(TGKILL, os.getpid(), os.getpid(), signal.SIGUSR1)),
    threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)),
]
for thread in threads:
    before = len(heard)
    thread.start()
    thread.join()
    until = time.monotonic() + 30
    while len(heard) == before and time.monotonic() < until:
        time.sleep(0.001)
print("own", len(heard))

for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
    child = start(sleeper)
    os.kill(child, number)
    print("ended by", ended(child))
tell("collected", lambda: os.kill(child, 0))

gone = os.fork()
if not gone:
    os._exit(0)
os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
tell("not collected", lambda: os.kill(gone, signal.SIGKILL))
print("ended by", ended(gone))

for name, send in (
    ("kill", lambda pid: os.kill(pid, signal.SIGUSR1)),
    ("real-time", lambda pid: os.kill(pid, signal.SIGRTMIN + 3)),
    ("queue", lambda pid: call(QUEUE, pid, signal.SIGUSR1, details(signal.SIGUSR1))),
    ("tkill", lambda pid: call(TKILL, pid, signal.SIGUSR1)),
    ("tgkill", lambda pid: call(TGKILL, pid, pid, signal.SIGUSR1)),
    ("thread-queue", lambda pid: call(THREAD_QUEUE, pid, pid, signal.SIGUSR1, details(signal.SIGUSR1))),
    ("handle", lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGUSR1)),
    ("group", lambda pid: os.killpg(pid, signal.SIGUSR1)),
):
    child = start(waiter)
    send(child)
    print(name, ended(child))

child = start(sleeper)
tell("no such signal", lambda: call(TKILL, child, 65))
tell("no such thread", lambda: call(TGKILL, child, os.getpid(), 0))
tell("no thread", lambda: call(TGKILL, 0, 0, 0))
tell("another's word", lambda: call(QUEUE, child, signal.SIGUSR1, details(signal.SIGUSR1, 0)))
tell("nothing to read", lambda: call(QUEUE, child, signal.SIGUSR1, 8))
tell("no handle", lambda: signal.pidfd_send_signal(0, 0))
handle = os.pidfd_open(child)
tell("empty", lambda: signal.pidfd_send_signal(handle, 0))
os.kill(child, signal.SIGSTOP)
print("stopped", os.WSTOPSIG(os.waitpid(child, os.WUNTRACED)[1]))
os.kill(child, signal.SIGCONT)
print("goes on", os.WIFCONTINUED(os.waitpid(child, os.WCONTINUED)[1]))
os.killpg(child, signal.SIGKILL)
print("ended by", ended(child))
tell("handle of nobody", lambda: signal.pidfd_send_signal(handle, 0))
tell("no group", lambda: os.killpg(child, 0))


def family(ready):
    """A group that signals itself: whoever is in it ends, and it itself is told."""
    reader, writer = os.pipe()
    for _ in range(5):
        if not os.fork():
            os.write(writer, b"r")
            time.sleep(1000)
    for _ in range(5):
        assert os.read(reader, 1) == b"r"
    ready()
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    os.kill(0, signal.SIGTERM)
    assert told == [1], told
    ends = [ended(-1) for _ in range(5)]
    os._exit(5 if ends == [-15] * 5 else 6)


print("itself", ended(start(family)))


def forker(ready):
    """Starts others as fast as it can, in the same group."""
    ready()
    while True:
        if not os.fork():
            os._exit(0)
        os.wait()


child = start(forker)
time.sleep(0.05)
os.killpg(child, signal.SIGKILL)
print("ended by", ended(child))
until = time.monotonic() + 30
while time.monotonic() < until:
    try:
        os.killpg(child, 0)
        time.sleep(0.01)
    except ProcessLookupError:
        print("nobody left")
        break

SHELL = r"""
sleep 1000 & kill -9 $!; wait $!; echo $?
timeout 0.2 sleep 1000; echo $?
timeout -s KILL 0.2 sh -c 'sleep 1000 & sleep 1000; true'; echo $?
timeout --foreground 0.2 sleep 1000; echo $?
(trap 'echo told; exit 4' USR1; kill -USR1 $BASHPID; echo not); echo $?
set -m
sleep 1000 | sleep 1000 & kill %1; wait %1; echo $?
sleep 1000 & kill -STOP %%; wait -f %% 2>/dev/null & kill -CONT %1; kill -INT %1; wait %1; echo $?
kill -0 $$; echo $?
sh -c 'kill -TERM 0'; echo $?
sh -c 'kill -ABRT $$'; echo $?
"""
shell = subprocess.run(["bash", "-c", SHELL], capture_output=True, text=True)
print(shell.stdout, shell.returncode)
print("end")
