"""Runs a command as where no socket may be transparent: a filter refuses the option."""
import ctypes
import os
import struct
import sys

ERRNO, ALLOW, NOT_PERMITTED = 0x50000, 0x7FFF0000, 1
CODE = [
    (0x20, 0, 0, 0),  # the call's number
    (0x15, 0, 7, 54 if os.uname().machine == "x86_64" else 208),  # setsockopt
    (0x20, 0, 0, 24),  # its level
    (0x15, 0, 2, 0),  # IPv4
    (0x20, 0, 0, 32),
    (0x15, 4, 3, 19),  # IP_TRANSPARENT
    (0x15, 0, 2, 41),  # IPv6
    (0x20, 0, 0, 32),
    (0x15, 1, 0, 75),  # IPV6_TRANSPARENT
    (0x06, 0, 0, ALLOW),
    (0x06, 0, 0, ERRNO | NOT_PERMITTED),
]
filters = b"".join(struct.pack("HBBI", *one) for one in CODE)
place = ctypes.create_string_buffer(filters, len(filters))
program = ctypes.create_string_buffer(struct.pack("HP", len(CODE), ctypes.addressof(place)))
prctl = ctypes.CDLL(None).prctl
word = ctypes.c_ulong
assert prctl(38, word(1), word(0), word(0), word(0)) == 0, "no new privileges"
assert prctl(22, word(2), ctypes.byref(program), word(0), word(0)) == 0, "the filter"
os.execvp(sys.argv[1], sys.argv[1:])
