"""A validator's challenge always goes before the operator's own requests."""

import asyncio
import time

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Reply, once
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import challenge
from tests.v1.asking import body, error_of, post
from tests.v1.conftest import NewValidator


async def full(miner: MinerProcess, engine: StubEngine, running: int, waiting: int) -> list[asyncio.Task[Reply]]:
    """So many completions, until the miner is full of them; each takes a second."""
    engine.behave(text="slow", first_token_ms=1000)
    asked = [asyncio.create_task(post(miner, body())) for _ in range(running + waiting)]
    until = time.monotonic() + 3
    while True:
        admission = (await once(miner.admin_port, "GET", "/health")).json()["admission"]
        if (admission["running"], admission["queued"]) == (running, waiting):
            return asked
        assert time.monotonic() < until, admission
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("slots", "running"), [(1, 1), (3, 2)])
async def test_a_challenge_gets_the_next_slot(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator, slots: int, running: int
) -> None:
    """With one slot it waits for the completion that runs, and for no other; with more, not even that."""
    miner = start_miner(MAX_CONCURRENT_REQUESTS=slots, MAX_QUEUED_REQUESTS=4)
    validator = await new_validator(miner)
    asked = await full(miner, engine, running, 4)
    refused = await post(miner, body())
    assert (refused.status, error_of(refused)["code"]) == (503, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    engine.behave(text="slow", first_token_ms=1000, reset=False)
    began = time.monotonic()
    reply = await validator.send(challenge("first, please"))
    seconds = time.monotonic() - began
    assert validator.opened(reply)["response_text"] == "slow"
    answered = sum(task.done() and task.result().status == 200 for task in asked)
    print(f"\n{slots} slots: the challenge took {seconds:.2f} s, {answered} completions were answered before")  # noqa: T201
    assert seconds < (2.6 if slots == 1 else 1.6)
    assert answered <= running
    replies = await asyncio.gather(*asked)
    statuses = sorted(one.status for one in replies)
    assert statuses == ([200] * 4 + [503] if slots == 1 else [200] * 6), "one in the queue made room for the validator"
    miner.stop()


async def test_completions_wait_while_challenges_do(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    miner = start_miner(MAX_CONCURRENT_REQUESTS=1, MAX_QUEUED_REQUESTS=8)
    validators = [await new_validator(miner) for _ in range(3)]
    order: list[str] = []

    async def complete() -> None:
        assert (await post(miner, body())).status == 200
        order.append("completion")

    async def answer(at: int) -> None:
        validators[at].opened(await validators[at].send(challenge("?")))
        order.append("challenge")

    engine.behave(text="slow", first_token_ms=300)
    tasks = [asyncio.create_task(complete()) for _ in range(3)]
    await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(answer(at)) for at in range(3)]
    await asyncio.gather(*tasks)
    assert order == ["completion", *["challenge"] * 3, *["completion"] * 2]
    assert engine.stats().max_running == 1
    miner.stop()
