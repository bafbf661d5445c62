"""The stub that stands in for vLLM in all other tests says what the real one says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.miner.process import StubEngine, fetch
from tests.vllm.server import CONTEXT, MODEL, VllmServer

HEADERS = {"content-type": "application/json"}
HELLO = [{"role": "user", "content": "Say hello."}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "strict": True, "parameters": {"type": "object", "properties": {}}},
}
COUNTED = {"include_usage": True, "continuous_usage_stats": True}


@pytest.fixture(scope="module")
def stub() -> Iterator[StubEngine]:
    with StubEngine("--max-model-len", str(CONTEXT), model=MODEL) as made:
        yield made


def post(port: int, **fields: object) -> tuple[int, bytes]:
    body = json.dumps({"model": MODEL, "messages": HELLO, "temperature": 0} | fields).encode()
    status, _, answer = fetch(port, "/v1/chat/completions", method="POST", body=body, headers=HEADERS, seconds=120)
    return status, answer


def shape(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """What is there, without what it holds: names and kinds, in order."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return type(value).__name__


def events(data: bytes) -> list[Any]:
    """The shapes of a stream's events in order, each once."""
    assert data.endswith(b"data: [DONE]\n\n")
    seen: list[Any] = []
    for event in data.decode().split("\n\n")[:-2]:
        found = shape(json.loads(event.removeprefix("data: ")))
        if found not in seen:
            seen.append(found)
    return seen


@pytest.mark.parametrize("options", [COUNTED, {"include_usage": True}, None], ids=str)
def test_a_streams_events(vllm: VllmServer, stub: StubEngine, options: object) -> None:
    stub.behave(text="Hello there.", chunks=2)
    asked = {"stream": True, "stream_options": options, "max_tokens": 200}
    real, ours = (events(post(port, **asked)[1]) for port in (vllm.port, stub.port))
    assert ours == real


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
def test_a_streamed_call(vllm: VllmServer, stub: StubEngine, choice: object) -> None:
    stub.behave(tool_call=True)
    asked = {"stream": True, "tools": [TOOL], "tool_choice": choice, "max_tokens": 100}
    real, ours = (post(port, **asked)[1] for port in (vllm.port, stub.port))
    assert events(ours) == events(real)
    said = [re.findall(rb'"finish_reason":"(\w+)"', data) for data in (ours, real)]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": CONTEXT + 1},
        {"messages": [{"role": "user", "content": "word " * 3 * CONTEXT}]},
        {"messages": [{"role": "user", "content": "word " * 3 * CONTEXT}], "max_tokens": 100},
        {"model": "nix"},
        {"messages": []},
        {"top_p": 0},
        {"temperature": -1},
    ],
    ids=",".join,
)
def test_refusals(vllm: VllmServer, stub: StubEngine, asked: dict[str, object]) -> None:
    """Status, shape, kind; the words where the miner reads them."""
    (status, real), (ours_status, ours) = (post(port, **asked) for port in (vllm.port, stub.port))
    assert ours_status == status
    assert shape(json.loads(ours)).keys() == shape(json.loads(real)).keys()
    error, ours_error = json.loads(real)["error"], json.loads(ours)["error"]
    assert ours_error.keys() == error.keys()
    assert (ours_error["type"], ours_error["code"]) == (error["type"], error["code"])
    if "max_tokens" in asked or asked.get("messages"):
        assert (ours_error["message"], ours_error["param"]) == (error["message"], error["param"])


def test_max_tokens_may_be_more_than_what_is_left(vllm: VllmServer, stub: StubEngine) -> None:
    for port in (vllm.port, stub.port):
        assert post(port, max_tokens=CONTEXT - 2, stop=["e"])[0] == 200


def test_health_models_and_what_is_not_there(vllm: VllmServer, stub: StubEngine) -> None:
    for path in ("/health", "/nix"):
        real, ours = (fetch(port, path) for port in (vllm.port, stub.port))
        assert (ours[0], ours[2]) == (real[0], real[2])
    real, ours = (json.loads(fetch(port, "/v1/models")[2]) for port in (vllm.port, stub.port))
    card, ours_card = real["data"][0], ours["data"][0]
    assert ours_card.keys() == card.keys()
    assert (ours_card["id"], ours_card["max_model_len"]) == (card["id"], card["max_model_len"])
