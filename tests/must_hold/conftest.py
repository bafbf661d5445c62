"""Helpers shared by the whole-miner tests."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.miner.http import Connection
from tests.miner.process import MinerProcess
from tests.miner.validator import Hotkey, Validator

type NewValidator = Callable[..., Awaitable[Validator]]


@pytest.fixture
async def new_validator() -> AsyncIterator[NewValidator]:
    """Make validators with a connection of their own: `await new_validator(miner, source=..., hotkey=...)`."""
    async with AsyncExitStack() as stack:

        async def make(miner: MinerProcess, source: str = "127.0.0.1", hotkey: Hotkey | None = None) -> Validator:
            return await stack.enter_async_context(await miner.validator(source, hotkey))

        yield make


@pytest.fixture
async def validator(miner: MinerProcess, new_validator: NewValidator) -> Validator:
    """A validator of the module's miner, with a session."""
    made = await new_validator(miner)
    await made.shake()
    return made


@pytest.fixture
async def connection(miner: MinerProcess) -> AsyncIterator[Connection]:
    """A plain connection to the module's miner."""
    async with await miner.connect() as opened:
        yield opened


class Honest:
    """An honest validator that asks on and on while others misbehave."""

    def __init__(self, validator: Validator, pause: float) -> None:
        self.validator = validator
        self.pause = pause
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Ask until told to stop; each refusal is kept, none ends the loop."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            started = loop.time()
            try:
                await asyncio.wait_for(self.validator.ask(f"question {len(self.seconds)}"), 30)
                self.seconds.append(loop.time() - started)
            except (AssertionError, OSError, TimeoutError) as error:
                self.failed.append(repr(error)[:300])
            try:
                await asyncio.wait_for(self._stop.wait(), self.pause)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """No more questions."""
        self._stop.set()

    @property
    def success(self) -> float:
        """The share of questions that were answered."""
        return len(self.seconds) / max(1, len(self.seconds) + len(self.failed))

    def quantile(self, share: float) -> float:
        """Seconds within which that share was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        if not self.seconds:
            return f"nothing answered, {len(self.failed)} failed: {self.failed[:3]}"
        return (
            f"{len(self.seconds)} answered, {len(self.failed)} failed, "
            f"p50 {statistics.median(self.seconds) * 1000:.0f} ms, "
            f"p99 {self.quantile(0.99) * 1000:.0f} ms, slowest {max(self.seconds) * 1000:.0f} ms {self.failed[:3]}"
        )
