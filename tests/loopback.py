"""Servers and clients of the command's own on loopback, in both families.

Each line is a thing and what became of it, and has to be the same behind every jail.
"""

import errno
import socket
import sys

ADDRESSES = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}
PATIENCE = 10


def datagrams(family, address, is_bound, is_server_connected):
    """A client that is connected asks, and hears the answer of a server that sends to its address."""
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.settimeout(PATIENCE)
        client.settimeout(PATIENCE)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, 0))
        if is_bound:
            client.bind((address, 0))
        client.connect(server.getsockname())
        client.send(b"question")
        said, sender = server.recvfrom(99)
        assert said == b"question" and sender[:2] == client.getsockname()[:2], (said, sender)
        if is_server_connected:
            # One socket for each client, as servers of QUIC and DTLS have them.
            with socket.socket(family, socket.SOCK_DGRAM) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                own.bind(server.getsockname())
                own.connect(sender)
                own.send(b"answer")
        else:
            server.sendto(b"answer", sender)
        return client.recv(99).decode()


def connection(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect((address, port))
        except OSError as error:
            return errno.errorcode[error.errno]
        return "connected"


def told(name, outcome):
    print(name, outcome, flush=True)


for version, (family, address) in ADDRESSES.items():
    for is_bound in (False, True):
        for is_server_connected in (False, True):
            outcome = datagrams(family, address, is_bound, is_server_connected)
            told(f"udp v{version} {is_bound} {is_server_connected}", outcome)
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        told(f"listens v{version}", connection(family, address, port))
    told(f"closed v{version}", connection(family, address, port))
    for port in map(int, sys.argv[1:]):
        told(f"host {port} v{version}", connection(family, address, port))
