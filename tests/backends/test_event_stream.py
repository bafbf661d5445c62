"""An engine's event stream, however it is cut into reads."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.openai_wire import EventStream
from app.errors import BackendUnavailable


def _event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def _text(text: str) -> bytes:
    return _event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


STREAM = (
    _event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    + _text("Grüße ")
    + b": a comment\n\n"
    + _text("☔\n\ndata: not an event")
    + _event(
        choices=[
            {
                "delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
                "finish_reason": "tool_calls",
            }
        ]
    )
    + _event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_cut_gives_the_same_text(cuts: list[int]) -> None:
    events = EventStream()
    text, finish, tokens = "", None, (0, 0)
    calls: list[tuple[str | None, str | None, str]] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        delta = events.feed(STREAM[start:end])
        if delta is None:
            continue
        text += delta.text
        calls += [(call.id, call.name, call.arguments) for call in delta.tool_calls]
        finish = delta.finish or finish
        tokens = (delta.prompt_tokens or tokens[0], delta.completion_tokens or tokens[1])
    assert text == "Grüße ☔\n\ndata: not an event"
    assert calls == [("a", "f", "{}")]
    assert (finish, tokens, events.done) == ("tool_calls", (7, 3), True)
    assert events.texts == 2, "calls and empty texts are not counted"


def test_threat_14_lone_surrogates_are_replaced() -> None:
    delta = EventStream().feed(b'data: {"choices":[{"delta":{"content":"a \\ud800 b"}}]}\n\n')
    assert delta is not None
    assert delta.text == "a ? b"


@pytest.mark.parametrize(
    "line",
    [
        b"data: not json\n\n",
        b"data: []\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"error": {"message": "secret detail"}}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b"x" * 2_000_000,
    ],
)
def test_threat_21_what_is_no_stream_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(BackendUnavailable) as failed:
        EventStream().feed(line)
    assert "secret" not in str(failed.value)
