"""Stops, crashes and restarts (threat 17)."""

import asyncio
import json
import signal
import sqlite3
import time

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Closed, Reply
from tests.miner.process import MinerProcess, StubEngine, fetch
from tests.miner.validator import Validator, challenge
from tests.must_hold.conftest import NewValidator

CYCLES = 50
IN_FLIGHT = 8


async def test_threat_17_each_validator_is_back_after_one_retry(start_miner: StartMiner, engine: StubEngine) -> None:
    """A restart under load: sessions and the RSA key are gone, and every 401 says how to go on."""
    miner = start_miner()
    validators = [await miner.validator() for _ in range(10)]
    for validator in validators:
        await validator.shake()
        assert (await validator.ask("before"))["response_text"]
    pem = await validators[0].public_key()
    miner.kill()
    miner.restart()
    for validator in validators:
        validator.connection.close()
        validator.connection = await miner.connect()
    answers = await asyncio.gather(*(validator.ask("after") for validator in validators))
    assert all(answer["response_text"] for answer in answers)
    assert [validator.handshakes for validator in validators] == [2] * 10
    assert await validators[0].public_key() != pem, "the RSA key is not kept on disk"
    for validator in validators:
        validator.close()


class Load:
    """Validators that ask without a pause, and what became of each request."""

    def __init__(self, validators: list[Validator]) -> None:
        self.validators = validators
        self.sent: list[float] = []
        self.answered = 0
        self.refused: list[Reply] = []
        self.lost: list[float] = []
        """Seconds before the signal (negative: after it) at which a request was sent that got no reply."""
        self.signalled = 0.0

    async def ask(self, validator: Validator) -> None:
        """Ask until the miner is gone."""
        while True:
            started = time.monotonic()
            try:
                reply = await validator.send(challenge("under load"))
            except (Closed, OSError):
                self.lost.append(started)
                return
            if reply.status == 200:
                assert validator.opened(reply)["response_text"]
                self.answered += 1
            else:
                self.refused.append(reply)
                await asyncio.sleep(0.02)

    async def run(self, miner: MinerProcess, seconds: float) -> int:
        """Ask, signal after `seconds`, and see the miner end; gives its exit code."""
        asking = [asyncio.create_task(self.ask(validator)) for validator in self.validators]
        await asyncio.sleep(seconds)
        self.signalled = time.monotonic()
        miner.signal(signal.SIGTERM)
        code = await asyncio.to_thread(miner.wait, 30)
        await asyncio.wait_for(asyncio.gather(*asking), 10)
        return code


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_sigterm_under_load_fifty_times(start_miner: StartMiner, engine: StubEngine) -> None:
    """Every request that was accepted is answered; the exit code is 0 every time."""
    # Two miners take turns: one starts while the other is under load and stopped.
    miners = [start_miner(wait=False, MAX_CONCURRENT_REQUESTS=4) for _ in range(2)]
    totals = [0, 0, 0]
    longest = 0.0
    for cycle in range(CYCLES):
        miner = miners[cycle % 2]
        await asyncio.to_thread(miner.wait_ready)
        engine.behave(first_token_ms=60, token_ms=10, chunks=8)
        validators = [await miner.validator() for _ in range(IN_FLIGHT)]
        for validator in validators:
            await validator.shake()
        load = Load(validators)
        code = await load.run(miner, 0.15 + 0.01 * (cycle % 20))
        longest = max(longest, time.monotonic() - load.signalled)
        for validator in validators:
            validator.close()
        assert code == 0, f"cycle {cycle}: exit code {code}\n{miner.tail()}"
        lost = [sent - load.signalled for sent in load.lost]
        early = [f"{one * 1000:.0f} ms" for one in lost if one < 0]
        assert early == [], f"cycle {cycle}: requests sent before the signal and never answered: {early}"
        assert {reply.status for reply in load.refused} <= {503}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in load.refused)
        assert miner.survivors() == []
        assert engine.stats().running == 0
        miner.restart(wait=False)
        totals = [totals[0] + load.answered, totals[1] + len(load.refused), totals[2] + len(lost)]
    print(  # noqa: T201
        f"\nSIGTERM: {totals[0]} answered, {totals[1]} refused while it drained, {totals[2]} connections closed"
        f" between requests; the longest stop took {longest:.2f} s"
    )
    assert totals[0] > CYCLES


async def test_a_stop_waits_for_the_answer_and_refuses_the_next(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    miner = start_miner()
    engine.behave(first_token_ms=1500)
    first, second = await new_validator(miner), await new_validator(miner)
    await first.shake()
    await second.shake()
    sent = asyncio.create_task(first.send(challenge("the last one")))
    await asyncio.sleep(0.3)
    miner.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    reply = await second.send(challenge("too late"))
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert json.loads(fetch(miner.port, "/availability")[2])["available"] is False
    assert fetch(miner.admin_port, "/metrics")[0] == 200, "the admin listener stays up while draining"
    assert first.opened(await sent)["response_text"]
    assert await asyncio.to_thread(miner.wait, 10) == 0


async def test_an_idle_stop_is_quick(start_miner: StartMiner, new_validator: NewValidator) -> None:
    miner = start_miner()
    idle = await new_validator(miner)
    await idle.shake()
    started = time.monotonic()
    miner.signal(signal.SIGTERM)
    assert await asyncio.to_thread(miner.wait, 20) == 0
    assert time.monotonic() - started < 3, "idle keep-alive connections don't hold the stop up"


async def test_interrupt_stops_too(start_miner: StartMiner) -> None:
    miner = start_miner()
    miner.signal(signal.SIGINT)
    assert await asyncio.to_thread(miner.wait, 20) in {0, 130}
    assert "Traceback" not in miner.tail()


async def test_a_stop_while_starting(start_miner: StartMiner) -> None:
    for pause in (0.05, 0.3, 0.6):
        miner = start_miner(wait=False)
        await asyncio.sleep(pause)
        miner.signal(signal.SIGTERM)
        assert await asyncio.to_thread(miner.wait, 20) in {0, -signal.SIGTERM, 143}
        assert "Traceback" not in miner.tail()


async def test_a_second_signal_does_not_wait_for_ever(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    miner = start_miner()
    engine.behave(first_token_ms=4000)
    validator = await new_validator(miner)
    await validator.shake()
    sent = asyncio.create_task(validator.send(challenge("slow")))
    await asyncio.sleep(0.3)
    miner.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    miner.signal(signal.SIGTERM)
    started = time.monotonic()
    await asyncio.to_thread(miner.wait, 30)
    print(f"\na second SIGTERM ended it after {time.monotonic() - started:.1f} s")  # noqa: T201
    await asyncio.gather(sent, return_exceptions=True)
    assert miner.survivors() == []


@pytest.mark.slow
async def test_kill_9_under_load_and_a_clean_start(start_miner: StartMiner, engine: StubEngine) -> None:
    miner = start_miner()
    for _ in range(5):
        engine.behave(first_token_ms=40)
        validators = [await miner.validator() for _ in range(4)]
        for validator in validators:
            await validator.shake()
        load = Load(validators)
        asking = [asyncio.create_task(load.ask(validator)) for validator in validators]
        await asyncio.sleep(0.3)
        miner.kill()
        await asyncio.wait_for(asyncio.gather(*asking), 10)
        for validator in validators:
            validator.close()
        await asyncio.sleep(0.5)
        assert miner.survivors() == [], "nothing below the killed process lives on"
        assert engine.stats().running == 0
        miner.restart()
        async with await miner.validator() as validator:
            assert (await validator.ask("after kill -9"))["response_text"]
        for path in miner.state.glob("*.sqlite*"):
            if path.suffix.startswith(".sqlite") and not path.name.endswith(("-wal", "-shm")):
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as found:
                    assert found.execute("pragma integrity_check").fetchone() == ("ok",)
    assert "Traceback" not in miner.tail(400)


async def test_a_port_in_use_is_one_clear_line(start_miner: StartMiner, miner: MinerProcess) -> None:
    second = start_miner(wait=False, API_PORT=miner.port)
    assert await asyncio.to_thread(second.wait, 15) != 0
    assert "API_PORT" in second.tail()
    assert "Traceback" not in second.tail()
    assert miner.alive
