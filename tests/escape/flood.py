# Says too much, or too little, to whoever answers for the allowed host; tells what became of it as
# one JSON line. `flood.py KIND`. A second thread asks for a page all the while.
import json, select, socket, ssl, struct, sys, threading, time, urllib.request

HOST = 'allowed.test'
PATIENCE = 25
seen = {'kind': sys.argv[1], 'ended': 0, 'told': [], 'sent': 0}


def plain(host=HOST, port=80):
    return socket.create_connection((host, port), PATIENCE)


CONTEXT = ssl.create_default_context()


def secure(*protocols):
    CONTEXT.set_alpn_protocols(list(protocols))
    return CONTEXT.wrap_socket(plain(HOST, 443), server_hostname=HOST)


def frame(kind, flags, stream, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload


def field(name, value):
    assert len(name) < 127 and len(value) < 127
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def fields(path=b'/'):
    return (field(b':method', b'GET') + field(b':scheme', b'https')
            + field(b':authority', HOST.encode()) + field(b':path', path))


def h2(settings=b''):
    client = secure('h2')
    assert client.selected_alpn_protocol() == 'h2'
    client.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + frame(4, 0, 0, settings))
    return client


def note(data):
    """Notes what the whole frames said, and gives back what is left."""
    while len(data) >= 9:
        length = int.from_bytes(data[:3], 'big')
        if len(data) < 9 + length:
            break
        if data[3] == 7:
            seen['told'].append(int.from_bytes(data[13:17], 'big'))
        data = data[9 + length:]
    return data


def pour(client, pieces):
    """Writes until nobody takes it any more, and reads to the end. One thread does both: a TLS
    connection must not be read and written by two at once."""
    client.setblocking(False)
    pieces, waiting, data = iter(pieces), b'', b''
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        waiting = waiting or next(pieces, b'')
        select.select([client], [client] if waiting else [], [], 1)
        try:
            more = client.recv(65536)
            if not more:
                break
            data = note(data + more)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except (ConnectionError, ssl.SSLError):
            break
        try:
            sent = client.send(waiting) if waiting else 0
            seen['sent'] += sent
            waiting = waiting[sent:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except (OSError, ssl.SSLError):
            # Nobody takes it; what was said before is still to be read.
            pieces, waiting = iter(()), b''
    else:
        return
    seen['ended'] += 1


def answers(client):
    """The statuses of what comes until the end."""
    data = b''
    try:
        while more := client.recv(65536):
            data += more
        seen['ended'] += 1
    except ConnectionError:
        seen['ended'] += 1
    except TimeoutError:
        pass
    seen['told'] += [int(part[:3]) for part in data.split(b'HTTP/1.1 ')[1:]]


def crowd(begin, count=100):
    """So many that begin and do not go on."""
    clients = [begin() for _ in range(count)]
    for client in clients:
        answers(client)


def begun(text, port=80, host=HOST):
    def begin():
        client = plain(host, port)
        client.sendall(text)
        return client
    return begin


def resets():
    for at in range(1, 200000, 2):
        yield frame(1, 5, at, fields()) + frame(3, 0, at, struct.pack('>I', 8))


def bomb():
    client = h2()
    # One field of 4,000 bytes into the table, then it again and again, a byte each.
    big = b'\x40' + b'\x01x' + b'\x7f' + bytes([(4000 - 127) % 128 | 128, (4000 - 127) // 128]) + b'y' * 4000
    block = fields() + big + b'\xbe' * 12000
    pour(client, [frame(1, 5, 1, block)] + [frame(1, 5, at, fields() + b'\xbe' * 16000) for at in range(3, 400, 2)]
         + [frame(7, 0, 0, bytes(8))])


def held():
    # Windows of nothing: answers are asked for and never taken.
    client = h2(struct.pack('>HI', 4, 0))
    for at in range(1, 200, 2):
        client.sendall(frame(1, 5, at, fields(b'/size/1000000')))
    pour(client, ())


def pipelined():
    client = plain()
    request = b'GET /x HTTP/1.1\r\nHost: denied.test\r\n\r\n'
    count = 20000
    reader = threading.Thread(target=answers, args=(client,))
    reader.start()
    client.sendall(request * count + b'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' % HOST.encode())
    reader.join()
    told = seen['told']
    seen['told'] = [len(told), told[-1]]


def unread():
    # Answers that nobody reads: the proxy must stop taking questions.
    clients = []
    for _ in range(5):
        client = plain()
        client.settimeout(1)
        request = b'GET /size/200000 HTTP/1.1\r\nHost: %s\r\n\r\n' % HOST.encode()
        try:
            client.sendall(request * 200000)
        except TimeoutError:
            seen['ended'] += 1
        clients.append(client)


GET = b'GET / HTTP/1.1\r\nHost: %s\r\n' % HOST.encode()
POST = b'POST / HTTP/1.1\r\nHost: %s\r\n' % HOST.encode()
GREETING = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(40)
KINDS = {
    'slow_head': lambda: crowd(begun(GET)),
    'slow_body': lambda: crowd(begun(POST + b'Content-Length: 9\r\n\r\nslow')),
    'slow_chunk': lambda: crowd(begun(POST + b'Transfer-Encoding: chunked\r\n\r\n9\r\nslow')),
    'slow_greeting': lambda: crowd(begun(GREETING, 443)),
    'slow_connect': lambda: crowd(begun(b'CONNECT allowed.test:443 HTTP/1.1\r\n', 18080, '127.0.0.1')),
    'slow_preface': lambda: crowd(lambda: secure('h2')),
    'slow_fields': lambda: pour(h2(), [frame(1, 0, 1, fields())]),
    'long_head': lambda: (client := plain(), pour_plain(client, GET + b'X: ', b'y' * 65536)),
    'many_fields': lambda: (client := plain(), pour_plain(client, GET, b'X: y\r\n' * 1000)),
    'long_chunk_line': lambda: (client := plain(), pour_plain(client, POST + b'Transfer-Encoding: chunked\r\n\r\n1;', b'x' * 65536)),
    'long_trailers': lambda: (client := plain(), pour_plain(client, POST + b'Transfer-Encoding: chunked\r\n\r\n0\r\n', b'X: y\r\n' * 1000)),
    'pipelined': pipelined,
    'unread': unread,
    'resets': lambda: pour(h2(), resets()),
    'continuations': lambda: pour(h2(), [frame(1, 0, 1, fields())] + [frame(9, 0, 1, field(b'x', b'y' * 100) * 100)] * 2000),
    'empty_continuations': lambda: pour(h2(), [frame(1, 0, 1, fields())] + [frame(9, 0, 1) * 1000] * 25),
    'pings': lambda: pour(h2(), [frame(6, 0, 0, bytes(8)) * 1000] * 25),
    'settings': lambda: pour(h2(), [frame(4, 0, 0, struct.pack('>HI', 3, 9)) * 1000] * 25),
    'priorities': lambda: pour(h2(), [frame(2, 0, 1, bytes(5)) * 1000] * 25),
    'updates': lambda: pour(h2(), [frame(8, 0, 0, struct.pack('>I', 1)) * 1000] * 25),
    'overflow': lambda: pour(h2(), [frame(8, 0, 0, struct.pack('>I', 0x7fffffff)) * 2]),
    'empty_data': lambda: pour(h2(), [frame(1, 4, 1, fields())] + [frame(0, 0, 1) * 1000] * 25),
    'unknown': lambda: pour(h2(), [frame(0xfa, 0, 0, b'') * 1000] * 25),
    'bomb': bomb,
    'held': held,
}


def pour_plain(client, first, rest):
    reader = threading.Thread(target=answers, args=(client,))
    reader.start()
    try:
        client.sendall(first)
        for _ in range(1000):
            client.sendall(rest)
            seen['sent'] += len(rest)
    except OSError:
        pass
    reader.join()


class Neighbour(threading.Thread):
    def run(self):
        while not self.over.wait(0.02) or not self.served:
            began = time.monotonic()
            try:
                with urllib.request.urlopen('http://%s/neighbour' % HOST, timeout=PATIENCE) as answer:
                    assert b'this is' in answer.read()
                self.served += 1
            except Exception as error:
                self.failed = repr(error)
                return
            self.slowest = max(self.slowest, time.monotonic() - began)


neighbour = Neighbour()
neighbour.over, neighbour.served, neighbour.slowest, neighbour.failed = threading.Event(), 0, 0, None
neighbour.start()
began = time.monotonic()
KINDS[sys.argv[1]]()
seen['seconds'] = round(time.monotonic() - began, 2)
neighbour.over.set()
neighbour.join()
seen.update(served=neighbour.served, slowest=round(neighbour.slowest, 2), failed=neighbour.failed)
seen['told'] = seen['told'][:200]
print(json.dumps(seen), flush=True)
