"""What the engine is asked for and what comes back: plain values, known on both sides of its thread."""

from typing import Literal

import msgspec

End = Literal["stop", "length", "cancelled", "failed"]


class Piece(msgspec.Struct, gc=False):
    """Text as it was written; the last piece of a sequence has `end`."""

    text: str
    completion_tokens: int
    end: End | None = None
    error: str = ""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of its sampler."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    grammar: str | None = None
    """GBNF that the text must match."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine is asked to write."""

    prompt: list[int]
    max_tokens: int
    hard_cut: float = float("inf")
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    tools: frozenset[str] = frozenset()
    """Names that a tool call in the answer may have."""
    urgent: bool = False
    """May use the sequence that is kept free: the probe, which must not wait behind the work it watches."""
