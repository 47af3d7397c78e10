"""Runs a command as where the kernel lacks something: a filter of system calls refuses it.

`landlock`: its system calls are not there. `transparency`: no socket may be transparent. `killable`:
whoever waits for an answer to a system call is woken by every signal (before Linux 5.19). `turns`: who
asks and who answers take no turns (before 6.6). `rights`: no unix socket keeps descriptors off (before 6.16).
`users`: nobody makes a user namespace, as in a container.
Several at once: `killable,turns`.
"""
import ctypes
import os
import struct
import sys

ALLOW, NOT_PERMITTED, NO_SUCH_CALL = 0x7FFF0000, 0x50000 | 1, 0x50000 | 38
INVALID = 0x50000 | 22
IS_X86 = os.uname().machine == "x86_64"
SET_OPTION, SECCOMP, IOCTL, UNSHARE = (54, 317, 16, 272) if IS_X86 else (208, 277, 29, 97)
CODE = {
    "landlock": [
        (0x20, 0, 0, 0),  # the call's number
        (0x35, 0, 2, 444),  # landlock_create_ruleset
        (0x25, 1, 0, 446),  # landlock_restrict_self
        (0x06, 0, 0, NO_SUCH_CALL),
        (0x06, 0, 0, ALLOW),
    ],
    "transparency": [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 7, SET_OPTION),
        (0x20, 0, 0, 24),  # its level
        (0x15, 0, 2, 0),  # IPv4
        (0x20, 0, 0, 32),
        (0x15, 4, 3, 19),  # IP_TRANSPARENT
        (0x15, 0, 2, 41),  # IPv6
        (0x20, 0, 0, 32),
        (0x15, 1, 0, 75),  # IPV6_TRANSPARENT
        (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, NOT_PERMITTED),
    ],
    "killable": [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 3, SECCOMP),
        (0x20, 0, 0, 24),  # its flags
        (0x45, 0, 1, 1 << 5),  # SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        (0x06, 0, 0, INVALID),
        (0x06, 0, 0, ALLOW),
    ],
    "rights": [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 3, SET_OPTION),
        (0x20, 0, 0, 32),  # its option
        (0x15, 0, 1, 83),  # SO_PASSRIGHTS
        (0x06, 0, 0, INVALID),
        (0x06, 0, 0, ALLOW),
    ],
    "turns": [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 3, IOCTL),
        (0x20, 0, 0, 24),  # its request
        (0x15, 0, 1, 0x40082104),  # SECCOMP_IOCTL_NOTIF_SET_FLAGS
        (0x06, 0, 0, INVALID),
        (0x06, 0, 0, ALLOW),
    ],
    "users": [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 3, UNSHARE),
        (0x20, 0, 0, 16),  # its flags
        (0x45, 0, 1, 0x10000000),  # CLONE_NEWUSER
        (0x06, 0, 0, NOT_PERMITTED),
        (0x06, 0, 0, ALLOW),
    ],
}
prctl = ctypes.CDLL(None).prctl
word = ctypes.c_ulong
assert prctl(38, word(1), word(0), word(0), word(0)) == 0, "no new privileges"
for lacking in sys.argv[1].split(","):
    code = CODE[lacking]
    filters = b"".join(struct.pack("HBBI", *one) for one in code)
    place = ctypes.create_string_buffer(filters, len(filters))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(place)))
    assert prctl(22, word(2), ctypes.byref(program), word(0), word(0)) == 0, "the filter"
os.execvp(sys.argv[2], sys.argv[2:])
