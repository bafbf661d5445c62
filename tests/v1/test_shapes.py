"""The raw bytes of /v1 against JSON Schemas made of the OpenAI package's own types, with nothing beside them."""

from typing import Any

import jsonschema
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.miner.http import once
from tests.miner.process import MinerProcess, StubEngine
from tests.v1.asking import HEADERS, TOOL, body, events, post


def closed(node: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """The schema, with no property allowed that it doesn't name."""
    if isinstance(node, list):
        return [closed(one) for one in node]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(node, dict):
        return node
    inner: dict[str, Any] = {name: closed(one) for name, one in node.items()}  # pyright: ignore[reportUnknownVariableType]
    return inner | {"additionalProperties": False} if "properties" in inner else inner


def check(body_or_event: object, model: type[BaseModel]) -> None:
    """Fail unless it is one."""
    jsonschema.Draft202012Validator(closed(model.model_json_schema())).validate(body_or_event)  # pyright: ignore[reportUnknownMemberType]


def test_the_schemas_would_find_something() -> None:
    """They are made of another package's types: see that they still say no."""
    good: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
    }
    check(good, ChatCompletionChunk)
    choice = good["choices"][0]
    wrongs: list[dict[str, Any]] = [
        {"object": "chat.completion"},
        {"extra": 1},
        {"created": "1"},
        {"choices": [choice | {"finish_reason": "end"}]},
        {"choices": [choice | {"delta": {"content": 5}}]},
        {"choices": [choice | {"delta": {"text": "a"}}]},
        {"choices": [{"delta": {}}]},
    ]
    for wrong in wrongs:
        with pytest.raises(jsonschema.ValidationError):
            check(good | wrong, ChatCompletionChunk)


@pytest.mark.parametrize(
    ("behaviour", "fields"),
    [
        ({"chunks": 5}, {}),
        ({"chunks": 5}, {"max_tokens": 3}),
        ({"tool_call": True}, {"tools": [TOOL]}),
        ({"text": "<think>a</think>b"}, {}),
        ({"text": "x", "fault": "surrogate"}, {}),
    ],
    ids=["text", "cut", "tool", "thinking", "surrogate"],
)
async def test_plain_and_streamed_bodies(
    v1: MinerProcess, engine: StubEngine, behaviour: dict[str, Any], fields: dict[str, Any]
) -> None:
    engine.behave(**behaviour)
    plain = await post(v1, body(**fields))
    assert (plain.status, plain.headers["content-type"]) == (200, "application/json")
    check(plain.json(), ChatCompletion)
    for options in ({}, {"stream_options": {"include_usage": True}}):
        streamed = await post(v1, body(stream=True, **fields, **options))
        assert streamed.status == 200
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert streamed.headers["cache-control"] == "no-cache"
        assert streamed.headers["transfer-encoding"] == "chunked"
        *chunks, done = events(streamed.body)
        assert done == "[DONE]"
        for chunk in chunks:
            check(chunk, ChatCompletionChunk)
        identity = {tuple(chunk[name] for name in ("id", "created", "model", "system_fingerprint")) for chunk in chunks}
        assert len(identity) == 1
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [len(chunk["choices"]) for chunk in chunks] == [1] * (len(chunks) - bool(options)) + [0] * bool(options)
        assert [("usage" in chunk) for chunk in chunks] == [bool(options)] * len(chunks)
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
        assert choices[-1]["finish_reason"] == plain.json()["choices"][0]["finish_reason"]
        assert choices[-1]["delta"] == {}
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert text == (plain.json()["choices"][0]["message"]["content"] or "")


async def test_models(v1: MinerProcess, engine: StubEngine) -> None:
    listed = (await once(v1.admin_port, "GET", "/v1/models", headers=HEADERS)).json()
    assert set(listed) == {"object", "data"}
    assert listed["object"] == "list"
    for model in listed["data"]:
        check(model, Model)
    for path in ("/v1/models/stub/model", "/v1/models/stub%2Fmodel"):
        reply = await once(v1.admin_port, "GET", path, headers=HEADERS)
        assert [reply.json()] == listed["data"]
