"""What the test of tests/escape/twins.rs runs: it makes a socket of its own that is known by what another is.

Its words: the folder with both trees, and the other's socket. A line each for what it tries.
"""

import errno
import fcntl
import os
import socket
import struct
import sys
import time

SUBVOL_CREATE = 0x5000940E
folder, foreign = sys.argv[1:]


def connect(what, place):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(place)
            client.sendall(b"from inside")
            print(what, "done", client.recv(99).decode(), flush=True)
        except OSError as error:
            print(what, errno.errorcode.get(error.errno, error), flush=True)


def serve(place):
    server = socket.socket(socket.AF_UNIX)
    server.bind(place)
    server.listen()
    if os.fork() == 0:
        while True:
            client, _ = server.accept()
            # Who knocks says nothing.
            if client.recv(99):
                client.sendall(b"own")


parent = os.open(folder, os.O_RDONLY)
fcntl.ioctl(parent, SUBVOL_CREATE, bytearray(struct.pack("q4088s", 0, b"tree")))
tree = os.path.join(folder, "tree")
print("ready", flush=True)
open("tmp/gate").read()
wanted = os.stat(foreign).st_ino
connect("plain", foreign)
number = 0
while number < wanted - 1:
    file = os.open(os.path.join(tree, f"{time.monotonic_ns()}"), os.O_CREAT | os.O_WRONLY)
    number = os.fstat(file).st_ino
    os.close(file)
serve(os.path.join(tree, "own"))
print("twins", os.stat(os.path.join(tree, "own")).st_ino == wanted, flush=True)
connect("foreign", foreign)
connect("own", os.path.join(tree, "own"))
connect("again", os.path.join(tree, "own"))
