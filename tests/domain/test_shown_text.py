"""Thinking is taken out of a stream while it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.backend import Delta
from app.domain.draft import Draft
from app.domain.shown_text import ShownText

PIECES = ["<think>", "</think>", "<thi", "<", "</", " ", "\n\n", "a", "b c", "\N{NO-BREAK SPACE}", "é"]


def shown(*pieces: str, cut: bool = False) -> list[str]:
    """What each piece lets out, and what comes at the end."""
    text = ShownText()
    return [*(text.push(piece) for piece in pieces), text.finish(cut=cut)]


def whole(text: str, *, cut: bool) -> str:
    """What a plain answer shows of it."""
    draft = Draft()
    draft.add(Delta(text=text))
    draft.add(Delta(finish="length" if cut else "stop"))
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


@pytest.mark.parametrize(("pieces", "out"), [(["a<thin"], ["a", ""]), (["a<"], ["a", ""]), (["a<b"], ["a<b", ""])])
def test_half_a_tag_at_a_cut_stays_unseen(pieces: list[str], out: list[str]) -> None:
    assert shown(*pieces, cut=True) == out


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.booleans(), st.data())
def test_however_it_comes_in_pieces_it_is_what_a_plain_answer_shows(text: str, cut: bool, data: st.DataObject) -> None:  # noqa: FBT001 - drawn
    pieces: list[str] = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    out = "".join(shown(*pieces, cut=cut))
    assert out == whole(text, cut=cut) or ("</think>" in out and out.endswith(whole(text, cut=cut)))


def test_nothing_is_kept_of_a_long_thought() -> None:
    text = ShownText()
    text.push("<think>")
    for _ in range(1000):
        assert text.push("x" * 1000) == ""
    assert len(text._held) < 10  # pyright: ignore[reportPrivateUsage]
