"""What of a text may leave the miner when the time is up (design decision 9)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.backend import Delta, FinishReason, ToolCallDelta
from app.domain.draft import Draft


def _draft(*deltas: Delta) -> Draft:
    draft = Draft()
    for delta in deltas:
        draft.add(delta)
    return draft


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["plain"], "plain"),
        (["<think>why</think>\n\nbecause"], "because"),
        (["<th", "ink>why</thi", "nk>because"], "because"),
        (["so <think>never closed"], "so "),
        (["<think>a</think>b<think>c</think>d"], "bd"),
        (["<think>a</think>b<think>c"], "b"),
        (["<think>"], ""),
        (["opened by the prompt</think>\n\nhere"], "here"),
        (["a</think>b<think>c</think>d"], "bd"),
    ],
)
def test_thinking_never_leaves(pieces: list[str], shown: str) -> None:
    assert _draft(*(Delta(text=piece) for piece in pieces)).text() == shown


@pytest.mark.parametrize(
    ("finish", "shown"), [(None, "so "), ("length", "so "), ("stop", "so <thi"), ("tool_calls", "so <thi")]
)
def test_half_an_opening_tag_does_not_outlive_a_cut(finish: FinishReason | None, shown: str) -> None:
    assert _draft(Delta(text="so <th"), Delta(text="i"), Delta(finish=finish)).text() == shown


@given(st.lists(st.sampled_from(["<think>", "</think>", "text ", "<thi", "nk>", "\n"]), max_size=12))
def test_no_open_thinking_in_any_arrangement(pieces: list[str]) -> None:
    assert "<think>" not in _draft(*(Delta(text=piece) for piece in pieces)).text()


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        (["A whole sentence."], True),
        (["A whole sentence", ". "], True),
        (['He said "yes."'], True),
        (["(Really?)"], True),
        (["これは文です。"], True),
        (["a list:\n"], True),
        (["half a sen"], False),
        (["3.", "14"], False),
        (["<think>done.</think>"], False),
        (["<think>done."], False),
        (["   \n"], False),
        ([], False),
    ],
)
def test_a_soft_stop_waits_for_a_sentence_end(pieces: list[str], *, ends: bool) -> None:
    assert _draft(*(Delta(text=piece) for piece in pieces)).ends_sentence() is ends


def test_no_soft_stop_while_a_tool_call_is_being_written() -> None:
    draft = _draft(Delta(text="Let me see."), Delta(tool_calls=(ToolCallDelta(0, "a", "look", '{"x":'),)))
    assert not draft.ends_sentence()


def test_calls_are_put_together_from_their_pieces() -> None:
    draft = _draft(
        Delta(tool_calls=(ToolCallDelta(0, "a", "look", '{"x"'), ToolCallDelta(1, "b", "go", ""))),
        Delta(tool_calls=(ToolCallDelta(0, None, None, ": 1}"),), finish="tool_calls"),
    )
    calls = draft.tool_calls()
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("a", "look", '{"x": 1}'),
        ("b", "go", "{}"),
    ]
    assert draft.finish_reason(calls) == "tool_calls"


def test_half_a_call_never_leaves() -> None:
    draft = _draft(
        Delta(tool_calls=(ToolCallDelta(0, "a", "look", "{}"),)),
        Delta(tool_calls=(ToolCallDelta(1, "b", "go", '{"where": "Os'),)),
    )
    assert [call.id for call in draft.tool_calls()] == ["a"]


def test_finish_reasons() -> None:
    assert _draft(Delta(text="a", finish="stop")).finish_reason([]) == "stop"
    assert _draft(Delta(text="a", finish="length")).finish_reason([]) == "length"
    assert _draft(Delta(text="cut")).finish_reason([]) == "length"
    assert _draft(Delta(text="a", finish="tool_calls")).finish_reason([]) == "length"


def test_counts_are_the_latest_totals() -> None:
    draft = _draft(
        Delta(text="a", prompt_tokens=7, completion_tokens=1),
        Delta(text="b", completion_tokens=2),
        Delta(finish="stop"),
    )
    assert (draft.prompt_tokens, draft.completion_tokens, draft.deltas) == (7, 2, 2)
    assert draft.finished
