"""The soak in little: one cycle of everything, and its arithmetic."""

from pathlib import Path

import msgspec
import pytest

from tests.miner.process import StubEngine
from tests.soak.figures import Figures, Sample, slope
from tests.soak.soak import Plan, Soak, loud


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_lost_late_or_wrong(tmp_path: Path) -> None:
    soak = Soak(tmp_path, StubEngine(), Plan(seconds=1, short=True), loud)
    try:
        figures = await soak.run()
    finally:
        soak.engine.stop()
    assert figures.faults() == []
    assert figures.stops == 1
    assert not soak.steady.survivors()
    if not figures.left_out:  # the step was seen: else the miner's clock was never off
        assert any(step.startswith("clock an hour off") for step in figures.refused)
    for each in figures.left_out:
        loud(f"THE SOAK LEFT OUT {each}")


def figures(**changed: object) -> Figures:
    samples = [Sample(at, 80_000_000, 30) for at in range(0, 3600, 180)]
    plain = Figures(
        seconds=3600, cycles=20, answered=1000, refused={}, lost=[], late=[], wrong=[], killed_in_flight=0,
        slowest_seconds=45, stops=10, kills=10, left_out=[], samples=samples, warm_up_seconds=900,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changed)


def test_a_good_run_has_no_fault() -> None:
    assert figures().faults() == []


@pytest.mark.parametrize("name", ["lost", "late", "wrong"])
def test_each_challenge_counts(name: str) -> None:
    assert figures(**{name: ["plain: one"]}).faults()


def test_growth_after_the_warm_up_is_a_fault() -> None:
    grows = [Sample(at, 80_000_000 + at * 400, 30) for at in range(0, 3600, 180)]
    assert figures(samples=grows).memory_slope == pytest.approx(1.44)
    assert figures(samples=grows).faults()
    warms = [Sample(at, 80_000_000 + min(at, 900) * 4000, 30) for at in range(0, 3600, 180)]
    assert figures(samples=warms).faults() == []


def test_descriptors_that_grow_are_a_fault() -> None:
    grows = [Sample(at, 80_000_000, 30 + at // 600) for at in range(0, 3600, 180)]
    assert figures(samples=grows).faults()


def test_an_outlier_does_not_make_a_slope() -> None:
    points = [(float(n), 10.0) for n in range(20)]
    points[7] = (7.0, 500.0)
    assert slope(points) == 0
