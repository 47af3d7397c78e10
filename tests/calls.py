"""System calls that signal and that Python has no function for."""

import ctypes, platform

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": (200, 234, 129, 297, 424), "aarch64": (130, 131, 138, 240, 424)}
TKILL, TGKILL, QUEUE, THREAD_QUEUE, BY_HANDLE = NUMBERS[platform.machine()]


def call(number, *arguments):
    words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    if LIBC.syscall(ctypes.c_long(number), *words) < 0:
        raise OSError(ctypes.get_errno(), "")
