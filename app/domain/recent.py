"""The last 24 hours of challenges in cells of five minutes, small enough to be read at any time without a query."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from app.clock import Clock
from app.domain.challenge_log import ChallengeRecord
from app.metrics import Outcome

CELL_SECONDS: Final = 300
CELLS: Final = 288
WINDOW_SECONDS: Final = CELL_SECONDS * CELLS
LAST: Final = 50
_HOUR_CELLS: Final = 12
_ANSWERED: Final = frozenset[Outcome]({"ok", "cut"})
_BLAMELESS: Final = frozenset[Outcome]({"ok", "cut", "gone"})
MOST_HOTKEYS: Final = 1024
_LEAST_SECONDS: Final = 0.05
_STEP: Final = math.log(1.1)
"""Times are counted in bins, each 10 % wider than the one before: a quantile is right to 5 %."""

Level = Literal["idle", "good", "mixed", "bad"]
"""`good`: all answered; `mixed`: some; `bad`: none of those that came, or not ready most of the time; `idle`: none."""


class CellReport(msgspec.Struct, frozen=True):
    """Five minutes; `at` is their begin in unix seconds, times are in seconds and None without an answer."""

    at: float
    level: Level
    answered: int
    challenges: int
    p50: float | None
    p95: float | None


class HourReport(msgspec.Struct, frozen=True):
    """The last twelve cells: 55 to 60 minutes."""

    outcomes: dict[Outcome, int]
    p50: float | None
    p95: float | None
    first_token_p50: float | None
    completion_tokens: int


class Tally(msgspec.Struct, frozen=True):
    """One validator's last 24 hours: challenges answered in time, and those that were not."""

    answered: int
    unanswered: int


class _Cell:
    __slots__ = ("by_hotkey", "first_tokens", "outcomes", "report", "seconds", "tokens", "unready", "watched")

    def __init__(self) -> None:
        self.outcomes = Counter[Outcome]()
        self.seconds = Counter[int]()
        self.first_tokens = Counter[int]()
        self.by_hotkey = Counter[tuple[str, bool]]()
        self.tokens = 0
        self.watched = 0
        self.unready = 0
        self.report: CellReport | None = None
        """What was told of it last, until something changes."""


class Recent:
    """Counts what the log shows it, and how often the miner was not ready."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cells: dict[int, _Cell] = {}
        self._totals = Counter[tuple[str, bool]]()
        self._last: deque[ChallengeRecord] = deque(maxlen=LAST)

    def take(self, records: Iterable[ChallengeRecord]) -> None:
        """Count challenges that ended, in order of time."""
        for one in records:
            cell = self._cell(one.at)
            cell.outcomes[one.outcome] += 1
            cell.tokens += one.completion_tokens
            if one.seconds is not None:
                cell.seconds[_bin(one.seconds)] += 1
            if one.first_token is not None:
                cell.first_tokens[_bin(one.first_token)] += 1
            who = (one.hotkey, one.outcome in _ANSWERED)
            if who not in self._totals and len(self._totals) >= MOST_HOTKEYS:
                who = ("", who[1])
            cell.by_hotkey[who] += 1
            self._totals[who] += 1
            cell.report = None
            self._last.append(one)

    def watch(self, *, ready: bool) -> None:
        """Note whether the miner is ready now; called at even intervals."""
        cell = self._cell(self._clock.wall())
        cell.watched += 1
        cell.unready += not ready
        cell.report = None

    def last(self) -> tuple[ChallengeRecord, ...]:
        """The last challenges, the newest first."""
        return tuple(reversed(self._last))

    def cells(self) -> tuple[CellReport, ...]:
        """All cells of the last 24 hours, the oldest first."""
        return tuple(self._report(number) for number in self._numbers(CELLS))

    def hour(self) -> HourReport:
        """The last hour."""
        outcomes, seconds, first_tokens, tokens = Counter[Outcome](), Counter[int](), Counter[int](), 0
        for number in self._numbers(_HOUR_CELLS):
            cell = self._cells.get(number)
            if cell is not None:
                outcomes += cell.outcomes
                seconds += cell.seconds
                first_tokens += cell.first_tokens
                tokens += cell.tokens
        return HourReport(
            dict(outcomes), _quantile(seconds, 0.5), _quantile(seconds, 0.95), _quantile(first_tokens, 0.5), tokens
        )

    def of(self, hotkey: str) -> Tally:
        """One validator's share of the last 24 hours."""
        return Tally(self._totals[hotkey, True], self._totals[hotkey, False])

    def _numbers(self, count: int) -> Iterator[int]:
        now = int(self._clock.wall() // CELL_SECONDS)
        return iter(range(now - count + 1, now + 1))

    def _cell(self, at: float) -> _Cell:
        number = int(at // CELL_SECONDS)
        cell = self._cells.get(number)
        if cell is None:
            self._forget()
            cell = self._cells[number] = _Cell()
        return cell

    def _forget(self) -> None:
        """Drop what is older than the window, or from a time that the clock was set back from."""
        now = int(self._clock.wall() // CELL_SECONDS)
        for number in [number for number in self._cells if not now - CELLS < number <= now]:
            self._totals -= self._cells.pop(number).by_hotkey

    def _report(self, number: int) -> CellReport:
        cell = self._cells.get(number)
        if cell is None:
            return CellReport(number * CELL_SECONDS, "idle", 0, 0, None, None)
        if cell.report is None:
            answered = sum(cell.outcomes[outcome] for outcome in _ANSWERED)
            cell.report = CellReport(
                number * CELL_SECONDS,
                _level(cell, answered),
                answered,
                cell.outcomes.total(),
                _quantile(cell.seconds, 0.5),
                _quantile(cell.seconds, 0.95),
            )
        return cell.report


def _level(cell: _Cell, answered: int) -> Level:
    unanswered = sum(count for outcome, count in cell.outcomes.items() if outcome not in _BLAMELESS)
    if cell.unready * 2 > cell.watched or (unanswered and not answered):
        return "bad"
    if unanswered or cell.unready:
        return "mixed"
    return "good" if answered else "idle"


def _bin(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, _LEAST_SECONDS) / _LEAST_SECONDS) / _STEP))


def _quantile(bins: Counter[int], share: float) -> float | None:
    """The middle of the bin in which the quantile lies."""
    wanted = math.ceil(bins.total() * share)
    for number in sorted(bins):
        wanted -= bins[number]
        if wanted <= 0:
            return round(_LEAST_SECONDS * math.exp(_STEP * (number - 0.5)), 3)
    return None
