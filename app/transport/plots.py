"""The dashboard's plots as SVG paths, from the cells of the last 24 hours."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from app.domain.recent import CellReport, Level

_CELL: Final = 4
"""Width of a cell; 288 of them are the 1152 of the templates' view boxes."""
_BAR_HEIGHT: Final = 40
_PLOT_HEIGHT: Final = 200
_MOST_SECONDS: Final = 65.0
_GRID_SECONDS: Final = (30, 10, 3, 1)
_HOUR_CELLS: Final = 12
_LEVELS: Final[tuple[Level, ...]] = ("idle", "good", "mixed", "bad")
_HEIGHTS: Final[dict[Level, int]] = {"idle": 10, "good": 40, "mixed": 40, "bad": 40}


class HourRow(msgspec.Struct, frozen=True):
    """One hour in the table below the bar."""

    at: float
    answered: int
    unanswered: int
    p95: float | None


class DayBar(msgspec.Struct, frozen=True):
    """The bar: a path for each level, the same in words, and by the hour."""

    paths: Sequence[tuple[Level, str]]
    text: str
    hours: Sequence[HourRow]


class LatencyPlot(msgspec.Struct, frozen=True):
    """Two lines on a scale of square roots, on which 1 s and 60 s can both be read."""

    p50: str
    p95: str
    y50: float
    y60: float
    grid: Sequence[float]
    text: str


def day_bar(cells: Sequence[CellReport]) -> DayBar:
    """Draw the bar."""
    paths: list[tuple[Level, str]] = [(level, _cells(cells, level)) for level in _LEVELS]
    counts = {level: sum(cell.level == level for cell in cells) for level in _LEVELS}
    text = (
        f"The last 24 hours in cells of five minutes: {counts['good']} with all challenges answered,"
        f" {counts['mixed']} with some, {counts['bad']} with none or not ready, {counts['idle']} without any"
    )
    hours = [_hour(cells[at : at + _HOUR_CELLS]) for at in range(0, len(cells), _HOUR_CELLS)]
    return DayBar([(level, path) for level, path in paths if path], text, hours[::-1])


def latency_plot(cells: Sequence[CellReport]) -> LatencyPlot:
    """Draw the lines."""
    worst = max((cell.p95 for cell in cells if cell.p95 is not None), default=None)
    text = "No answers in the last 24 hours"
    if worst is not None:
        text = (
            f"Seconds to answer in the last 24 hours, p50 and p95 of every five minutes; the highest p95 is {worst:.1f}"
        )
    return LatencyPlot(
        p50=_line(cells, lambda cell: cell.p50),
        p95=_line(cells, lambda cell: cell.p95),
        y50=_y(50),
        y60=_y(60),
        grid=[_y(seconds) for seconds in _GRID_SECONDS],
        text=text,
    )


def _cells(cells: Sequence[CellReport], level: Level) -> str:
    """One rectangle for each run of cells of this level."""
    parts: list[str] = []
    height = _HEIGHTS[level]
    at = 0
    while at < len(cells):
        end = at
        while end < len(cells) and cells[end].level == level:
            end += 1
        if end > at:
            width = (end - at) * _CELL
            parts.append(f"M{at * _CELL} {_BAR_HEIGHT}v-{height}h{width}v{height}z")
        at = max(end, at + 1)
    return "".join(parts)


def _hour(cells: Sequence[CellReport]) -> HourRow:
    answered = sum(cell.answered for cell in cells)
    challenges = sum(cell.challenges for cell in cells)
    p95 = max((cell.p95 for cell in cells if cell.p95 is not None), default=None)
    return HourRow(cells[0].at, answered, challenges - answered, p95)


def _line(cells: Sequence[CellReport], read: Callable[[CellReport], float | None]) -> str:
    """A step for each cell, with gaps where nothing was answered."""
    parts: list[str] = []
    joined = False
    for at, cell in enumerate(cells):
        seconds = read(cell)
        if seconds is None:
            joined = False
            continue
        parts.append(f"{'L' if joined else 'M'}{at * _CELL} {_y(seconds):g}h{_CELL}")
        joined = True
    return "".join(parts)


def _y(seconds: float) -> float:
    return round(_PLOT_HEIGHT * (1 - math.sqrt(min(seconds, _MOST_SECONDS) / _MOST_SECONDS)), 1)
