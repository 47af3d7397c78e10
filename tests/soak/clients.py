"""The clients of the soak, one thread each, until a file says that it is enough.

Every attempt has a number of its own, in its path where there is one, and a line in the results:
kind, number, `ok`, `denied`, `cut` (an answer began, and broke off) or `failed` (no answer), and when
that was so.
"""

import base64
import concurrent.futures
import http.client
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

FOLDER, PAUSE = sys.argv[1], float(sys.argv[2])
PATIENCE = 20
RESULTS = open(f"{FOLDER}/logs/soak-results", "w", buffering=1)
LOCK = threading.Lock()


def over():
    return os.path.exists(f"{FOLDER}/soak-is-over")


class Cut(Exception):
    """An answer began and has no end."""


def answered(connection, method, path, body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    try:
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Cut() from error
    return answer, content


def judged(answer):
    if answer.status == 403 and answer.getheader("X-Boundary-Denied"):
        return "denied"
    return "ok" if answer.status == 200 else f"status-{answer.status}"


class H1:
    """HTTP/1.1 in TLS, on a connection that is kept."""

    def __init__(self):
        self.connection = None

    def __call__(self, number):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("allowed.test", timeout=PATIENCE)
        connection, self.connection = self.connection, None
        answer, _ = answered(connection, "GET", f"/soak/h1-{number}")
        self.connection = connection
        return judged(answer)


def plain(host, port, kind):
    def ask(number):
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            answer, content = answered(connection, "GET", f"/soak/{kind}-{number}")
            outcome = judged(answer)
            if kind == "sse" and outcome == "ok":
                assert content.count(b"data: ") == 5, content
            return outcome
        finally:
            connection.close()

    return ask


def upload(number):
    connection = http.client.HTTPSConnection("allowed.test", timeout=PATIENCE)
    try:
        return judged(answered(connection, "POST", f"/soak/up-{number}", b"x" * 300_000)[0])
    finally:
        connection.close()


class H2:
    """HTTP/2 in TLS, on a connection that is kept for twenty requests."""

    def __init__(self):
        import httpx

        self.httpx, self.client, self.left = httpx, None, 0

    def __call__(self, number):
        if self.left == 0:
            if self.client:
                self.client.close()
            self.client, self.left = self.httpx.Client(http2=True, timeout=PATIENCE), 20
        self.left -= 1
        try:
            answer = self.client.get(f"https://allowed.test:9443/soak/h2-{number}")
        except Exception:
            self.left = 0
            raise
        assert answer.http_version == "HTTP/2"
        return "ok" if answer.status_code == 200 else f"status-{answer.status_code}"


def dial(port):
    """One connection, to one of the addresses: a second would be a second attempt."""
    found = socket.getaddrinfo("allowed.test", port, socket.AF_INET, socket.SOCK_STREAM)
    return socket.create_connection(found[0][4], PATIENCE)


def websocket(number):
    stream = dial(8765)
    with stream:
        key = base64.b64encode(os.urandom(16)).decode()
        stream.sendall(
            f"GET /soak/ws-{number} HTTP/1.1\r\nHost: allowed.test:8765\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        reader = stream.makefile("rb")
        status = reader.readline().split(b" ")[1]
        while reader.readline() != b"\r\n":
            pass
        if status != b"101":
            return f"status-{status.decode()}"
        try:
            for text in (b"hello", b"x" * 100, b"y" * 20_000):
                length = bytes([128 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack("!H", len(text))
                stream.sendall(b"\x82" + length + b"\0\0\0\0" + text)
                assert reader.read(len(length) + 1 + len(text)).endswith(text)
        except (OSError, AssertionError) as error:
            raise Cut() from error
    return "ok"


class Grpc:
    """Calls that stream both ways."""

    def __init__(self):
        import grpc

        self.grpc = grpc
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel("allowed.test:50051", options)

    def __call__(self, number):
        call = self.channel.stream_stream(f"/soak/grpc-{number}")
        try:
            said = [b"a" * 10, b"b" * 1000]
            assert list(call(iter(said), timeout=PATIENCE)) == said
        except self.grpc.RpcError:
            return "failed"
        return "ok"


def tcp(number):
    with dial(7) as stream:
        said = f"number {number}".encode() * 10
        stream.sendall(said)
        heard = b""
        while len(heard) < len(said):
            piece = stream.recv(4096)
            if not piece:
                raise Cut()
            heard += piece
    return "ok"


def question(number):
    name = f"n{number % 50}.allowed.test"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(("192.0.2.53", 53))
        asked = struct.pack("!HHHHHH", number & 0xFFFF, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
        asking.send(asked)
        answer = asking.recv(4096)
        assert answer[:2] == asked[:2] and answer[6:8] == b"\0\1", answer
    return "ok"


def datagram(_):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        stray.sendto(b"out", ("203.0.113.66", 9999))
    return "left"


def short(number):
    """A program that lives for one request."""
    url = f"http://allowed.test/soak/short-{number}"
    line = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", str(PATIENCE), url]
    done = subprocess.run(line, capture_output=True, text=True)
    return "ok" if done.stdout == "200" else f"status-{done.stdout}"


def live(kind, ask):
    number = 0
    while not over():
        number += 1
        try:
            outcome = ask(number)
        except PermissionError:
            outcome = "denied"
        except Cut:
            outcome = "cut"
        except Exception as error:
            outcome = "failed"
            if isinstance(error, (AssertionError, TypeError, NameError, AttributeError)):
                print(f"{kind} {number}: {error!r}", file=sys.stderr, flush=True)
        with LOCK:
            RESULTS.write(f"{kind} {number} {outcome} {time.time():.3f}\n")
        time.sleep(PAUSE)


KINDS = {
    "h1": H1(),
    "h2": H2(),
    "up": upload,
    "ws": websocket,
    "sse": plain("allowed.test", 8765, "sse"),
    "grpc": Grpc(),
    "tcp": tcp,
    "dns": question,
    "broken": plain("allowed.test", 8765, "broken"),
    "refused": plain("denied.test", 80, "refused"),
    "stray": datagram,
    "short": short,
}
with concurrent.futures.ThreadPoolExecutor(len(KINDS)) as pool:
    running = [pool.submit(live, kind, ask) for kind, ask in KINDS.items()]
    print("ready", flush=True)
    for thread in running:
        thread.result()
open(f"{FOLDER}/logs/soak-done", "w").close()
print("done", flush=True)
# What boundary still holds is counted while there is a session.
while not os.path.exists(f"{FOLDER}/soak-is-counted"):
    time.sleep(0.05)
