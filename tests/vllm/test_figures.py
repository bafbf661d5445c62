"""Tokens a second and latencies through the whole miner, for people to read; nothing here asserts a speed."""

import asyncio
import statistics
import time
from typing import Any

import pytest

from tests.vllm.conftest import NewValidator
from tests.vllm.server import VllmServer

ROUNDS = 3
TOKENS = 128


@pytest.mark.parametrize("at_once", [1, 4, 8])
async def test_tokens_a_second(new_validator: NewValidator, vllm: VllmServer, at_once: int) -> None:
    asking = [await new_validator() for _ in range(at_once)]
    vllm.wait_idle()
    seconds: list[float] = []

    async def ask(number: int) -> int:
        began = time.monotonic()
        text = f"Write a long story about the number {number}."
        answer: dict[str, Any] = await asking[number % at_once].ask(text, max_tokens=TOKENS)
        seconds.append(time.monotonic() - began)
        return int(answer["usage"]["completion_tokens"])

    await ask(0)
    seconds.clear()
    began, tokens = time.monotonic(), 0
    for turn in range(ROUNDS):
        tokens += sum(await asyncio.gather(*(ask(turn * at_once + at) for at in range(at_once))))
    rate = tokens / (time.monotonic() - began)
    print(f"\n{at_once} at once: {rate:.0f} tokens/s, p50 {statistics.median(seconds):.2f} s for {TOKENS} tokens")  # noqa: T201
    assert tokens > at_once * ROUNDS
