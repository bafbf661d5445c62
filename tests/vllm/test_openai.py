"""OpenAI's client on the admin listener, with a real vLLM behind it."""

import asyncio
import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.v1.asking import TOOL
from tests.vllm.server import CONTEXT, MODEL, VllmServer

USER: list[Any] = [{"role": "user", "content": "Name a city and how many people live there."}]
WEATHER: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
STORY: list[Any] = [{"role": "user", "content": "Write a very long story about every number from 1 to 5000."}]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer", "maximum": 99999999}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


def ask(client: openai.OpenAI, messages: list[Any] = USER, **fields: object) -> Any:  # noqa: ANN401 - plain or a stream
    """The client's own call with what all of these have in common."""
    create: Any = client.chat.completions.create
    return create(model="any", messages=messages, **({"temperature": 0, "max_tokens": 48} | fields))


def test_a_stream_says_what_the_plain_answer_says(client: openai.OpenAI) -> None:
    plain = ask(client)
    assert plain.model == MODEL
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    *rest, last = chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in rest)
    # Greedy, but batches may round apart where a probe joins: the beginning is the same for sure.
    assert text[:10] == plain.choices[0].message.content[:10]
    assert len(rest) > 5, "piece by piece"
    assert [chunk.usage for chunk in rest] == [None] * len(rest)
    assert (last.choices, last.usage.prompt_tokens) == ([], plain.usage.prompt_tokens)
    assert last.usage.completion_tokens > 5
    assert rest[-1].choices[0].finish_reason in {"stop", "length"}
    assert all(chunk.usage is None for chunk in ask(client, stream=True, max_tokens=4))


def test_stop_and_seed(client: openai.OpenAI) -> None:
    texts = [ask(client, seed=7, max_tokens=24).choices[0].message.content for _ in range(2)]
    assert texts[0] == texts[1]
    mark = texts[0].split()[2]
    assert ask(client, stop=mark, max_tokens=24).choices[0].message.content == texts[0].partition(mark)[0]
    assert ask(client, max_tokens=1).usage.completion_tokens == 1


def test_json_schema_and_json_object(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    done = ask(client, response_format=wanted, max_tokens=100)
    assert done.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(done.choices[0].message.content), SCHEMA)
    done = ask(client, response_format={"type": "json_object"}, max_tokens=200)
    text = done.choices[0].message.content
    if done.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    assert text.lstrip().startswith("{")


def test_a_schema_that_makes_no_sense_is_the_requests_fault(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, response_format=wanted)
    assert refused.value.code == "refused_by_engine"


@pytest.mark.parametrize("choice", ["required", NAMED], ids=str)
def test_a_forced_call_is_valid(client: openai.OpenAI, choice: object) -> None:
    asked: dict[str, Any] = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 200}
    done = ask(client, WEATHER, **asked)
    assert done.choices[0].finish_reason == "tool_calls"
    assert done.choices[0].message.tool_calls
    for call in done.choices[0].message.tool_calls:
        assert (call.type, call.function.name) == ("function", "weather")
        assert call.id
        jsonschema.validate(json.loads(call.function.arguments), TOOL["function"]["parameters"])
    helper: Any = client.chat.completions.stream
    with helper(model="any", messages=WEATHER, temperature=0, **asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    for call in streamed.message.tool_calls:
        jsonschema.validate(json.loads(call.function.arguments), TOOL["function"]["parameters"])


def test_a_call_of_the_models_own_will(client: openai.OpenAI) -> None:
    """This small model's template knows no tools: text is as good an answer, half a call is none."""
    choice = ask(client, WEATHER, tools=[TOOL], tool_choice="auto").choices[0]
    calls: list[Any] = list(choice.message.tool_calls or ())
    assert choice.message.content or calls
    assert (choice.finish_reason == "tool_calls") == bool(calls)
    assert all(isinstance(json.loads(call.function.arguments), dict) for call in calls)


def test_the_models_own_way_to_call_is_read(client: openai.OpenAI) -> None:
    """Hermes' way, which vLLM's parser reads: the schema makes the model write it by itself, without `tool_choice`."""
    grammar = '{"name": "weather", "arguments": {"city": "Oslo"}}'
    text = f"<tool_call>\n{grammar}\n</tool_call>"
    history: list[Any] = []
    for city in ("Rome", "Bonn", "Lima", "Bern"):
        said = text.replace("Oslo", city)
        history += [{"role": "user", "content": f"Weather in {city}?"}, {"role": "assistant", "content": said}]
    history.append({"role": "user", "content": "Weather in Oslo?"})
    chunks = list(ask(client, history, tools=[TOOL], stream=True, max_tokens=64))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert pieces, "the model did not follow its examples"
    assert [(piece.type, piece.function.name) for piece in pieces if piece.id] == [("function", "weather")]
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == {"city": "Oslo"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_prompt_over_the_context(client: openai.OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 3000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=f"{CONTEXT} tokens") as refused:
            ask(client, long, stream=stream)
        assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")


async def test_leaving_ends_vllms_work(asynchronous: openai.AsyncOpenAI, vllm: VllmServer) -> None:
    vllm.wait_idle()
    stream = await asynchronous.chat.completions.create(model="any", messages=STORY, stream=True, temperature=1)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert await asyncio.to_thread(vllm.running) >= 1
    await stream.close()
    assert await asyncio.to_thread(vllm.wait_idle, 5) < 5
    plain = asyncio.create_task(asynchronous.chat.completions.create(model="any", messages=STORY, temperature=1))
    while not await asyncio.to_thread(vllm.running):
        assert not plain.done()
        await asyncio.sleep(0.02)
    plain.cancel()
    await asyncio.gather(plain, return_exceptions=True)
    assert await asyncio.to_thread(vllm.wait_idle, 5) < 5
