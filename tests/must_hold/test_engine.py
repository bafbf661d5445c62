"""What engines do wrong: the validator still gets a proper answer or a clear refusal, in time (threats 19, 21)."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Closed, Reply
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import Validator, challenge
from tests.must_hold.conftest import NewValidator
from tests.stubs.engine import ENGINE_SECRET

SOFT, HARD = 3, 4
PROMPTLY = {
    "refuse": {503},
    "reset": {503},
    "garbage": {503},
    "garbage_stream": {503},
    "bad_shape": {503},
    "half_json": {200, 503},
    "error_500": {503},
    "error_503": {503},
    "error_stream": {200, 503},
    "wrong_model": {503},
    "redirect": {503},
    "die": {200, 503},
    "empty": {503},
}
WITHIN_THE_CUT = {"stall": {503}, "stall_mid": {200}, "drip": {503}, "huge_line": {503}}


@pytest.fixture(scope="module")
def short(start_miner: StartMiner) -> MinerProcess:
    """A miner whose answers end after four seconds, and that looks after its engine every second."""
    return start_miner(
        ANSWER_SOFT_STOP_SECONDS=SOFT,
        ANSWER_HARD_CUT_SECONDS=HARD,
        MAX_CONCURRENT_REQUESTS=101,
        MAX_QUEUED_REQUESTS=100,
        PROBE_INTERVAL_SECONDS=1,
        PROBE_TIMEOUT_SECONDS=1,
    )


async def wait_available(miner: MinerProcess, seconds: float) -> float:
    """Wait for `available`; gives how long it took."""
    started = time.monotonic()
    await asyncio.to_thread(miner.wait_ready, seconds)
    return time.monotonic() - started


@pytest.fixture
async def asking(short: MinerProcess, engine: StubEngine, new_validator: NewValidator) -> AsyncIterator[Validator]:
    """A validator of a miner that is available, and knows it from a probe since the engine is well again."""
    await asyncio.to_thread(engine.wait_probed)
    await wait_available(short, 20)
    validator = await new_validator(short)
    await validator.shake()
    yield validator
    engine.behave()


def check(validator: Validator, reply: Reply, allowed: set[int], fault: str) -> None:
    """A refusal without the engine's words, or a text."""
    print(f"\n{fault}: {reply.status} after {reply.seconds:.2f} s")  # noqa: T201
    assert reply.status in allowed, (fault, reply.status, reply.body[:200])
    assert ENGINE_SECRET.encode() not in reply.body
    if reply.status == 200:
        answer = validator.opened(reply)
        assert answer["response_text"].strip()
        assert answer["finish_reason"] == "length"
        assert ENGINE_SECRET not in answer["response_text"]
    else:
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.detail


@pytest.mark.parametrize("fault", PROMPTLY)
async def test_threat_21_rubbish_is_seen_at_once(asking: Validator, engine: StubEngine, fault: str) -> None:
    engine.behave(fault=fault, chunks=8, token_ms=5)
    reply = await asking.send(challenge("?"))
    check(asking, reply, PROMPTLY[fault], fault)
    assert reply.seconds < 2
    if fault == "redirect":
        assert engine.stats().followed_redirects == 0


@pytest.mark.parametrize("fault", WITHIN_THE_CUT)
async def test_threat_21_an_engine_that_hangs_costs_no_more_than_the_cut(
    asking: Validator, engine: StubEngine, short: MinerProcess, fault: str
) -> None:
    engine.behave(next=[{"fault": fault, "chunks": 8, "token_ms": 5}])
    before = short.rss()
    reply = await asking.send(challenge("?"))
    check(asking, reply, WITHIN_THE_CUT[fault], fault)
    assert reply.seconds < HARD + 2
    assert (short.rss() - before) / 1e6 < 40
    await asyncio.sleep(0.6)
    assert engine.stats().running == 0, "the engine was told to stop"


async def test_threat_19_a_redirecting_engine_is_refused(start_miner: StartMiner, engine: StubEngine) -> None:
    """Neither by requests nor by probes is the redirect followed."""
    miner = start_miner(wait=False, PROBE_INTERVAL_SECONDS=1, PROBE_TIMEOUT_SECONDS=1)
    engine.behave(fault="redirect")
    await asyncio.sleep(6)
    body = next(miner.polls(5))
    assert engine.stats().followed_redirects == 0
    assert body["available"] is False
    assert body["reason"]


@pytest.mark.parametrize(
    "url", ["http://93.184.216.34:8001/v1", "ftp://127.0.0.1/v1", "file:///etc/passwd", "127.0.0.1"]
)
async def test_threat_19_only_private_http_engines_are_taken(start_miner: StartMiner, url: str) -> None:
    miner = start_miner(wait=False, VLLM_API_BASE=url)
    assert await asyncio.to_thread(miner.wait, 10) != 0
    assert "VLLM_API_BASE" in miner.tail()
    assert "Traceback" not in miner.tail()


@pytest.mark.slow
async def test_a_wedged_engine_makes_the_miner_unavailable_and_back(
    asking: Validator, short: MinerProcess, engine: StubEngine
) -> None:
    """Decision 11: false within 30 s, true within 15 s of recovery."""
    engine.behave(fault="stall")
    started = time.monotonic()
    for body in short.polls(40, pause=0.3):
        if body["available"] is False:
            break
    else:
        pytest.fail("still available")
    down = time.monotonic() - started
    reply = await asking.send(challenge("?"))
    assert reply.status == 503
    assert reply.seconds < 1
    engine.behave()
    back = await wait_available(short, 15)
    print(f"\nunavailable after {down:.1f} s, back after {back:.1f} s")  # noqa: T201
    assert down < 30


@pytest.mark.slow
async def test_an_endless_engine_never_makes_an_answer_late(
    asking: Validator, short: MinerProcess, engine: StubEngine, new_validator: NewValidator
) -> None:
    """200 requests at 100 slots: each gets the text so far within the hard cut + 2 s."""
    engine.behave(endless=True, token_ms=100)
    validators = [asking]
    for at in range(99):
        one = await new_validator(short)
        if at % 10 == 0:
            await one.shake()
        one.hotkey, one.session = (
            (one.hotkey, one.session) if one.session else (validators[-1].hotkey, validators[-1].session)
        )
        validators.append(one)
    answers: list[tuple[float, dict[str, object]]] = []

    async def ask(one: Validator) -> None:
        reply = await one.send(challenge("on and on"))
        answers.append((reply.seconds, one.opened(reply)))

    for _ in range(2):
        await asyncio.gather(*(ask(one) for one in validators))
    seconds = sorted(taken for taken, _ in answers)
    print(f"\nendless: {len(answers)} answers, {seconds[0]:.2f} to {seconds[-1]:.2f} s")  # noqa: T201
    assert len(answers) == 200
    assert [taken for taken in seconds if taken > HARD + 2] == []
    assert {answer["finish_reason"] for _, answer in answers} == {"length"}
    assert all(str(answer["response_text"]).startswith("on on") for _, answer in answers)
    await asyncio.sleep(0.6)
    stats = engine.stats()
    assert stats.running == 0
    assert sum(one.how == "disconnected" for one in stats.ended) == 200


async def test_the_soft_stop_ends_with_a_sentence(asking: Validator, engine: StubEngine) -> None:
    engine.behave(endless=True, token_ms=20, sentence_every=20)
    reply = await asking.send(challenge("on and on, in sentences"))
    answer = asking.opened(reply)
    assert SOFT - 0.1 <= reply.seconds < SOFT + 0.9
    assert answer["finish_reason"] == "length"
    assert answer["response_text"].rstrip().endswith("end.")


async def test_a_cut_leaves_no_open_thought(asking: Validator, engine: StubEngine) -> None:
    engine.behave(text="Fine. <think>" + "Hmm, let me see. " * 100, chunks=200, token_ms=50)
    reply = await asking.send(challenge("think about it"))
    answer = asking.opened(reply)
    assert reply.seconds < HARD + 1
    assert answer["response_text"].strip() == "Fine."
    assert answer["finish_reason"] == "length"


async def test_a_cut_leaves_no_half_tool_call(asking: Validator, engine: StubEngine) -> None:
    """The arguments stop in the middle: there is nothing to send, and that is said."""
    engine.behave(tool_call=True, token_ms=2500)
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    reply = await asking.send(challenge("Weather in Oslo?", tools=[tool]))
    assert reply.status == 503
    assert reply.seconds < HARD + 1


@pytest.mark.parametrize("moment", ["before the first token", "while it writes"])
async def test_a_validator_that_hangs_up_stops_the_engine(
    short: MinerProcess, asking: Validator, engine: StubEngine, new_validator: NewValidator, moment: str
) -> None:
    """Within 0.5 s; twice that is let pass on a busy machine, and what was seen is printed."""
    engine.behave(endless=True, token_ms=20, first_token_ms=2500 if moment == "before the first token" else 0)
    taken: list[float] = []
    for at in range(5):
        validator = await new_validator(short, hotkey=asking.hotkey)
        validator.session = asking.session
        sent = asyncio.create_task(validator.send(challenge("never mind")))
        await asyncio.sleep(0.5)
        assert engine.stats().running == 1
        gone = time.time()
        validator.close()
        with pytest.raises(Closed):
            await sent
        while len(engine.stats().ended) <= at:
            assert time.time() - gone < 3, "the engine is still at work"
            await asyncio.sleep(0.02)
        last = engine.stats().ended[-1]
        assert last.how == "disconnected"
        taken.append(last.ended - gone)
    print(f"\nhung up {moment}: the engine stopped after {[f'{one:.3f}' for one in taken]} s")  # noqa: T201
    assert sorted(taken)[len(taken) // 2] < 0.5
    assert max(taken) < 1
    assert engine.stats().running == 0


@pytest.mark.parametrize("flags", [(), ("--refuse-sum",)], ids=["today", "older"])
@pytest.mark.parametrize("bytes_per_token", [4, 1])
async def test_the_asked_length_is_made_to_fit_the_context(
    start_miner: StartMiner, new_validator: NewValidator, bytes_per_token: int, flags: tuple[str, ...]
) -> None:
    """A validator asks for 12288 tokens by default; an engine with a smaller context must still be used.

    vLLM does not tell how long a prompt is, only that it is too long: guessing on and on would cost a call a token.
    """
    with StubEngine("--max-model-len", "8192", "--bytes-per-token", str(bytes_per_token), *flags) as small:
        miner = start_miner(VLLM_API_BASE=small.base_url, MIN_CONTEXT_TOKENS=8192)
        validator = await new_validator(miner)
        for length in (10, 500, 2000, 4000, 6000, 7500):
            small.behave(echo=True)
            text = "a" * (length * bytes_per_token)
            assert (await validator.ask(text))["response_text"] == text
            stats = small.stats()
            assert stats.requests == 1
            room = 8192 - len(text) // bytes_per_token
            asked = stats.last_request["max_tokens"] or stats.last_request["max_completion_tokens"]
            assert asked is None or asked > room / 2 - 200, f"only {asked} tokens asked for, with room for {room}"
            assert stats.refused <= 3, f"{stats.refused} refused calls for a prompt of about {length} tokens"
        small.behave()
        reply = await validator.send(challenge("a" * 9000 * bytes_per_token))
        assert reply.status == 422
        assert "8192" in reply.detail
        assert small.stats().refused <= 4
        miner.stop()
