"""An origin of the soak that streams, converses and misbehaves: HTTP/1.1 without TLS.

/soak/ws-N speaks WebSocket and sends back what it gets, /soak/sse-N says five events, /soak/broken-N
breaks its answer off in one way or another; anything else is answered.
"""

import asyncio
import base64
import hashlib
import itertools
import socket
import struct

TURN = itertools.count()
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def converse(reader, writer, key):
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(length)))
        head = bytes([first]) + (bytes([length]) if length < 126 else b"\x7e" + struct.pack("!H", length))
        writer.write(head + data)
        if first & 15 == 8:
            return


async def misbehave(writer):
    """One way after the other: silence, half a head, half a body, a reset, and what is no HTTP."""
    turn = next(TURN) % 6
    said = [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha", b"SSH-2.0-surprise\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"][turn]
    writer.write(said)
    await writer.drain()
    if turn == 3:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            fields = dict(
                line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line
            )
            if path.startswith(b"/soak/ws-"):
                at = head.lower().index(b"sec-websocket-key: ") + 19
                return await converse(reader, writer, head[at:].split(b"\r\n")[0])
            if path.startswith(b"/soak/broken-"):
                return await misbehave(writer)
            await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if path.startswith(b"/soak/sse-"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n"
                )
                for number in range(5):
                    event = b"data: %d\n\n" % number
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                    await writer.drain()
                    await asyncio.sleep(0.05)
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 8765):
        await asyncio.Future()


asyncio.run(main())
