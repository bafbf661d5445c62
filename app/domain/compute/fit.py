"""Whether a model fits, and with how much context: the sum, and the sum in words.

All of it is computed, not measured: what the engine logs at its start is nearer to the truth.
"""

from typing import Final, Literal

import msgspec

from app.domain.compute.catalogue import GB

GIB: Final = 2**30
MIB: Final = 2**20
_STEP: Final = 1024
"""Contexts are rounded down to it."""
_SMALL_CARD: Final = 30 * GIB
_SMALL_OVERHEAD: Final = 3 * GIB // 2
_OVERHEAD: Final = 5 * GIB // 2

type Place = Literal["gpu", "ram"]


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens of context a place leaves beside the weights."""

    place: Place
    memory: int
    """Bytes of one card, or of the RAM."""
    cards: int
    """Equal cards that share weights and context (tensor parallel)."""
    utilisation: float
    """Share of the memory that the engine may take."""
    weights: int
    """Bytes, over all cards."""
    overhead: int
    """Bytes on each card, for the engine itself."""
    kv_bytes_per_token: int
    """Bytes, over all cards."""

    @property
    def left(self) -> int:
        """Bytes for the context, over all cards; negative when not even the weights fit."""
        return self.cards * (int(self.memory * self.utilisation) - self.overhead) - self.weights

    @property
    def tokens(self) -> int:
        """The context that fits, in tokens."""
        return max(0, self.left // self.kv_bytes_per_token) // _STEP * _STEP

    def needed(self, context: int) -> int:
        """Bytes that weights, overhead and a context take, over all cards."""
        return self.weights + self.cards * self.overhead + context * self.kv_bytes_per_token

    def lines(self) -> tuple[str, ...]:
        """The sum, one step a line."""
        times = f"{self.cards} x " if self.cards > 1 else ""
        what = "GPU memory" if self.place == "gpu" else "RAM"
        share = self.cards * int(self.memory * self.utilisation)
        return (
            f"{what}: {times}{self.memory // MIB} MiB = {gb(self.cards * self.memory)}",
            f"share the engine may take: x {self.utilisation:g} = {gb(share)}",
            f"weights: - {gb(self.weights)}",
            f"engine's own: - {times}{gb(self.overhead)}",
            f"left for the context: {gb(self.left)}",
            f"one token: {self.kv_bytes_per_token} bytes (2 x layers x kv heads x head dim x 2)",
            f"context that fits: {self.tokens} tokens",
        )

    def sentence(self) -> str:
        """The sum in one line."""
        times = f"{self.cards} x " if self.cards > 1 else ""
        return (
            f"{times}{self.memory // MIB} MiB x {self.utilisation:g} = "
            f"{gb(self.cards * int(self.memory * self.utilisation))}, less {gb(self.weights)} of weights and "
            f"{times}{gb(self.overhead)} overhead leaves {gb(self.left)}, and at {self.kv_bytes_per_token} bytes"
            f" a token that is a context of {self.tokens}"
        )


def gpu_overhead(memory: int, utilisation: float) -> int:
    """Bytes that the engine needs beside weights and context on a card: 1.5 GiB under 30 GiB, else 2.5.

    Just above 30 GiB it grows with the card, so that more memory never leaves less.
    """
    if memory < _SMALL_CARD:
        return _SMALL_OVERHEAD
    return min(_OVERHEAD, _SMALL_OVERHEAD + int(memory * utilisation) - int(_SMALL_CARD * utilisation))


def gb(size: int) -> str:
    """Write bytes as GB, 10^9 bytes."""
    return f"{size / GB:.1f} GB"
