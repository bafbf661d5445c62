"""A long prompt beside short chats, on the real model: nobody waits long for it, and it can be stopped."""

import asyncio
import statistics
import time
from functools import partial
from itertools import pairwise

import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.engine import Engine
from app.backends.llama_local.order import Order, Piece
from tests.backends.llama_local.asking import PATIENCE, engine_of, until

CHATS = 7
TRIES = 3
LEAST_STEPS = 16
pytestmark = pytest.mark.slow


class Chat:
    """A request that writes on and on, with the time of every token."""

    def __init__(self, engine: Engine, prompt: list[int]) -> None:
        self.times: list[float] = []
        order = Order(prompt=prompt, max_tokens=engine.context_tokens - len(prompt))
        self.sequence = engine.submit(order, lambda _: self.times.append(time.monotonic()))

    def gaps(self, since: float) -> list[float]:
        times = [at for at in self.times if at >= since]
        return [after - before for before, after in pairwise(times)]


def endless(engine: Engine) -> list[int]:
    """A prompt that the model goes on with for a long time."""
    return engine.model.tokenize("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,")


async def gaps_of(chats: list[Chat], least: int) -> list[float]:
    """The times between the tokens of all chats from now on, until each has written `least`."""
    began = time.monotonic()
    while any(len(chat.gaps(began)) < least for chat in chats):
        assert time.monotonic() - began < PATIENCE
        assert all(chat.sequence.end is None for chat in chats), "a chat ended before the measuring did"
        await asyncio.sleep(0.02)
    return [gap for chat in chats for gap in chat.gaps(began)]


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


async def test_a_prompt_that_fills_the_context_holds_up_no_chat_and_is_stopped_at_once(
    backend: LlamaLocalBackend,
) -> None:
    """What is promised: the others' time between tokens at most doubles, and a cancel is obeyed within 0.5 s.

    The machine may do other things: so the chats alone are measured before and after, and the best of three tries
    counts.
    """
    engine = engine_of(backend)
    words = engine.model.tokenize(" ".join(f"word{number}" for number in range(3000)))
    filling = words[: engine.context_tokens - 64]
    assert len(filling) == engine.context_tokens - 64
    ratios: list[float] = []
    cancels: list[float] = []
    for turn in range(TRIES):
        chats = [Chat(engine, endless(engine)) for _ in range(CHATS)]
        long = None
        try:
            alone = await gaps_of(chats, LEAST_STEPS)
            pieces: list[Piece] = []
            long = engine.submit(Order(prompt=[turn + 100, *filling[1:]], max_tokens=32), pieces.append)
            await until(lambda: engine.running > CHATS)
            beside = await gaps_of(chats, LEAST_STEPS)
            assert not pieces, "the long prompt was read too soon to measure anything"
            fed = long.fed
            engine.cancel(long)
            cancels.append(await until(partial(bool, pieces)))
            assert long.end == "cancelled"
            alone += await gaps_of(chats, LEAST_STEPS)
        finally:
            for chat in chats:
                engine.cancel(chat.sequence)
            if long is not None:
                engine.cancel(long)
            await until(lambda: not engine.active)
        ratios.append(statistics.median(beside) / statistics.median(alone))
        print(  # noqa: T201
            f"\nbetween tokens: {statistics.median(alone) * 1e3:.0f} ms (p95 {percentile(alone, 95) * 1e3:.0f}) alone, "
            f"{statistics.median(beside) * 1e3:.0f} ms (p95 {percentile(beside, 95) * 1e3:.0f}) beside a long prompt "
            f"({fed} tokens read), cancel obeyed after {cancels[-1] * 1e3:.0f} ms"
        )
        if min(ratios) <= 2 and min(cancels) <= 0.5:
            return
    assert min(ratios) <= 2, ratios
    assert min(cancels) <= 0.5, cancels
