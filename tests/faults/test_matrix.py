"""Twelve faults of the engine at three moments, through a whole miner: an answer or a clean 503 before the deadline."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.conftest import StartMiner
from tests.faults.proxy import FAULTS, PHASES, FaultProxy, Phase
from tests.miner.http import Reply
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import Validator, challenge
from tests.stubs.engine import ENGINE_SECRET

SOFT, HARD = 2.5, 3.5
BUSY = 1.0
"""What a busy machine may add to the hard cut, in seconds."""
BACK = 15
OK, UNAVAILABLE = 200, 503


@pytest.fixture
async def proxy(engine: StubEngine) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(engine.port) as made:
        yield made


@pytest.fixture
async def faulty(start_miner: StartMiner, proxy: FaultProxy) -> MinerProcess:
    """A miner with one slot, whose engine is behind the proxy."""
    return start_miner(
        wait=False,
        VLLM_API_BASE=proxy.base_url,
        ANSWER_SOFT_STOP_SECONDS=SOFT,
        ANSWER_HARD_CUT_SECONDS=HARD,
        MAX_CONCURRENT_REQUESTS=1,
        PROBE_INTERVAL_SECONDS=1,
        PROBE_TIMEOUT_SECONDS=0.8,
    )


async def ready(miner: MinerProcess, seconds: float) -> float:
    """Wait until challenges are taken; gives how long it took."""
    began = time.monotonic()
    await asyncio.to_thread(miner.wait_ready, seconds)
    return time.monotonic() - began


async def well_again(miner: MinerProcess, validator: Validator) -> float:
    """Wait until a challenge is answered; gives how long it took.

    A probe that met the fault may end after the mending: what was ready then is not, until the next probe.
    """
    began = time.monotonic()
    while time.monotonic() - began < BACK:
        await ready(miner, BACK)
        reply = await validator.send(challenge("well again"))
        if reply.status == OK:
            assert validator.opened(reply)["response_text"]
            return time.monotonic() - began
        assert (reply.status, reply.detail) == (UNAVAILABLE, "the engine is not ready")
    raise AssertionError(f"no answer {BACK} s after the mending")


async def asking(miner: MinerProcess) -> Validator:
    made = await miner.validator()
    await made.shake()
    return made


def check(validator: Validator, reply: Reply, phase: Phase) -> None:
    """The text so far where there was some, else a refusal that tells nothing of the engine's."""
    assert reply.seconds < HARD + BUSY
    assert ENGINE_SECRET.encode() not in reply.body
    assert reply.status == (OK if phase == "generation" else UNAVAILABLE), reply.body[:200]
    if reply.status == OK:
        answer = validator.opened(reply)
        text = answer["response_text"]
        assert text
        assert text.replace("on ", "") == ""
        assert answer["finish_reason"] == "length"
    else:
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.detail


async def fail_queued(
    miner: MinerProcess, proxy: FaultProxy, engine: StubEngine, fault: str
) -> tuple[Validator, Reply]:
    """The fault comes while one request runs and ours waits for its slot."""
    async with await asking(miner) as first:
        second = await asking(miner)
        engine.behave(chunks=20, token_ms=40, text_bytes=1000)
        running = asyncio.create_task(first.send(challenge("first")))
        await asyncio.sleep(0.3)
        waiting = asyncio.create_task(second.send(challenge("second")))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await proxy.arm(fault, "queued")
        reply = await waiting
        before = await running
        assert before.status == OK, before.body[:200]
    return second, reply


async def fail_running(
    miner: MinerProcess, proxy: FaultProxy, engine: StubEngine, fault: str, phase: Phase
) -> tuple[Validator, Reply]:
    """The fault meets the request itself."""
    validator = await asking(miner)
    engine.behave(endless=True, token_ms=20)
    await proxy.arm(fault, phase)
    return validator, await validator.send(challenge("on and on"))


@pytest.mark.slow
async def test_threat_21_the_fault_matrix(faulty: MinerProcess, proxy: FaultProxy, engine: StubEngine) -> None:
    """All cells on one miner, which must be as it was at the end."""
    await ready(faulty, 30)
    async with await asking(faulty) as validator:
        await validator.ask("warm up")
    await asyncio.sleep(0.5)
    descriptors, memory = faulty.fds(), faulty.rss()
    recoveries: list[float] = []
    for phase in PHASES:
        for fault in FAULTS:
            if phase == "queued":
                validator, reply = await fail_queued(faulty, proxy, engine, fault)
            else:
                validator, reply = await fail_running(faulty, proxy, engine, fault, phase)
            try:
                check(validator, reply, phase)
            except AssertionError as wrong:
                raise AssertionError(f"{fault}, {phase}: {reply.status} after {reply.seconds:.2f} s") from wrong
            assert proxy.failed, (fault, phase)
            await proxy.mend()
            engine.behave()
            recoveries.append(await well_again(faulty, validator))
            validator.close()
            print(f"{phase:>10} {fault:<12} {reply.status} {reply.seconds:.2f} s, back {recoveries[-1]:.1f} s")  # noqa: T201
    assert len(recoveries) == 36
    assert proxy.followed_redirects == 0
    await asyncio.sleep(1)
    assert engine.stats().running == 0
    grown = (faulty.rss() - memory) / 1e6
    print(f"slowest recovery {max(recoveries):.1f} s, {faulty.fds() - descriptors:+} fds, {grown:+.1f} MB")  # noqa: T201
    assert faulty.fds() <= descriptors + 4
    assert grown < 40
