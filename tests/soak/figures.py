"""What a soak is judged by: memory and descriptors over time, and the account of the challenges."""

from itertools import pairwise
from statistics import median, median_low
from typing import Final

import msgspec

MUST_SLOPE_MB_PER_HOUR: Final = 1.0
JUDGED_AFTER_SECONDS: Final = 1200.0
"""A slope over less time than this after the warm-up says nothing: one page of a cache is many megabytes an hour."""
HOUR: Final = 3600.0
MEGA: Final = 1_000_000


class Sample(msgspec.Struct, frozen=True):
    """The steady miner at one moment without load."""

    at: float
    """Seconds since the start."""
    anonymous: int
    """Bytes of memory that no file stands behind."""
    descriptors: int


class Figures(msgspec.Struct, kw_only=True):
    """All that is told at the end."""

    seconds: float
    cycles: int
    answered: int
    refused: dict[str, int]
    lost: list[str]
    late: list[str]
    wrong: list[str]
    killed_in_flight: int
    slowest_seconds: float
    stops: int
    kills: int
    left_out: list[str]
    """Faults that this machine can't have, and why."""
    samples: list[Sample]
    warm_up_seconds: float

    @property
    def steady(self) -> list[Sample]:
        """The samples after the warm-up."""
        return [one for one in self.samples if one.at >= self.warm_up_seconds]

    @property
    def memory_slope(self) -> float | None:
        """Megabytes an hour; None with too few samples."""
        return slope([(one.at / HOUR, one.anonymous / MEGA) for one in self.steady])

    @property
    def descriptor_growth(self) -> int:
        """By how many the usual number of descriptors in the second half is over that in the first."""
        counts = [one.descriptors for one in self.steady]
        half = len(counts) // 2
        return median_low(counts[half:]) - median_low(counts[:half]) if half else 0

    def faults(self) -> list[str]:
        """What must not be, in words; none when all is well."""
        found = [f"{len(each)} {name}: {each[:3]}" for name, each in self._counted() if each]
        if not self.answered:
            found.append("no challenge was answered at all")
        if self.descriptor_growth > 0:
            found.append(f"{self.descriptor_growth} descriptors more than at first")
        grown, judged = self.memory_slope, self.seconds - self.warm_up_seconds >= JUDGED_AFTER_SECONDS
        if judged and grown is not None and grown >= MUST_SLOPE_MB_PER_HOUR:
            found.append(f"memory grows by {grown:.2f} MB an hour")
        return found

    def _counted(self) -> list[tuple[str, list[str]]]:
        return [("lost", self.lost), ("late", self.late), ("wrong", self.wrong)]


def slope(points: list[tuple[float, float]]) -> float | None:
    """The median of the slopes between all pairs of points (Theil and Sen): single outliers don't move it."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
        if later[0] > earlier[0]
    ]
    return median(slopes) if len(points) > 2 else None


def as_text(figures: Figures) -> str:
    """The report for a person."""
    grown = figures.memory_slope
    told = "too few samples" if grown is None else f"{grown:+.2f} MB an hour"
    steady = figures.steady or figures.samples
    ends = f", {steady[0].anonymous / MEGA:.1f} to {steady[-1].anonymous / MEGA:.1f} MB" if steady else ""
    steps = max((abs(b.anonymous - a.anonymous) / MEGA for a, b in pairwise(steady)), default=0.0)
    lines = [
        f"{figures.seconds / 60:.1f} min, {figures.cycles} cycles, {figures.stops} stops, {figures.kills} kills",
        f"answered {figures.answered}, the slowest after {figures.slowest_seconds:.1f} s",
        f"lost {len(figures.lost)}, late {len(figures.late)}, wrong {len(figures.wrong)}",
        f"in flight when the miner was killed or gone: {figures.killed_in_flight}",
        f"memory: {told}{ends}, steps up to {steps:.2f} MB",
        f"descriptors: {figures.descriptor_growth:+d} ({[one.descriptors for one in figures.steady]})",
        "refused, by step and status: "
        + (", ".join(f"{k}: {v}" for k, v in sorted(figures.refused.items())) or "none"),
        *(f"not done here: {each}" for each in figures.left_out),
        *(f"FAULT: {each}" for each in figures.faults()),
    ]
    return "\n".join(lines)
