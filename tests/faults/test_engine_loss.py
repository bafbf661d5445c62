"""Engines that are killed, wedged, or replaced, under a whole miner with its default probing (design decision 11)."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backends.engines import StubOllama
from tests.conftest import StartMiner
from tests.miner.process import MinerProcess, StubEngine, fetch
from tests.miner.validator import Validator, challenge

NOT_READY_WITHIN, READY_WITHIN = 30, 15
AT_ONCE = 2
OK, UNAVAILABLE = 200, 503


type NewEngine = Callable[..., StubEngine]


@pytest.fixture
def new_engine() -> Iterator[NewEngine]:
    """Start engines: `new_engine(port)`; all end with the test."""
    with ExitStack() as stack:

        def start(port: int = 0) -> StubEngine:
            return stack.enter_context(StubEngine("--port", str(port)))

        yield start


def kill(engine: StubEngine) -> None:
    """`kill -9`."""
    engine.process.kill()
    engine.stop()


def health(miner: MinerProcess) -> dict[str, Any]:
    """What the operator sees."""
    return json.loads(fetch(miner.admin_port, "/health")[2])


async def validators(miner: MinerProcess, count: int) -> list[Validator]:
    made = [await miner.validator() for _ in range(count)]
    for one in made:
        await one.shake()
    return made


async def not_ready(miner: MinerProcess) -> float:
    """Seconds until challenges are refused, as `/availability` and `/readyz` tell alike."""
    began = time.monotonic()
    while time.monotonic() - began < NOT_READY_WITHIN:
        body = await asyncio.to_thread(lambda: json.loads(fetch(miner.port, "/availability")[2]))
        if body["available"] is False:
            assert body["reason"]
            assert fetch(miner.port, "/readyz")[0] == UNAVAILABLE
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise AssertionError(f"still available after {NOT_READY_WITHIN} s")


async def ready(miner: MinerProcess) -> float:
    """Seconds until challenges are taken again."""
    began = time.monotonic()
    await asyncio.to_thread(miner.wait_ready, READY_WITHIN)
    assert fetch(miner.port, "/readyz")[0] == OK
    return time.monotonic() - began


@pytest.mark.slow
async def test_kill_9_of_the_engine_and_its_return(start_miner: StartMiner, new_engine: NewEngine) -> None:
    """In mid-generation: the text so far; before the first token: a 503; both at once. Then both ways."""
    engine = new_engine()
    miner = start_miner(VLLM_API_BASE=engine.base_url)
    for late, status in ((False, OK), (True, UNAVAILABLE)):
        asking = await validators(miner, 3)
        engine.behave(endless=True, token_ms=20, first_token_ms=60_000 if late else 0)
        sent = [asyncio.create_task(one.send(challenge("on and on"))) for one in asking]
        await asyncio.sleep(1)
        assert engine.stats().running == 3
        killed = time.monotonic()
        kill(engine)
        replies = await asyncio.gather(*sent)
        taken = time.monotonic() - killed
        assert taken < AT_ONCE
        assert [reply.status for reply in replies] == [status] * 3
        for one, reply in zip(asking, replies, strict=True):
            if status == OK:
                answer = one.opened(reply)
                assert answer["response_text"].startswith("on on on")
                assert answer["finish_reason"] == "length"
        down = await not_ready(miner)
        assert down < AT_ONCE, "a failed request has the engine looked at, at once"
        refused = await asking[0].send(challenge("?"))
        assert (refused.status, refused.seconds < 1) == (UNAVAILABLE, True)
        engine = new_engine(engine.port)
        back = await ready(miner)
        assert (await asking[0].ask("well again"))["response_text"]
        print(f"\nkill -9: {status} after {taken:.2f} s, not ready after {down:.2f} s, back {back:.1f} s")  # noqa: T201
    kill(engine)
    down = await not_ready(miner)
    engine = new_engine(engine.port)
    back = await ready(miner)
    print(f"kill -9 while idle: not ready after {down:.1f} s, back {back:.1f} s")  # noqa: T201
    miner.stop()


@pytest.mark.slow
async def test_a_stopped_engine_process_is_seen_while_requests_stream(start_miner: StartMiner) -> None:
    """SIGSTOP: the kernel still takes connections, and nothing ever answers. SIGCONT: all is well."""
    with StubEngine() as engine:
        miner = start_miner(VLLM_API_BASE=engine.base_url, ANSWER_SOFT_STOP_SECONDS=20, ANSWER_HARD_CUT_SECONDS=21)
        asking = await validators(miner, 2)
        engine.behave(endless=True, token_ms=20)
        sent = [asyncio.create_task(one.send(challenge("on"))) for one in asking]
        await asyncio.sleep(1)
        engine.process.send_signal(signal.SIGSTOP)
        try:
            down = await not_ready(miner)
            cause = health(miner)["reason"]
        finally:
            engine.process.send_signal(signal.SIGCONT)
        back = await ready(miner)
        print(f"\nwedged: not ready after {down:.1f} s ({cause}), back {back:.1f} s")  # noqa: T201
        assert "restart it if wedged" in cause
        replies = await asyncio.gather(*sent)
        assert [reply.status for reply in replies] == [OK, OK]
        miner.stop()


@pytest.mark.slow
async def test_the_next_engine_takes_over_within_the_same_deadline(
    start_miner: StartMiner, new_engine: NewEngine
) -> None:
    """Who has no token yet is answered by it, who has some gets the text so far; once back, the first serves again."""
    first, second = new_engine(), new_engine()
    miner = start_miner(VLLM_API_BASE=f"{first.base_url},{second.base_url}")
    second.behave(text="from the second")
    asking = await validators(miner, 6)
    first.behave(endless=True, token_ms=20)
    streaming = [asyncio.create_task(one.send(challenge("on"))) for one in asking[:3]]
    await asyncio.sleep(0.7)
    first.behave(reset=False, first_token_ms=60_000)
    waiting = [asyncio.create_task(one.send(challenge("?"))) for one in asking[3:]]
    await asyncio.sleep(0.7)
    assert health(miner)["backend"]["address"] == first.base_url.removesuffix("/v1")
    killed = time.monotonic()
    kill(first)
    texts = [
        one.opened(reply)["response_text"]
        for one, reply in zip(asking, await asyncio.gather(*streaming, *waiting), strict=True)
    ]
    taken = time.monotonic() - killed
    assert taken < AT_ONCE
    assert [text.startswith("on on") for text in texts[:3]] == [True] * 3
    assert texts[3:] == ["from the second"] * 3
    for body in miner.polls(1):
        assert body["available"] is True, body
    assert (await asking[0].ask("?"))["response_text"] == "from the second"
    seen = health(miner)["backend"]
    assert seen["address"] == second.base_url.removesuffix("/v1")
    assert "can't be reached" in seen["standing_by"][0]
    first = new_engine(first.port)
    first.behave(text="from the first")
    began = time.monotonic()
    while (await asking[0].ask("?"))["response_text"] != "from the first":
        assert time.monotonic() - began < READY_WITHIN
        await asyncio.sleep(0.2)
    print(f"\nfail-over after {taken:.2f} s, back to the first after {time.monotonic() - began:.1f} s")  # noqa: T201
    kill(first)
    kill(second)
    await asking[0].send(challenge("?"))
    assert await not_ready(miner) < NOT_READY_WITHIN
    reason = health(miner)["reason"]
    assert first.base_url.removesuffix("/v1") in reason
    assert second.base_url.removesuffix("/v1") in reason
    miner.stop()


@pytest.mark.slow
async def test_a_wedged_engine_hands_those_who_wait_to_the_next(start_miner: StartMiner) -> None:
    with StubEngine() as first, StubEngine() as second:
        miner = start_miner(
            VLLM_API_BASE=f"{first.base_url},{second.base_url}", PROBE_INTERVAL_SECONDS=1, PROBE_TIMEOUT_SECONDS=1
        )
        second.behave(text="from the second")
        asking = await validators(miner, 3)
        first.behave(fault="stall")
        replies = await asyncio.gather(*(one.send(challenge("?")) for one in asking))
        texts = [one.opened(reply)["response_text"] for one, reply in zip(asking, replies, strict=True)]
        assert texts == ["from the second"] * 3
        print(f"\nhanded over after {max(reply.seconds for reply in replies):.1f} s")  # noqa: T201
        assert first.stats().running == 0
        miner.stop()


@pytest.mark.slow
async def test_ollama_answers_and_its_small_context_does_not(start_miner: StartMiner) -> None:
    """From the start to a challenge; then Ollama is started anew without its OLLAMA_CONTEXT_LENGTH."""
    with StubOllama("--context", "16384", "--load-ms", "300") as ollama:
        miner = start_miner(LLM_BACKEND="ollama", OLLAMA_BASE_URL=ollama.root, DEFAULT_MODEL="qwen2.5:7b")
        (validator,) = await validators(miner, 1)
        ollama.act(text="from Ollama")
        assert (await validator.ask("?"))["response_text"] == "from Ollama"
        assert ollama.seen().loads_given_up == 0
        port = ollama.port
    with StubOllama("--port", str(port)):
        down = await not_ready(miner)
        until = time.monotonic() + 5
        while "OLLAMA_CONTEXT_LENGTH=16384" not in (reason := health(miner)["reason"]):
            assert time.monotonic() < until, reason
            await asyncio.sleep(0.1)
    with StubOllama("--port", str(port), "--context", "32768"):
        back = await ready(miner)
        (validator,) = await validators(miner, 1)  # the first one's connection was idle for too long
        assert (await validator.ask("echo"))["response_text"] == "echo"
    print(f"\nOllama: not ready after {down:.1f} s, back {back:.1f} s")  # noqa: T201
    miner.stop()
