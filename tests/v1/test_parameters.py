"""Forty extreme parameters: clamped, or refused by name, and the miner goes on."""

import json
from typing import Any

import pytest

from app.domain.completion_request import CompletionReader
from app.errors import ParameterRefused
from tests.miner.canary import PROMPT
from tests.miner.http import post_whatever_happens
from tests.miner.process import MinerProcess, StubEngine
from tests.v1.asking import COMPLETIONS, HEADERS, MESSAGES, TOOL, body, error_of, post

HUGE = "9" * 400
CALL: Any = {"type": "function", "function": {"name": "nothing"}}

# JSON text of the parameter, and who is named in the refusal.
REFUSED: list[tuple[str, str, str]] = [
    ("max_tokens", "0", "max_tokens"),
    ("max_tokens", "-1", "max_tokens"),
    ("max_tokens", "1.5", "max_tokens"),
    ("max_tokens", '"NaN"', "max_tokens"),
    ("max_tokens", HUGE, "max_tokens"),
    ("max_tokens", "-1e308", "max_tokens"),
    ("max_completion_tokens", "0", "max_completion_tokens"),
    ("max_completion_tokens", "[]", "max_completion_tokens"),
    ("temperature", "-0.1", "temperature"),
    ("temperature", "2.1", "temperature"),
    ("temperature", "1e308", "temperature"),
    ("temperature", "1e400", "temperature"),
    ("temperature", '"NaN"', "temperature"),
    ("temperature", "true", "temperature"),
    ("top_p", "-1", "top_p"),
    ("top_p", "1e308", "top_p"),
    ("top_p", '"Infinity"', "top_p"),
    ("seed", "1e308", "seed"),
    ("seed", "1.5", "seed"),
    ("seed", HUGE, "seed"),
    ("seed", str(2**63), "seed"),
    ("n", "0", "n"),
    ("n", "2", "n"),
    ("n", "-1", "n"),
    ("n", "1e308", "n"),
    ("n", "1e400", "n"),
    ("n", "true", "n"),
    ("stop", '""', "stop"),
    ("stop", '["a", ""]', "stop[1]"),
    ("stop", '["1", "2", "3", "4", "5"]', "stop"),
    ("stop", "7", "stop"),
    ("stop", json.dumps("x" * 5_000_000), "stop"),
    ("frequency_penalty", "1e308", "frequency_penalty"),
    ("frequency_penalty", '"NaN"', "frequency_penalty"),
    ("presence_penalty", "-2", "presence_penalty"),
    ("presence_penalty", "1e400", "presence_penalty"),
    ("logit_bias", '{"50256": -100}', "logit_bias"),
    ("logit_bias", json.dumps({str(at): 1 for at in range(100_000)}), "logit_bias"),
    ("logprobs", "true", "logprobs"),
    ("top_logprobs", "20", "top_logprobs"),
    ("modalities", '["text", "audio"]', "modalities"),
    ("audio", '{"voice": "x", "format": "wav"}', "audio"),
    ("reasoning_effort", '"high"', "reasoning_effort"),
    ("web_search_options", "{}", "web_search_options"),
    ("functions", '[{"name": "f"}]', "functions"),
    ("function_call", '"auto"', "function_call"),
    ("top_k", "5", "top_k"),
    ("x" * 100_000, "1", "x" * 64),
    ("stream", '"yes"', "stream"),
    ("stream", "1", "stream"),
    ("stream_options", '{"include_usage": true}', "stream_options"),
    ("parallel_tool_calls", "0", "parallel_tool_calls"),
    ("response_format", '{"type": "xml"}', "response_format.type"),
    ("response_format", '{"type": "json_schema"}', "response_format"),
    ("response_format", '{"type": "json_schema", "json_schema": {"schema": {}}}', "response_format.json_schema"),
    ("response_format", '"json"', "response_format"),
    ("tools", "[{}]", "tools[0]"),
    ("tools", '[{"type": "custom", "custom": {"name": "x"}}]', "tools[0].type"),
    ("tools", json.dumps([TOOL] * 513), "tools"),
    ("tool_choice", '"sometimes"', "tool_choice"),
    ("tool_choice", '"required"', "tool_choice"),
    ("tool_choice", json.dumps(CALL), "tool_choice"),
    ("messages", "null", "messages"),
    ("messages", "[]", "messages"),
    ("messages", '"Hi"', "messages"),
    ("messages", '[{"role": "user", "content": 5}]', "messages[0].content"),
    ("messages", '[{"role": "robot", "content": "x"}]', "messages[0].role"),
    ("messages", '[{"role": "user", "content": [{"type": "image_url"}]}]', "messages[0].content[0].type"),
    ("messages", json.dumps([{"role": "user", "content": "x"}] * 4097), "messages"),
    ("model", "5", "model"),
]
# JSON text of the parameter, and what of it reaches the engine.
CLAMPED: list[tuple[str, str, dict[str, object]]] = [
    ("max_tokens", "1e308", {"max_tokens": None}),
    ("max_tokens", "5.0", {"max_tokens": 5}),
    ("max_tokens", "null", {"max_tokens": 12288}),
    ("max_completion_tokens", str(2**62), {"max_tokens": None}),
    ("temperature", "0", {"temperature": 0}),
    ("temperature", "-0.0", {"temperature": 0}),
    ("temperature", "1e-308", {"temperature": 1e-308}),
    ("temperature", "2", {"temperature": 2}),
    ("temperature", "null", {"temperature": 0.7}),
    ("top_p", "0", {"top_p": 0.01}),
    ("top_p", "1e-308", {"top_p": 0.01}),
    ("seed", str(-(2**63)), {"seed": -(2**63)}),
    ("stop", "[]", {"stop": None}),
    ("stop", "null", {"stop": None}),
    ("n", "1.0", {}),
    ("n", "null", {}),
    ("logit_bias", "{}", {}),
    ("logprobs", "false", {}),
    ("top_logprobs", "0", {}),
    ("frequency_penalty", "0.0", {}),
    ("presence_penalty", "-0", {}),
    ("modalities", '["text"]', {}),
    ("service_tier", '"auto"', {}),
    ("prediction", '{"type": "content", "content": "x"}', {}),
    ("top_k", "null", {}),
    ("tool_choice", '"none"', {"tool_choice": None}),
    ("tools", "[]", {}),
    ("model", json.dumps("x" * 100_000), {}),
]


def request(name: str, value: str) -> bytes:
    """A request with that one parameter, whose value is JSON text."""
    fields = {"model": '"x"', "messages": json.dumps(MESSAGES)} | {name: value}
    return ("{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in fields.items()) + "}").encode()


def short(value: object) -> str:
    """A test's name."""
    return str(value)[:24]


def test_there_are_forty() -> None:
    assert len(REFUSED) + len(CLAMPED) >= 40


@pytest.mark.parametrize(("name", "value", "param"), REFUSED, ids=short)
async def test_refused_by_name(v1: MinerProcess, engine: StubEngine, name: str, value: str, param: str) -> None:
    reply = await post(v1, request(name, value))
    assert reply.status == 400
    error = error_of(reply)
    assert error["param"] == param
    assert param.partition("[")[0].partition(".")[0] in error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(reply.body) < 500
    assert PROMPT not in reply.body.decode()
    assert reply.seconds < 2
    assert engine.stats().requests == 0


@pytest.mark.parametrize(("name", "value", "seen"), CLAMPED, ids=short)
async def test_clamped(v1: MinerProcess, engine: StubEngine, name: str, value: str, seen: dict[str, object]) -> None:
    engine.behave(text="ok")
    reply = await post(v1, request(name, value))
    assert (reply.status, reply.body[:500]) == (200, reply.body[:500])
    last = engine.stats().last_request
    assert {key: last[key] for key in seen} == seen


async def test_nan_itself_is_no_json(v1: MinerProcess) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "0x10", "01"):
        reply = await post(v1, request("temperature", value))
        assert reply.status == 400
        assert "malformed" in error_of(reply)["message"]


def test_ten_megabytes_of_stop(v1: MinerProcess) -> None:
    reply = post_whatever_happens(v1.admin_port, COMPLETIONS, body(stop="a" * 10_000_000), HEADERS)
    assert reply.status == 413
    assert error_of(reply)["code"] == "large_body"


async def test_after_all_that_the_miner_answers(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="ok")
    assert (await post(v1, body())).json()["choices"][0]["message"]["content"] == "ok"
    assert v1.alive


def test_what_is_passed_on_stays_byte_for_byte() -> None:
    messages = b'[ {"role":"user",  "content":"caf\\u00e9", "name":"x"} ]'
    tools = b'[{"type": "function","function":{"name":"f", "strict": true,\n"parameters":{"b":1, "a":2}}}]'
    schema = b'{"type":"json_schema", "json_schema":{"name":"n","schema":{"z":1,"a":{}}}}'
    text = (
        b'{"messages":' + messages + b', "tools":' + tools + b',"tool_choice": "auto" ,"response_format":'
        + schema + b', "parallel_tool_calls": false, "stream": true, "stream_options": {"include_usage": true}}'
    )  # fmt: skip
    read = CompletionReader().read(text)
    assert (read.messages, read.tools, read.response_format) == (messages, tools, schema)
    assert (read.tool_choice, read.one_call, read.stream, read.include_usage) == (b'"auto"', True, True, True)


def test_max_completion_tokens_wins() -> None:
    assert CompletionReader().read(body(max_tokens=5, max_completion_tokens=7)).max_tokens == 7
    assert CompletionReader().read(body(max_tokens=5, max_completion_tokens=None)).max_tokens == 5
    read = CompletionReader().read(body(max_tokens=1e308))
    assert read.max_tokens == 2**31 - 1


def test_a_named_choice_among_the_tools_is_taken() -> None:
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    read = CompletionReader().read(body(tools=[TOOL], tool_choice=choice))
    assert read.tool_choice is not None
    assert json.loads(read.tool_choice) == choice


@pytest.mark.parametrize(
    ("name", "value", "param"), [one for one in REFUSED if '"' in one[1] and one[0] != "stop"], ids=short
)
def test_a_value_is_never_repeated(name: str, value: str, param: str) -> None:
    with pytest.raises(ParameterRefused) as refused:
        CompletionReader().read(request(name, value.replace('"', '"canary-value-', 1)))
    assert refused.value.param is not None
    assert "canary-value" not in refused.value.detail
