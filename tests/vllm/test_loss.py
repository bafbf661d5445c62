"""A real vLLM that is killed while it writes, and comes back (design decision 11)."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Reply
from tests.miner.process import MinerProcess, fetch
from tests.miner.validator import Validator, challenge
from tests.vllm.server import VllmServer

AT_ONCE, NOT_READY_WITHIN, READY_WITHIN = 2, 30, 15
OK, UNAVAILABLE = 200, 503
STORY = "Write a very long story about every number from 1 to 5000, one after another."


async def not_ready(miner: MinerProcess) -> float:
    """Seconds until challenges are refused."""
    began = time.monotonic()
    while time.monotonic() - began < NOT_READY_WITHIN:
        body: Any = await asyncio.to_thread(lambda: json.loads(fetch(miner.port, "/availability")[2]))
        if body["available"] is False:
            assert fetch(miner.port, "/readyz")[0] == UNAVAILABLE
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise AssertionError(f"still available after {NOT_READY_WITHIN} s")


async def killed_while_writing(miner: MinerProcess, vllm: VllmServer, kill: Callable[[], None]) -> list[Reply]:
    """Three challenges in mid-generation; what came of them within the time that is allowed."""
    asking: list[Validator] = [await miner.validator() for _ in range(3)]
    for one in asking:
        await one.shake()
    sent = [asyncio.create_task(one.send(challenge(STORY))) for one in asking]
    until = time.monotonic() + 60
    while await asyncio.to_thread(vllm.running) < len(asking):
        assert time.monotonic() < until
        assert not any(one.done() for one in sent)
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)
    killed = time.monotonic()
    kill()
    replies = await asyncio.gather(*sent)
    taken = time.monotonic() - killed
    assert taken < AT_ONCE
    for one, reply in zip(asking, replies, strict=True):
        assert reply.status in {OK, UNAVAILABLE}
        if reply.status == OK:
            answer = one.opened(reply)
            assert answer["response_text"].strip()
            assert answer["finish_reason"] == "length"
            assert answer["usage"]["completion_tokens"] >= 1
    print(f"\nkilled: {[reply.status for reply in replies]} after {taken:.2f} s")  # noqa: T201 - wanted figures
    for one in asking:
        one.close()
    return replies


@pytest.mark.parametrize("what", ["all of it", "the model's processes"])
async def test_kill_9_and_the_return(start_miner: StartMiner, vllm: VllmServer, what: str) -> None:
    """All at once, or only those that hold the model: the one that speaks HTTP then tells it in the stream."""
    miner = start_miner()
    kill = vllm.kill if what == "all of it" else vllm.kill_the_model
    replies = await killed_while_writing(miner, vllm, kill)
    assert OK in {reply.status for reply in replies}, "two seconds are enough for a token"
    down = await not_ready(miner)
    async with await miner.validator() as validator:
        await validator.shake()
        refused = await validator.send(challenge("?"))
        assert (refused.status, refused.seconds < 1) == (UNAVAILABLE, True)
    await asyncio.to_thread(vllm.kill)
    started = await asyncio.to_thread(vllm.start)
    began = time.monotonic()
    await asyncio.to_thread(miner.wait_ready, READY_WITHIN)
    back = time.monotonic() - began
    async with await miner.validator() as validator:
        await validator.shake()
        assert (await validator.ask("well again", max_tokens=8))["response_text"]
    print(f"not ready after {down:.2f} s; vLLM back after {started:.1f} s, ready {back:.1f} s later")  # noqa: T201
    miner.stop()
