"""Reading challenges strictly, and passing them on untouched (protocol, section 3)."""

import json
from typing import Any

import msgspec
import pytest

from app.domain.answer import Answer, AnsweredToolCall, CalledFunction, Usage, encode_answer
from app.domain.challenge import Challenge, ChallengeReader, given
from app.domain.timing import stage, with_stages
from app.errors import ContentRefused

USER = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def _read(**fields: object) -> Challenge:
    return ChallengeReader().read(json.dumps(fields).encode())


def test_messages_win_over_the_prompt_and_stay_as_they_came() -> None:
    text = b'{"messages": [ {"role":"user",  "content":"caf\\u00e9", "name":"x"} ], "prompt": "old"}'
    assert bytes(ChallengeReader().read(text).messages) == b'[ {"role":"user",  "content":"caf\\u00e9", "name":"x"} ]'


def test_a_prompt_becomes_one_user_message() -> None:
    challenge = _read(prompt='say "hi"\n☔', messages=None)
    assert json.loads(bytes(challenge.messages)) == [{"role": "user", "content": 'say "hi"\n☔'}]


def test_nulls_and_unknown_fields_are_no_trouble() -> None:
    challenge = _read(
        messages=USER, tools=None, tool_choice=None, temperature=None, max_tokens=None, metadata=None, new_field=[1]
    )
    assert given(challenge.tools) is None
    assert challenge.max_tokens is None


def test_a_choice_among_no_tools_is_none() -> None:
    assert given(_read(messages=USER, tool_choice="required").tool_choice) is None
    assert given(_read(messages=USER, tool_choice="required", tools=TOOLS).tool_choice) == b'"required"'


def test_an_empty_list_of_tools_is_none() -> None:
    assert given(_read(messages=USER, tools=[]).tools) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "neither messages nor prompt"),
        ({"messages": []}, "$.messages"),
        ({"messages": 5}, "$.messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "$.messages[0].content[0]"),
        ({"prompt": 5}, "$.prompt"),
        ({"messages": USER, "max_tokens": 0}, "$.max_tokens"),
        ({"messages": USER, "max_tokens": "many"}, "$.max_tokens"),
        ({"messages": USER, "temperature": -1}, "$.temperature"),
        ({"messages": USER, "top_p": -0.5}, "$.top_p"),
        ({"messages": USER, "tools": {}}, "$.tools"),
        ({"messages": USER, "tools": [{"type": "function"}]}, "$.tools[0]"),
        ({"messages": USER, "tools": TOOLS, "tool_choice": "all"}, "$.tool_choice"),
        ({"messages": USER, "metadata": {"timing_data": {"stages": 5}}}, "$.metadata.timing_data.stages"),
    ],
)
def test_a_fault_is_named_and_never_echoed(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ContentRefused) as refused:
        _read(**fields)
    assert named in refused.value.detail
    assert "king" not in refused.value.detail


def test_timing_keeps_every_stage_it_came_with() -> None:
    unfinished = {"stage_name": "validator_send_to_miner", "start_timestamp": 2.5, "extra": [1]}
    timing = {"correlation_id": "c", "request_start_timestamp": 1.5, "stages": [unfinished], "unknown": 1}
    challenge = _read(messages=USER, metadata={"timing_data": timing})
    assert challenge.metadata is not None
    assert challenge.metadata.timing_data is not None
    answered = with_stages(challenge.metadata.timing_data, stage("miner_inference", 10.0, 10.12345))
    sent = json.loads(msgspec.json.encode(answered))
    assert sent["stages"][0] == unfinished
    assert sent["stages"][1]["elapsed_ms"] == 123.45
    assert set(sent["stages"][1]) == {
        "stage_name", "start_timestamp", "start_datetime", "end_timestamp", "end_datetime", "elapsed_ms",
    }  # fmt: skip
    assert (sent["correlation_id"], sent["request_start_timestamp"]) == ("c", 1.5)
    assert "unknown" not in sent


def test_threat_14_an_answer_always_encodes() -> None:
    answer = Answer(
        response_text="broken \ud800 text",
        response_time_ms=1,
        tool_calls=[AnsweredToolCall("\udfff", CalledFunction("f", '{"a": "\ud83d"}'))],
        finish_reason="stop",
        usage=Usage(1, 1, 2),
    )
    sent = json.loads(encode_answer(msgspec.json.Encoder(), answer))
    assert sent["response_text"] == "broken ? text"
    assert sent["tool_calls"][0]["type"] == "function"
    assert "metadata" not in sent
