"""Tokens a second and latencies through the whole miner, for people to read; nothing here asserts a speed."""

import asyncio
import statistics
import time

import pytest

from tests.miner.validator import Validator
from tests.vllm.conftest import NewValidator
from tests.vllm.server import VllmServer

ROUNDS = 3
TOKENS = 64


@pytest.mark.parametrize("at_once", [1, 4, 8])
async def test_tokens_a_second(new_validator: NewValidator, vllm: VllmServer, at_once: int) -> None:
    vllm.wait_idle()
    await (await new_validator()).ask("warm up", max_tokens=8)
    seconds: list[float] = []
    spent, tokens = 0.0, 0

    async def ask(validator: Validator, number: int) -> int:
        began = time.monotonic()
        answer = await validator.ask(f"Write a long story about the number {number}.", max_tokens=TOKENS)
        seconds.append(time.monotonic() - began)
        return int(answer["usage"]["completion_tokens"])

    for turn in range(ROUNDS):
        asking = [await new_validator() for _ in range(at_once)]  # a connection that was idle for long is closed
        began = time.monotonic()
        numbered = enumerate(asking, start=turn * at_once)
        tokens += sum(await asyncio.gather(*(ask(one, number) for number, one in numbered)))
        spent += time.monotonic() - began
    print(f"\n{at_once} at once: {tokens / spent:.0f} tokens/s, p50 {statistics.median(seconds):.2f} s for {TOKENS}")  # noqa: T201
    assert tokens > at_once * ROUNDS
