"""The last 24 hours in cells: levels, quantiles, each validator's share, and what is forgotten."""

import random
import statistics

from app.domain.challenge_log import ChallengeRecord
from app.domain.recent import CELL_SECONDS, CELLS, LAST, MOST_HOTKEYS, Recent
from app.metrics import Outcome
from tests.domain.hand_clock import HandClock

START = 1_790_000_100.0


class Told:
    """A clock set by hand, and the counts."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.clock.now = START
        self.recent = Recent(self.clock)

    def end(self, outcome: Outcome = "ok", *, ago: float = 0.0, seconds: float = 1.0, hotkey: str = "5A") -> None:
        took = seconds if outcome in {"ok", "cut", "late"} else None
        self.recent.take([ChallengeRecord(self.clock.wall() - ago, hotkey, outcome, seconds=took, completion_tokens=3)])


def test_a_cell_says_whether_challenges_were_answered() -> None:
    told = Told()
    told.end("ok", ago=3 * CELL_SECONDS)
    told.end("gone", ago=3 * CELL_SECONDS)
    told.end("cut", ago=2 * CELL_SECONDS)
    told.end("refused", ago=2 * CELL_SECONDS)
    told.end("failed", ago=CELL_SECONDS)
    cells = told.recent.cells()
    assert len(cells) == CELLS
    assert [cell.level for cell in cells[-5:]] == ["idle", "good", "mixed", "bad", "idle"]
    assert [(cell.answered, cell.challenges) for cell in cells[-4:]] == [(1, 2), (1, 2), (0, 1), (0, 0)]


def test_a_miner_that_is_not_ready_is_seen_without_any_challenge() -> None:
    told = Told()
    for ready in (True, False, False):
        told.recent.watch(ready=ready)
    assert told.recent.cells()[-1].level == "bad"
    for _ in range(5):
        told.recent.watch(ready=True)
    assert told.recent.cells()[-1].level == "mixed"


def test_quantiles_are_right_to_five_percent() -> None:
    told, rng = Told(), random.Random(8)
    seconds = [rng.lognormvariate(1.5, 0.8) for _ in range(4000)]
    for one in seconds:
        told.end(seconds=one)
    hour = told.recent.hour()
    cuts = statistics.quantiles(seconds, n=100)
    assert hour.p50 is not None
    assert hour.p95 is not None
    assert abs(hour.p50 / cuts[49] - 1) < 0.06
    assert abs(hour.p95 / cuts[94] - 1) < 0.06
    assert hour.outcomes == {"ok": 4000}
    assert hour.completion_tokens == 12_000
    assert told.recent.cells()[-1].p50 == hour.p50


def test_each_validator_has_its_share_and_a_day_later_none() -> None:
    told = Told()
    told.end(hotkey="5A")
    told.end("failed", hotkey="5A")
    told.end("cut", hotkey="5B")
    assert (told.recent.of("5A").answered, told.recent.of("5A").unanswered) == (1, 1)
    assert told.recent.of("5B").answered == 1
    told.clock.now += CELLS * CELL_SECONDS
    told.end(hotkey="5C")
    assert told.recent.of("5A").answered == 0
    assert told.recent.of("5C").answered == 1
    assert sum(cell.challenges for cell in told.recent.cells()) == 1


def test_what_is_kept_is_bounded() -> None:
    told = Told()
    for number in range(3000):
        told.end(hotkey=f"5{number}")
    assert told.recent.of("").answered == 3000 - MOST_HOTKEYS
    assert len(told.recent.last()) == LAST
    assert told.recent.last()[0].hotkey == "52999", "the newest first"
