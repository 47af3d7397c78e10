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


def across(server_family, server_address, client_family, address, is_connected):
    """A server that has every address, as most have, and a client of one family."""
    with socket.socket(server_family, socket.SOCK_DGRAM) as server, socket.socket(client_family, socket.SOCK_DGRAM) as client:
        server.settimeout(PATIENCE)
        client.settimeout(PATIENCE)
        server.bind((server_address, 0))
        place = (address, server.getsockname()[1])
        if is_connected:
            client.connect(place)
            client.send(b"question")
        else:
            client.sendto(b"question", place)
        said, sender = server.recvfrom(99)
        server.sendto(b"answer", sender)
        answer, source = client.recvfrom(99)
        return said.decode(), sender[0], answer.decode(), source[0], source[1] == place[1]


def neighbours():
    """A port of two addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.2", one.getsockname()[1]))
        return "both"


def itself():
    """A socket that is connected to itself, as a program finds that tries a port of its own too soon."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        own.send(b"to myself")
        return own.recv(99).decode()


told("itself", itself())
for is_connected in (False, True):
    for name, where in {
        "any v4": (socket.AF_INET, "0.0.0.0", socket.AF_INET, "127.0.0.1"),
        "any v6": (socket.AF_INET6, "::", socket.AF_INET6, "::1"),
        "any v6 from v4": (socket.AF_INET6, "::", socket.AF_INET, "127.0.0.1"),
        "any v6 mapped": (socket.AF_INET6, "::", socket.AF_INET6, "::ffff:127.0.0.1"),
        "any v4 mapped": (socket.AF_INET, "0.0.0.0", socket.AF_INET6, "::ffff:127.0.0.1"),
    }.items():
        told(f"{name} {is_connected}", across(*where, is_connected))
told("neighbours", neighbours())
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
