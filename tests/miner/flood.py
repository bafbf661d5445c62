"""A crowd of strangers in a process of its own, so that an honest client beside it is measured fairly.

`python -m tests.miner.flood` reads one JSON order from standard input and prints one JSON report.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from typing import Final

import msgspec
import uvloop

from tests.miner.http import Closed, Connection
from tests.miner.process import ROOT

BURSTS_A_SECOND: Final = 50


class Order(msgspec.Struct, kw_only=True):
    """What to send: each source sends the requests in turn, on one connection that it opens again when closed."""

    port: int
    requests: list[bytes]
    """Whole requests, as bytes on the wire."""
    sources: list[str]
    total: int
    rate: float = 0
    """Requests a second over all sources; 0 sends as fast as it goes."""


class Report(msgspec.Struct, kw_only=True):
    """What came of it."""

    sent: int = 0
    closed: int = 0
    seconds: float = 0
    statuses: dict[int, int] = {}


class Crowd:
    """All sources."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.closed = 0
        self.started = time.monotonic()

    def allowed(self) -> int:
        """How many may have been sent by now."""
        if not self.order.rate:
            return self.order.total
        return min(self.order.total, int((time.monotonic() - self.started) * self.order.rate))

    async def source(self, at: int, address: str) -> None:
        """One source, until all is sent."""
        connection: Connection | None = None
        while self.sent < self.order.total:
            if self.sent >= self.allowed():
                await asyncio.sleep(1 / BURSTS_A_SECOND)
                continue
            self.sent += 1
            at += 1
            try:
                if connection is None or connection.closed.done():
                    connection = await Connection.open(self.order.port, source=address)
                connection.send(self.order.requests[at % len(self.order.requests)])
                self.statuses[(await connection.reply()).status] += 1
            except (Closed, OSError):
                self.closed += 1
                connection = None
        if connection is not None:
            connection.close()

    async def run(self) -> Report:
        """All sources at once."""
        await asyncio.gather(*(self.source(at, address) for at, address in enumerate(self.order.sources)))
        return Report(
            sent=self.sent,
            closed=self.closed,
            seconds=time.monotonic() - self.started,
            statuses=dict(self.statuses),
        )


class Flood:
    """A flood running beside the test: start it, do other things, then `await report()`."""

    def __init__(self, process: asyncio.subprocess.Process, order: Order) -> None:
        self.process = process
        self.order = order

    @classmethod
    async def start(cls, order: Order) -> "Flood":
        """Start the process and give it its order."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.miner.flood")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order))
        process.stdin.close()
        return cls(process, order)

    async def report(self) -> Report:
        """Wait for the end."""
        assert self.process.stdout is not None
        text = await self.process.stdout.read()
        await self.process.wait()
        return msgspec.json.decode(text, type=Report, strict=False)

    async def stop(self) -> None:
        """End the process if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(uvloop.run(Crowd(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)).run()))
    )
