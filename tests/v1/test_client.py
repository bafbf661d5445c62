"""OpenAI's own Python client, plain and streaming, with its strict validation."""

import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.miner.process import MinerProcess, StubEngine
from tests.v1.asking import MESSAGES, TOOL, async_client, sync_client


def revalidated(completion: ChatCompletion) -> ChatCompletion:
    """The same completion, read once more by the types it claims to be."""
    return ChatCompletion.model_validate(completion.model_dump(exclude_unset=True), strict=True)


def calls_of(calls: Sequence[Any] | None) -> list[Any]:
    """The tool calls, or none."""
    return list(calls or ())


def test_a_plain_completion(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(text="Hello there.", chunks=3)
    completion = client.chat.completions.create(model="gpt-x", messages=MESSAGES, max_tokens=50)
    assert revalidated(completion) == completion
    (choice,) = completion.choices
    assert choice.message.content == "Hello there."
    assert (choice.finish_reason, choice.index, choice.message.tool_calls) == ("stop", 0, None)
    assert completion.model == engine.model, "the real model's name, whatever was asked for"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 3
    assert completion.usage.prompt_tokens > 5
    another = client.chat.completions.create(model="gpt-x", messages=MESSAGES)
    assert another.id != completion.id
    assert another.system_fingerprint == completion.system_fingerprint


def test_what_is_asked_for_reaches_the_engine(client: openai.OpenAI, engine: StubEngine) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}}
    client.chat.completions.create(
        model="x",
        messages=MESSAGES,
        max_completion_tokens=77,
        temperature=0,
        top_p=0.5,
        stop=["END", "\n\n"],
        seed=-3,
        response_format=schema,
        user="me",
        metadata={"a": "b"},
        store=True,
        n=1,
    )
    seen = engine.stats().last_request
    assert seen["max_tokens"] == 77
    assert (seen["temperature"], seen["top_p"], seen["seed"]) == (0, 0.5, -3)
    assert seen["stop"] == ["END", "\n\n"]
    assert seen["response_format"] == schema
    client.chat.completions.create(model="x", messages=MESSAGES, stop="END", response_format={"type": "text"})
    seen = engine.stats().last_request
    assert seen["stop"] == ["END"]
    assert (seen["seed"], seen["response_format"]) == (None, None)
    assert (seen["max_tokens"], seen["temperature"], seen["top_p"]) == (12288, 0.7, 0.95), "the settings' defaults"


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(text="One two three four five.", chunks=6, token_ms=20)
    chunks = list(client.chat.completions.create(model="x", messages=MESSAGES, stream=True))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(texts) == "One two three four five."
    assert len(texts) > 2, "piece by piece"
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    for chunk in chunks:
        assert ChatCompletionChunk.model_validate(chunk.model_dump(exclude_unset=True), strict=True) == chunk


def test_a_streams_usage_comes_last_and_without_choices(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(text="One two three four five.", chunks=6)
    chunks = list(
        client.chat.completions.create(
            model="x", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    *rest, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 6
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in rest)
    assert rest[-1].choices[0].finish_reason == "stop"


def test_the_clients_own_stream_helper(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(tool_call=True)
    with client.chat.completions.stream(model="x", messages=MESSAGES, tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        completion = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = calls_of(completion.choices[0].message.tool_calls)
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    assert completion.choices[0].finish_reason == "tool_calls"


def test_tool_calls_there_and_back(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(tool_call=True)
    completion = client.chat.completions.create(model="x", messages=MESSAGES, tools=[TOOL], tool_choice="auto")
    assert revalidated(completion) == completion
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = calls_of(choice.message.tool_calls)
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    engine.behave(text="It rains.")
    history: list[Any] = [
        *MESSAGES,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    answer = client.chat.completions.create(model="x", messages=history, tools=[TOOL])
    assert answer.choices[0].message.content == "It rains."


def test_a_named_call_ends_as_a_call(client: openai.OpenAI, engine: StubEngine) -> None:
    """vLLM says `stop` after it."""
    engine.behave(tool_call=True)
    named: Any = {"type": "function", "function": {"name": "weather"}}
    create: Any = client.chat.completions.create
    asked = {"model": "x", "messages": MESSAGES, "tools": [TOOL], "tool_choice": named}
    assert create(**asked).choices[0].finish_reason == "tool_calls"
    *_, last = create(**asked, stream=True)
    assert last.choices[0].finish_reason == "tool_calls"


def test_a_streams_tool_call_is_named_once(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(tool_call=True, chunks=3, token_ms=20)
    chunks = list(client.chat.completions.create(model="x", messages=MESSAGES, tools=[TOOL], stream=True))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [piece.index for piece in pieces] == [0] * len(pieces)
    assert pieces[0].id
    assert pieces[0].type == "function"
    assert pieces[0].function is not None
    assert pieces[0].function.name == "weather"
    assert [(piece.id, piece.type, piece.function and piece.function.name) for piece in pieces[1:]] == [
        (None, None, None)
    ] * (len(pieces) - 1)
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert json.loads(arguments) == {"city": "Oslo"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_models(client: openai.OpenAI, v1: MinerProcess, engine: StubEngine) -> None:
    (model,) = client.models.list()
    assert model.id == engine.model == "stub/model"
    assert client.models.retrieve("stub/model") == model
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("stub/other")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_thinking_is_never_shown(client: openai.OpenAI, engine: StubEngine) -> None:
    engine.behave(text="<think>hm, secret</think>\n\nYes. <think>and more", chunks=11, token_ms=5)
    plain = client.chat.completions.create(model="x", messages=MESSAGES)
    assert plain.choices[0].message.content == "Yes. "
    chunks = list(client.chat.completions.create(model="x", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Yes. "


def test_errors_are_the_clients_own_exceptions(client: openai.OpenAI, v1: MinerProcess, faulty: StubEngine) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="x", messages=MESSAGES, n=3)
    assert (bad.value.param, bad.value.code, bad.value.type) == ("n", "unsupported_parameter", "invalid_request_error")
    with sync_client(v1, "wrong") as stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    faulty.behave(fault="over_context")
    for stream in (False, True):  # a status, not an event: nothing was sent yet
        with pytest.raises(openai.BadRequestError, match="context") as too_long:
            client.chat.completions.create(model="x", messages=MESSAGES, stream=stream)
        error = too_long.value
        assert (error.type, error.param, error.code) == ("invalid_request_error", "messages", "context_length_exceeded")
    faulty.behave(fault="error_500")
    with pytest.raises(openai.InternalServerError) as down:
        client.chat.completions.create(model="x", messages=MESSAGES)
    assert down.value.status_code == 503
    assert down.value.code == "backend"
    assert int(down.value.response.headers["retry-after"]) >= 1


async def test_the_asynchronous_client(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="One two three.", chunks=3, token_ms=5)
    async with async_client(v1) as client:
        completion = await client.chat.completions.create(model="x", messages=MESSAGES)
        assert completion.choices[0].message.content == "One two three."
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "One two three."
        assert [model.id async for model in client.models.list()] == [engine.model]
