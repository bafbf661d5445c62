"""Thinking is taken out of a stream while it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.backend import Delta
from app.domain.draft import Draft
from app.domain.shown_text import ShownText

PIECES = ["<think>", "</think>", "<thi", "<", "</", " ", "\n\n", "a", "b c", "\N{NO-BREAK SPACE}", "é"]


def shown(*pieces: str) -> list[str]:
    """What each piece lets out, and what comes at the end."""
    text = ShownText()
    return [*(text.push(piece) for piece in pieces), text.finish()]


def whole(text: str) -> str:
    """What a plain answer shows of it."""
    draft = Draft()
    draft.add(Delta(text=text))
    return draft.text()


@pytest.mark.parametrize(
    ("pieces", "out"),
    [
        (["ab", "c"], ["ab", "c", ""]),
        (["a<th", "en>"], ["a", "<then>", ""]),
        (["a<", " b"], ["a", "< b", ""]),
        (["a<think>x", "y</think> b"], ["a", "b", ""]),
        (["<think>x</th", "ink>", "\n", "\nb"], ["", "", "", "b", ""]),
        (["a<think>open"], ["a", ""]),
        (["a<thin"], ["a", "<thin"]),
        (["<think></think><think>x</think>b"], ["b", ""]),
        (["a </think> b"], ["a </think> b", ""]),
    ],
)
def test_piece_by_piece(pieces: list[str], out: list[str]) -> None:
    assert shown(*pieces) == out


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.data())
def test_however_it_is_cut_it_is_what_a_plain_answer_shows(text: str, data: st.DataObject) -> None:
    pieces: list[str] = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    out = "".join(shown(*pieces))
    assert out == whole(text) or ("</think>" in out and out.endswith(whole(text)))


def test_nothing_is_kept_of_a_long_thought() -> None:
    text = ShownText()
    text.push("<think>")
    for _ in range(1000):
        assert text.push("x" * 1000) == ""
    assert len(text._held) < 10  # pyright: ignore[reportPrivateUsage]
