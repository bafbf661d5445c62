"""The arithmetic of `just bench-engine`: from when each piece of text came to medians and ratios."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

DISTURBED: Final = 0.05
"""The share of all processors in the hands of others from which on a round says little."""
ENGINE: Final = "engine"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: when it was asked for and when each piece of its text came, in seconds of one clock."""

    asked: float
    pieces: list[float]
    tokens: int

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.pieces[0] - self.asked

    @property
    def gaps(self) -> list[float]:
        """Seconds between one piece and the next; engines send a piece for each token."""
        return [after - before for before, after in zip(self.pieces, self.pieces[1:], strict=False)]


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """All prompts once, on one side, so many at once."""

    side: str
    at_once: int
    turn: int
    seconds: float
    answers: list[Written]
    others: float
    """The share of all processors that other processes had meanwhile."""

    @property
    def rate(self) -> float:
        """Tokens a second of all answers together."""
        return sum(answer.tokens for answer in self.answers) / self.seconds

    @property
    def disturbed(self) -> bool:
        """Whether others took too much of the machine for the figures to tell of the engine."""
        return self.others > DISTURBED


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One side at so many at once. Rates in tokens a second, times in milliseconds; medians over its rounds."""

    side: str
    at_once: int
    rate: float
    first_p50: float
    first_p95: float
    gap_p50: float
    gap_p95: float
    tokens: int
    """The least of any round: less than wanted means that the model stopped by itself."""
    rounds: int
    disturbed: int
    """Rounds left out because of others; when all were disturbed, none is left out."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's rate by a peer's: the median over the turns, each of which ran both within seconds."""

    peer: str
    at_once: int
    value: float
    turns: int
    must: float | None = None
    aim: float | None = None

    @property
    def verdict(self) -> str:
        """How it stands; more is better."""
        if self.must is None or self.aim is None:
            return ""
        return "aim" if self.value >= self.aim else "must" if self.value >= self.must else "under"


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(rounds: Sequence[Round]) -> Figures:
    """What rounds of one side and one number at once come to."""
    counted = quiet(rounds)

    def median_ms(values: Iterable[float]) -> float:
        return 1000 * statistics.median(values)

    return Figures(
        side=rounds[0].side,
        at_once=rounds[0].at_once,
        rate=statistics.median(one.rate for one in counted),
        first_p50=median_ms(quantile((answer.first for answer in one.answers), 0.5) for one in counted),
        first_p95=median_ms(quantile((answer.first for answer in one.answers), 0.95) for one in counted),
        gap_p50=median_ms(quantile(_gaps(one), 0.5) for one in counted),
        gap_p95=median_ms(quantile(_gaps(one), 0.95) for one in counted),
        tokens=min(sum(answer.tokens for answer in one.answers) for one in rounds),
        rounds=len(rounds),
        disturbed=sum(one.disturbed for one in rounds),
    )


def quiet(rounds: Sequence[Round]) -> Sequence[Round]:
    """The rounds that nobody disturbed; all of them where that is none."""
    return [one for one in rounds if not one.disturbed] or rounds


def ratio(
    engine: Sequence[Round], peer: Sequence[Round], *, must: float | None = None, aim: float | None = None
) -> Ratio:
    """From rounds of the same turns; a turn counts as disturbed if either of its rounds was."""
    theirs = {one.turn: one for one in peer}
    pairs = [(one, theirs[one.turn]) for one in engine]
    undisturbed = [pair for pair in pairs if not any(one.disturbed for one in pair)] or pairs
    return Ratio(
        peer=peer[0].side,
        at_once=peer[0].at_once,
        value=statistics.median(ours.rate / other.rate for ours, other in undisturbed),
        turns=len(undisturbed),
        must=must,
        aim=aim,
    )


def _gaps(one: Round) -> list[float]:
    """All gaps of a round; one of zero where each answer came in one piece."""
    return [gap for answer in one.answers for gap in answer.gaps] or [0.0]
