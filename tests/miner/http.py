"""A small HTTP/1.1 client on raw asyncio: cheap enough to measure with, low enough to misbehave with.

`Connection` is one keep-alive connection from a source address of the caller's choice (any 127.x.y.z, so that one
machine can be a hundred strangers). Requests on one connection go one after another.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, cast

import msgspec

LOCAL: Final = "127.0.0.1"


class Reply(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:  # noqa: ANN401
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def detail(self) -> str:
        """The error's text; fails unless the body is the one error shape all routes share."""
        body: Any = self.json()
        assert isinstance(body, dict), body
        detail: Any = body.get("detail")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        assert isinstance(detail, str), body
        return detail


class Closed(ConnectionError):
    """The server closed the connection before a whole reply was there."""


class ReplyReader:
    """Takes a connection's bytes and gives whole replies."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.eof = False

    def take(self) -> tuple[int, dict[str, str], bytes] | None:
        """The next whole reply, or None; interim 1xx replies are skipped."""
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ", 2)[1])
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if status < 200:
                del self.buffer[: end + 4]
                continue
            found = self._body(end + 4, headers)
            if found is None:
                return None
            body, stop = found
            del self.buffer[:stop]
            return status, headers, body
        return None

    def _body(self, start: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked(start)
        if "content-length" not in headers:
            return (bytes(self.buffer[start:]), len(self.buffer)) if self.eof else None
        stop = start + int(headers["content-length"])
        return (bytes(self.buffer[start:stop]), stop) if len(self.buffer) >= stop else None

    def _chunked(self, start: int) -> tuple[bytes, int] | None:
        parts: list[bytes] = []
        while (line := self.buffer.find(b"\r\n", start)) >= 0:
            size = int(self.buffer[start:line].split(b";")[0], 16)
            start = line + 2 + size + 2
            if len(self.buffer) < start:
                return None
            if not size:
                return b"".join(parts), start
            parts.append(bytes(self.buffer[line + 2 : line + 2 + size]))
        return None


class Connection(asyncio.Protocol):
    """One connection; `await Connection.open(port)`."""

    def __init__(self, port: int, keep: Callable[[Reply], None] | None = None) -> None:
        self.port = port
        self.keep = keep
        self.reader = ReplyReader()
        self.transport: asyncio.Transport | None = None
        self.waiting: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self.closed = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        source: str = LOCAL,
        host: str = LOCAL,
        keep: Callable[[Reply], None] | None = None,
    ) -> Self:
        """Connect from `source`; `keep` is shown every reply that is not a 200."""
        loop = asyncio.get_running_loop()
        local = (source, 0) if source != LOCAL else None
        _, connection = await loop.create_connection(lambda: cls(port, keep), host, port, local_addr=local)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Bytes of a reply."""
        self.reader.buffer += data
        self._give()

    def eof_received(self) -> None:
        """The server is done."""
        self.reader.eof = True
        self._give()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self.reader.eof = True
        self._give()
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(Closed(f"closed before the reply: {exc!r}"))
        if not self.closed.done():
            self.closed.set_result(time.monotonic())

    def _give(self) -> None:
        if self.waiting is not None and not self.waiting.done() and (reply := self.reader.take()) is not None:
            self.waiting.set_result(reply)

    def send(self, data: bytes) -> None:
        """Write raw bytes."""
        if self.transport is None or self.transport.is_closing():
            raise Closed("closed before the request")
        self.transport.write(data)

    async def reply(self) -> Reply:
        """Wait for the next reply."""
        started = time.perf_counter()
        self.waiting = asyncio.get_running_loop().create_future()
        if self.transport is None or self.transport.is_closing():
            self.reader.eof = True
        self._give()
        if self.closed.done() and not self.waiting.done():
            raise Closed("closed before the reply")
        try:
            status, headers, body = await self.waiting
        finally:
            self.waiting = None
        reply = Reply(status, headers, body, time.perf_counter() - started)
        if self.keep is not None and status != 200:
            self.keep(reply)
        return reply

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and wait for its reply."""
        self.send(encode(method, path, body, headers, host=f"{LOCAL}:{self.port}"))
        return await self.reply()

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.closed), 1)


def encode(method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None, *, host: str) -> bytes:
    """One request as bytes."""
    head = [f"{method} {path} HTTP/1.1"]
    given = {name.lower() for name in headers or ()}
    if "host" not in given:
        head.append(f"Host: {host}")
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        head.append(f"Content-Length: {len(body)}")
    head += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b"")


async def once(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    source: str = LOCAL,
    keep: Callable[[Reply], None] | None = None,
) -> Reply:
    """One request on a connection of its own."""
    async with await Connection.open(port, source=source, keep=keep) as connection:
        return await connection.request(method, path, body, headers)


def post_whatever_happens(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Post and read the reply even where the server closes before it has read the body, as it does on a 413."""
    reader = ReplyReader()
    started = time.perf_counter()
    with socket.create_connection((LOCAL, port), 10) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(encode("POST", path, body, headers, host=LOCAL))
        with contextlib.suppress(OSError):
            while (found := reader.take()) is None and (data := sock.recv(1 << 16)):
                reader.buffer += data
            if found is not None:
                return Reply(*found, time.perf_counter() - started)
    raise Closed("closed before the reply")
