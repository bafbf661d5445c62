"""Huge, slow and packed bodies (threats 10, 11, 12)."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from tests.conftest import StartMiner
from tests.miner.canary import PROMPT
from tests.miner.http import LOCAL, Closed, Connection, encode
from tests.miner.process import MinerProcess, StubEngine, strange_address
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, Validator, challenge
from tests.must_hold.conftest import Honest, NewValidator

GIB2 = 2 << 30
ROUTES = [(CHALLENGE, 2 << 20), (KEY_EXCHANGE, 16 << 10), ("/inference", 2 << 20)]
ENCODINGS = [
    "gzip",
    "br",
    "deflate",
    "zstd",
    "compress",
    "x-gzip",
    "GZIP",
    "identity, gzip",
    "gzip, gzip",
    "aes128gcm",
    "?",
]


class Peak:
    """The most memory that a miner held while the block ran."""

    def __init__(self, miner: MinerProcess) -> None:
        self.miner = miner
        self.before = miner.rss()
        self.most = self.before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, self.miner.rss())

    @property
    def grown(self) -> float:
        """Megabytes over the start."""
        return (self.most - self.before) / 1e6

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def headers_for(path: str, validator: Validator) -> dict[str, str]:
    """What a caller with a session sends."""
    assert validator.session is not None
    if path == CHALLENGE:
        return validator.session.headers
    return {"Content-Type": "application/json", "validator-hotkey": validator.hotkey.ss58}


def pour(port: int, head: bytes, total: int) -> tuple[int, bytes]:
    """Send a chunked body of `total` bytes until the miner has had enough; gives what was sent and what came back."""
    block = (PROMPT.encode() + b"a" * (1 << 16))[: 1 << 16]
    chunk = b"%x\r\n%b\r\n" % (len(block), block)
    sent, answer = 0, b""
    with socket.create_connection((LOCAL, port), 10, (strange_address(), 0)) as sock:
        sock.sendall(head)
        try:
            while sent < total:
                sock.sendall(chunk)
                sent += len(block)
                sock.setblocking(False)  # noqa: FBT003
                with contextlib.suppress(BlockingIOError):
                    answer += sock.recv(1 << 16)
                sock.settimeout(10)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            while more := sock.recv(1 << 16):
                answer += more
    return sent, answer


@pytest.mark.parametrize(("path", "limit"), ROUTES)
async def test_threat_10_two_gigabytes_in_chunks(
    miner: MinerProcess, validator: Validator, path: str, limit: int
) -> None:
    headers = headers_for(path, validator) | {"Transfer-Encoding": "chunked"}
    head = encode("POST", path, None, headers, host="miner")
    with Peak(miner) as peak:
        started = time.monotonic()
        sent, answer = await asyncio.to_thread(pour, miner.port, head, GIB2)
    print(f"\n{path}: {sent / 1e6:.1f} MB in {time.monotonic() - started:.1f} s, {peak.grown:+.1f} MB, {answer[:40]!r}")  # noqa: T201
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert PROMPT.encode() not in answer
    assert peak.grown <= 8
    assert sent < GIB2 / 4, "the miner stops reading soon after the limit"
    assert sent >= limit
    assert (await validator.ask("and now a small one"))["response_text"]


@pytest.mark.parametrize(("path", "limit"), ROUTES)
async def test_threat_10_a_length_over_the_limit_is_refused_before_it_is_read(
    miner: MinerProcess, validator: Validator, path: str, limit: int
) -> None:
    for length in (limit + 1, GIB2, 10**18):
        headers = headers_for(path, validator) | {"Content-Length": str(length)}
        async with await miner.connect() as connection:
            connection.send(encode("POST", path, None, headers, host="miner"))
            reply = await asyncio.wait_for(connection.reply(), 2)
        assert reply.status == 413
        assert reply.seconds < 0.5
        assert reply.detail


async def test_threat_10_the_largest_allowed_challenge_is_answered(validator: Validator, engine: StubEngine) -> None:
    engine.behave()
    plain = challenge("a" * 700_000)
    assert (await validator.send(plain)).status == 200


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_threat_12_packed_bodies_are_refused(validator: Validator, encoding: str) -> None:
    for path, _ in ROUTES:
        headers = headers_for(path, validator) | {"Content-Encoding": encoding}
        reply = await validator.connection.request("POST", path, b"\x1f\x8b\x08\x00packed", headers)
        assert reply.status == 415, (path, encoding)
        assert "identity" in reply.detail


async def test_threat_12_identity_is_no_encoding(validator: Validator) -> None:
    session = validator.session
    assert session is not None
    headers = session.headers | {"Content-Encoding": "identity"}
    reply = await validator.connection.request("POST", CHALLENGE, session.seal(challenge("plain")), headers)
    assert reply.status == 200


class SlowCrowd:
    """Sockets that do as little as they can: slow headers, slow bodies, idle ones."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self.heads: list[Connection] = []
        self.bodies: list[Connection] = []
        self.idle: list[Connection] = []
        self.port = port
        self.headers = headers

    @property
    def all(self) -> list[Connection]:
        """Every one of them."""
        return [*self.heads, *self.bodies, *self.idle]

    async def gather(self, each: int) -> None:
        """Open them all."""
        for kind, first in (
            (self.heads, b"POST /fiber/challenge HTTP/1.1\r\nHost: miner\r\nX-Slow: "),
            (self.bodies, encode("POST", CHALLENGE, None, self.headers | {"Content-Length": "100000"}, host="miner")),
            (self.idle, b""),
        ):
            for at in range(each):
                connection = await Connection.open(self.port, source=f"127.7.{len(kind) % 200}.{at % 250 + 1}")
                if first:
                    connection.send(first)
                kind.append(connection)

    async def drip(self) -> None:
        """A byte a second each, until cancelled."""
        while True:
            for connection in (*self.heads, *self.bodies):
                with contextlib.suppress(Closed):
                    connection.send(b"a")
            await asyncio.sleep(1)

    @staticmethod
    def open_of(kind: list[Connection]) -> int:
        """How many the miner has not closed."""
        return sum(not connection.closed.done() for connection in kind)

    def close(self) -> None:
        """Hang up all."""
        for connection in self.all:
            connection.close()


@pytest.fixture(scope="module")
def limited(start_miner: StartMiner) -> MinerProcess:
    return start_miner(ENABLE_RATE_LIMITS="true")


@pytest.mark.slow
async def test_threat_11_a_thousand_slow_sockets(limited: MinerProcess, new_validator: NewValidator) -> None:
    """An honest validator, on new connections too, is served in under a second; the slow ones are put out."""
    known = await new_validator(limited, "127.8.0.1")
    session = await known.shake()
    fds = limited.fds()
    crowd = SlowCrowd(limited.port, session.headers)
    await crowd.gather(334)
    dripping = asyncio.create_task(crowd.drip())
    honest = Honest(known, 1.5)
    asking = asyncio.create_task(honest.run())
    fresh: list[float] = []
    left: dict[int, tuple[int, int, int]] = {}
    try:
        for second in range(1, 19):
            await asyncio.sleep(1)
            started = time.monotonic()
            newcomer = await new_validator(limited, f"127.8.1.{second}")
            assert (await asyncio.wait_for(newcomer.connection.request("GET", "/availability"), 5)).status == 200
            fresh.append(time.monotonic() - started)
            newcomer.close()
            left[second] = crowd.open_of(crowd.heads), crowd.open_of(crowd.bodies), crowd.open_of(crowd.idle)
    finally:
        dripping.cancel()
        honest.stop()
        await asking
        crowd.close()
    print(f"\nslow sockets: honest {honest}; new connections at most {max(fresh):.3f} s; still open {left}")  # noqa: T201
    assert honest.failed == []
    assert max(honest.seconds) < 1
    assert max(fresh) < 1
    heads, bodies, _ = left[18]
    assert heads == 0, "slow headers are put out within 10 s or so"
    assert bodies == 0, "slow bodies are put out within 10 s or so"
    await asyncio.sleep(1)
    assert limited.fds() <= fds + 20


async def test_threat_11_a_slow_body_is_told_so(miner: MinerProcess, validator: Validator) -> None:
    session = validator.session
    assert session is not None
    async with await miner.connect() as connection:
        started = time.monotonic()
        connection.send(encode("POST", CHALLENGE, None, session.headers | {"Content-Length": "4000"}, host="miner"))
        connection.send(b"gAAAA")
        reply = await asyncio.wait_for(connection.reply(), 15)
        assert reply.status == 408
        assert time.monotonic() - started < 12


ODD_FRAMES = {
    "5000-digit length": b"Content-Length: " + b"9" * 5000,
    "negative length": b"Content-Length: -1",
    "signed length": b"Content-Length: +5",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "another coding": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "a folded header": b"X-Folded: a\r\n b\r\nContent-Length: 5",
    "a header of 100 KB": b"X-Large: " + b"a" * 100_000,
    "1000 headers": b"\r\n".join(b"X-%d: a" % at for at in range(1000)),
    "an expectation": b"Expect: 200-maybe\r\nContent-Length: 5",
}


@pytest.mark.parametrize("name", ODD_FRAMES)
async def test_threat_13_odd_framing(miner: MinerProcess, validator: Validator, name: str) -> None:
    """Refused or hung up on; never a fault, and the next request on a new connection is served."""
    for path, _ in ROUTES:
        async with await miner.connect() as connection:
            connection.send(f"POST {path} HTTP/1.1\r\nHost: miner\r\n".encode() + ODD_FRAMES[name] + b"\r\n\r\n")
            connection.send(b"hello" if b"chunked" not in ODD_FRAMES[name] else b"zz\r\nhello\r\n0\r\n\r\n")
            try:
                reply = await asyncio.wait_for(connection.reply(), 15)
            except Closed:
                continue
            assert 400 <= reply.status < 500, (path, reply.status)
    assert (await validator.ask("still there?"))["response_text"]


@pytest.fixture
def reset_socket(miner: MinerProcess) -> Iterator[socket.socket]:
    """A socket that resets when closed."""
    sock = socket.create_connection((LOCAL, miner.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield sock
    sock.close()


async def test_threat_11_hanging_up_in_the_middle_of_a_body(
    miner: MinerProcess, validator: Validator, reset_socket: socket.socket
) -> None:
    session = validator.session
    assert session is not None
    reset_socket.sendall(
        encode("POST", CHALLENGE, None, session.headers | {"Content-Length": "4000"}, host="m") + b"gA"
    )
    await asyncio.sleep(0.1)
    reset_socket.close()
    assert (await validator.ask("still there?"))["response_text"]
    assert miner.alive


async def test_threat_10_bodies_of_strangers_are_not_kept(miner: MinerProcess, validator: Validator) -> None:
    """100 strangers hold 2 MB each just before its end, then each has its 401. The server's own buffers remain."""
    assert validator.session is not None
    size, most = (2 << 20) - 1024, 100
    fields = {"x-fiber-validator-hotkey-ss58": validator.hotkey.ss58, "x-fiber-symmetric-key-uuid": "0" * 36}
    head = f"POST {CHALLENGE} HTTP/1.1\r\nHost: m\r\nContent-Length: {size}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    with Peak(miner) as peak:
        strangers = [await asyncio.open_connection(LOCAL, miner.port) for _ in range(most)]
        for _, writer in strangers:
            writer.write(head.encode() + b"x" * (size - 1))
            await writer.drain()
        for reader, writer in strangers:
            writer.write(b"x")
            assert (await reader.readline()).split()[1] == b"401"
            writer.close()
    assert peak.grown < 130, peak.grown  # kept, they would be 210
    assert (await validator.ask("still there?"))["response_text"]
