"""Every challenge gets its own answer, at most N run, and what cannot be served is refused at once."""

import asyncio
from typing import Any

import pytest

from tests.conftest import StartMiner
from tests.miner.canary import PROMPT
from tests.miner.http import Reply
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import Validator, challenge
from tests.must_hold.conftest import NewValidator

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def two_slots(start_miner: StartMiner) -> MinerProcess:
    return start_miner(MAX_CONCURRENT_REQUESTS=2, MAX_QUEUED_REQUESTS=400)


@pytest.fixture(scope="module")
def short_queue(start_miner: StartMiner) -> MinerProcess:
    return start_miner(MAX_CONCURRENT_REQUESTS=2, MAX_QUEUED_REQUESTS=4)


async def crowd(miner: MinerProcess, new_validator: NewValidator, names: int, each: int) -> list[list[Validator]]:
    """`names` validators, each with a session and `each` connections that share it."""
    found: list[list[Validator]] = []
    for _ in range(names):
        first = await new_validator(miner)
        await first.shake()
        others = [await new_validator(miner, hotkey=first.hotkey) for _ in range(each - 1)]
        for other in others:
            other.session = first.session
        found.append([first, *others])
    return found


async def test_threat_8_each_of_200_gets_its_own_answer(
    two_slots: MinerProcess, engine: StubEngine, new_validator: NewValidator
) -> None:
    engine.behave(echo=True, first_token_ms=15, chunks=3)
    validators = await crowd(two_slots, new_validator, names=5, each=40)

    async def ask(validator: Validator, text: str) -> tuple[str, str, object]:
        answer = await validator.ask(text, correlation_id=f"id of {text}")
        return text, answer["response_text"], answer["correlation_id"]

    answers = await asyncio.gather(
        *(ask(one, f"{PROMPT} {name}-{at}") for name, group in enumerate(validators) for at, one in enumerate(group))
    )
    assert len(answers) == 200
    assert [(text, got, name) for text, got, name in answers if got != text or name != f"id of {text}"] == []
    stats = engine.stats()
    assert stats.max_running == 2
    assert stats.requests == 200


async def test_over_the_queue_is_refused_with_retry_after(
    short_queue: MinerProcess, engine: StubEngine, new_validator: NewValidator
) -> None:
    engine.behave(echo=True, first_token_ms=100)
    validators = [one for group in await crowd(short_queue, new_validator, names=5, each=8) for one in group]
    replies = await asyncio.gather(*(one.send(challenge(f"{at}")) for at, one in enumerate(validators)))

    def right(at: int, reply: Reply) -> bool:
        return validators[at].opened(reply)["response_text"] == f"{at}"

    assert all(right(at, reply) for at, reply in enumerate(replies) if reply.status == 200)
    refused = [reply for reply in replies if reply.status != 200]
    assert {reply.status for reply in refused} == {503}
    assert all(int(reply.headers["retry-after"]) >= 1 and reply.detail for reply in refused)
    assert 6 <= len(replies) - len(refused) < 40, "2 slots and 4 places in the queue at least are used"
    assert engine.stats().max_running == 2
    assert max(reply.seconds for reply in refused) < 1, "a refusal does not wait for its turn"


async def test_a_validator_that_gave_up_leaves_its_place_in_the_queue(
    short_queue: MinerProcess, engine: StubEngine, new_validator: NewValidator
) -> None:
    engine.behave(first_token_ms=600)
    validators = [one for group in await crowd(short_queue, new_validator, names=2, each=3) for one in group]
    waiting = [asyncio.create_task(one.send(challenge("gone"))) for one in validators]
    await asyncio.sleep(0.3)
    for one in reversed(validators):  # those in the queue first: a slot that is given back goes to who still waits
        one.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0.5)
    engine.behave(reset=False, echo=True)
    again = await new_validator(short_queue)
    assert (await again.ask("still there?"))["response_text"] == "still there?"
    await asyncio.sleep(0.3)
    stats = engine.stats()
    assert stats.running == 0
    assert stats.requests == 3, "only the two that had a slot reached the engine, and the one that came after"


async def test_the_answer_carries_usage_timing_and_correlation(validator: Validator, engine: StubEngine) -> None:
    stage = {"stage_name": "validator_receive", "start_timestamp": 1.5, "start_datetime": "2026-11-23T12:31:40.740520"}
    stage |= {"end_timestamp": 2.5, "end_datetime": "2026-11-23T12:31:41.740520", "elapsed_ms": 1000.0}
    open_stage = {"stage_name": "validator_send_to_miner", "start_timestamp": 2.5, "start_datetime": "2026-11-23T12:31"}
    timing = {
        "correlation_id": "c-7",
        "request_start_timestamp": 1.0,
        "request_start_datetime": "2026-11-23T12:31:40.540513",
        "stages": [stage, open_stage],
        "new_field": [1, {"of": "a later validator"}],
    }
    answer = await validator.ask("when?", correlation_id="c-7", metadata={"timing_data": timing, "other": 1})
    assert answer["correlation_id"] == "c-7"
    assert answer["finish_reason"] == "stop"
    assert answer["tool_calls"] is None
    assert isinstance(answer["response_time_ms"], int)
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] == 512
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    back = answer["metadata"]["timing_data"]
    assert back["correlation_id"] == "c-7"
    assert back["request_start_timestamp"] == 1.0
    assert [one["stage_name"] for one in back["stages"]] == [
        "validator_receive",
        "validator_send_to_miner",
        "miner_inference",
        "miner_response",
    ]
    assert stage.items() <= back["stages"][0].items()
    for one in back["stages"][2:]:
        assert one["end_timestamp"] >= one["start_timestamp"] > 1_700_000_000
        assert one["elapsed_ms"] >= 0
        assert one["start_datetime"]
        assert one["end_datetime"]
    assert engine.stats().requests == 1


@pytest.mark.parametrize("chunks", [1, 2, 32, 700])
async def test_text_is_whole_however_it_is_chunked(validator: Validator, engine: StubEngine, chunks: int) -> None:
    engine.behave(chunks=chunks, text="Grüße, 雨 ☔ 🎉. " * 100)
    assert (await validator.ask("?"))["response_text"].strip() == ("Grüße, 雨 ☔ 🎉. " * 100).strip()


async def test_tool_calls_are_passed_through(validator: Validator, engine: StubEngine) -> None:
    engine.behave(tool_call=True)
    answer = await validator.ask("Weather in Oslo?", tools=[WEATHER], tool_choice="auto")
    assert answer["response_text"] == ""
    assert answer["finish_reason"] == "tool_calls"
    call = answer["tool_calls"][0]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}


@pytest.mark.parametrize(
    "choice", ["none", "auto", "required", {"type": "function", "function": {"name": "get_weather"}}]
)
async def test_tool_choice_reaches_the_engine(validator: Validator, engine: StubEngine, choice: object) -> None:
    await validator.ask("Weather?", tools=[WEATHER], tool_choice=choice)
    seen = engine.stats().last_request
    if choice == "none":
        assert seen["tool_choice"] == "none" or seen["tools"] == 0
    else:
        assert (seen["tool_choice"], seen["tools"]) == (choice, 1)
        assert seen["strict_tools"] == (choice != "auto"), "else vLLM lets a forced call's arguments be any JSON"


@pytest.mark.parametrize("strict", [True, False, None])
async def test_whether_a_tool_is_strict_is_its_own_business(
    validator: Validator, engine: StubEngine, *, strict: bool | None
) -> None:
    tools: list[Any] = [{"type": "function", "function": WEATHER["function"] | {"strict": strict}}, WEATHER]
    await validator.ask("Weather?", tools=tools, tool_choice="required")
    assert engine.stats().last_request["strict_tools"] == (1 if strict is False else 2)


async def test_the_older_ways_to_ask(validator: Validator, engine: StubEngine) -> None:
    engine.behave(echo=True)
    parts = [{"type": "text", "text": "Part one. "}, {"type": "text", "text": "Part two?"}]
    assert (await validator.ask("-", prompt="A prompt?", messages=None))["response_text"] == "A prompt?"
    assert (await validator.ask("the messages win", prompt="a prompt"))["response_text"] == "the messages win"
    answer = await validator.ask("-", messages=[{"role": "user", "content": parts}])
    assert answer["response_text"] == "Part one. Part two?"
    answer = await validator.ask("unknown fields", from_the_future={"deep": [1]}, n=5, stream=True)
    assert answer["response_text"] == "unknown fields"


async def test_asked_length_and_sampling_reach_the_engine(validator: Validator, engine: StubEngine) -> None:
    answer = await validator.ask("short", max_tokens=10, temperature=0.25, top_p=0.5)
    seen = engine.stats().last_request
    assert (seen["temperature"], seen["top_p"]) == (0.25, 0.5)
    assert (seen["max_tokens"] or seen["max_completion_tokens"]) == 10
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 10
