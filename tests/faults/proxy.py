"""A proxy before an engine that fails in twelve ways, each at any of three moments of a chat completion.

It works on bytes, so any engine can stand behind it. `queued` fails a request as soon as it was read (it had waited in
the miner's queue), `prompt` a while later but before the first byte of an answer, `generation` after some tokens. In a
running answer a status can't come any more, so there those faults are what a gateway then writes into the stream.
"""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Self

from tests.miner.http import LOCAL
from tests.stubs.engine import ENGINE_SECRET, STREAM_END, STREAM_HEAD, http, http_chunk

type Phase = Literal["queued", "prompt", "generation"]

PHASES: Final[tuple[Phase, ...]] = ("queued", "prompt", "generation")
PROMPT_SECONDS: Final = 0.2
EVENTS_BEFORE: Final = 6
MEBIBYTE: Final = 1024 * 1024
CHAT: Final = b"POST /v1/chat/completions"
RESET: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"


def event(text: str) -> bytes:
    """One chunk with some text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return (
        b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


def error_event(status: int) -> bytes:
    """What stands in the stream when an engine or a gateway fails behind it."""
    return http_chunk(b"data: " + json.dumps({"error": {"message": ENGINE_SECRET, "code": status}}).encode() + b"\n\n")


class Failing:
    """One connection at the moment when its fault begins."""

    def __init__(self, proxy: "FaultProxy", writer: asyncio.StreamWriter, *, begun: bool) -> None:
        self.proxy = proxy
        self.writer = writer
        self.begun = begun

    async def send(self, data: bytes) -> None:
        """Write and wait until it is gone."""
        self.writer.write(data)
        await self.writer.drain()

    async def begin(self) -> None:
        """The answer's head, unless it was sent before."""
        if not self.begun:
            await self.send(STREAM_HEAD)

    def reset(self) -> None:
        """Tear the connection down with a RST."""
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


async def refuse(one: Failing) -> None:
    """The port is closed, and who is connected is thrown out."""
    await one.proxy.shut()


async def reset(one: Failing) -> None:
    one.reset()


async def stall(_: Failing) -> None:
    """Silence."""
    await asyncio.sleep(3600)


async def drip(one: Failing) -> None:
    """A byte a second."""
    await one.begin()
    for byte in event("drip"):
        await one.send(http_chunk(bytes([byte])))
        await asyncio.sleep(1)


async def garbage(one: Failing) -> None:
    """What is neither HTTP nor a chunk of it."""
    await one.send(random.Random(7).randbytes(4096) + b"\r\n\r\n")


async def half_json(one: Failing) -> None:
    """An event that stops in its middle, in a body that ends well."""
    await one.begin()
    half = event("half")
    await one.send(http_chunk(half[: len(half) // 2]) + STREAM_END)


async def error_500(one: Failing) -> None:
    await one.send(error_event(500) + STREAM_END if one.begun else http(500, ENGINE_SECRET.encode(), "text/plain"))


async def wrong_model(one: Failing) -> None:
    body = json.dumps({"error": {"message": f"The model does not exist. {ENGINE_SECRET}", "code": 404}}).encode()
    await one.send(error_event(404) + STREAM_END if one.begun else http(404, body))


async def die(one: Failing) -> None:
    """The end of the connection in the middle of the answer."""
    await one.begin()


async def huge_line(one: Failing) -> None:
    """An event without an end."""
    await one.begin()
    await one.send(http_chunk(b'data: {"choices": [{"delta": {"content": "'))
    for _ in range(64):
        await one.send(http_chunk(b"a" * MEBIBYTE))
        await asyncio.sleep(0.02)


async def bad_shape(one: Failing) -> None:
    """JSON, but no chat completion."""
    await one.begin()
    await one.send(http_chunk(b'data: {"choices": "none"}\n\ndata: [[]]\n\ndata: [DONE]\n\n') + STREAM_END)


async def redirect(one: Failing) -> None:
    """Somewhere else; in a running answer, a head where a chunk was due."""
    await one.send(http(307, b"", "text/plain", "location: /redirected\r\n"))


FAULTS: Final[dict[str, Callable[[Failing], Awaitable[None]]]] = {
    fault.__name__: fault
    for fault in (
        refuse, reset, stall, drip, garbage, half_json, error_500, wrong_model, die, huge_line, bad_shape, redirect,
    )
}  # fmt: skip


class FaultProxy:
    """Listens on a port of its own and passes everything on, but for the fault that is armed."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.fault = ""
        self.phase: Phase = "queued"
        self.open = 0
        """Connections of callers."""
        self.failed = 0
        """Chat completions that met the armed fault."""
        self.followed_redirects = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def base_url(self) -> str:
        """What goes into VLLM_API_BASE."""
        return f"http://{LOCAL}:{self.port}/v1"

    async def arm(self, fault: str, phase: Phase) -> None:
        """Fail chat completions from now on; `refuse` in no running request closes the port at once."""
        self.fault, self.phase, self.failed = fault, phase, 0
        if fault == "refuse" and phase == "queued":
            self.failed += 1
            await self.shut()

    async def mend(self) -> None:
        """Pass everything on again."""
        self.fault = ""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, LOCAL, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Close the port and reset all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            Failing(self, writer, begun=True).reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side hung up
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; True when the connection can be used on."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        request = head + await reader.readexactly(length)
        self.followed_redirects += b"/redirected" in head
        fault = self.fault if head.startswith(CHAT) else ""
        work = asyncio.create_task(self._answer(request, writer, fault))
        gone = asyncio.create_task(reader.read(1))  # nobody pipelines here: bytes or not, the caller is through
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        # Read on only when nothing was read, which a caller who waits for the answer guarantees.
        for task in (work, gone):
            if not task.done():
                task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
        return work.done() and not work.cancelled() and work.exception() is None and work.result()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter, fault: str) -> bool:
        if fault and self.phase != "generation":
            await asyncio.sleep(PROMPT_SECONDS if self.phase == "prompt" else 0)
            return await self._fail(fault, writer, begun=False)
        upstream, sender = await asyncio.open_connection(LOCAL, self.upstream)
        try:
            sender.write(request)
            seen = 0
            tail = b""
            while data := await upstream.read(65536):
                writer.write(data)
                await writer.drain()
                seen += data.count(b"data: ")
                if fault and seen >= EVENTS_BEFORE:
                    return await self._fail(fault, writer, begun=True)
                tail = (tail + data)[-256:]
                if tail.endswith(STREAM_END) or (seen == 0 and _whole(data)):
                    return True
            return False
        finally:
            sender.close()

    async def _fail(self, fault: str, writer: asyncio.StreamWriter, *, begun: bool) -> bool:
        self.failed += 1
        await FAULTS[fault](Failing(self, writer, begun=begun))
        return fault == "redirect" and not begun  # who follows it comes on the same connection

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()


def _whole(data: bytes) -> bool:
    """Whether this is a whole response with a known length, as the stub writes them in one go."""
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(lengths) and len(body) >= int(lengths[0][15:])
