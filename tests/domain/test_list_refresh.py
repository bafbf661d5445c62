"""How lists are kept fresh: back-off, what is told, and what begins with the list on disk (threat 16)."""

import asyncio
from collections.abc import Callable

from structlog.testing import capture_logs

from app.domain.alarms import AlarmBoard
from app.domain.allow_list import ListSource
from app.domain.list_refresh import ListRefresh, ListRefreshes
from app.domain.merged_list import MergedAllowList
from app.domain.source_list import VALID_SECONDS, ListedValidator, SourceList
from app.errors import ChainError
from tests.domain.hand_clock import HandClock

ONE, TWO = ListedValidator(hotkey="5A"), ListedValidator(hotkey="5B")
GONE = ChainError("it is away", remedy="wait", code="unreachable")


class Source:
    """A `ValidatorSource` that gives what it is told to."""

    source: ListSource = "metagraph"
    origin: str = "here"

    def __init__(self) -> None:
        self.gives: tuple[ListedValidator, ...] | ChainError = (ONE,)
        self.asked = 0

    async def validators(self) -> tuple[ListedValidator, ...]:
        self.asked += 1
        if isinstance(self.gives, ChainError):
            raise self.gives
        return self.gives


class Store:
    """A `ListStore` in memory."""

    def __init__(self, *kept: SourceList) -> None:
        self.kept = list(kept)

    async def load(self) -> tuple[SourceList, ...]:
        return tuple(self.kept)

    async def save(self, kept: SourceList) -> None:
        self.kept = [kept]


class Bench:
    """A refresh and all around it."""

    def __init__(self, *kept: SourceList, chance: float = 0.5) -> None:
        self.clock = HandClock(1_000_000.0)
        self.source = Source()
        self.store = Store(*kept)
        self.lists = MergedAllowList(self.clock, sources=["metagraph"])
        self.counted: list[str] = []
        self.refresh = ListRefresh(
            self.source,
            self.lists,
            self.store,
            self.clock,
            interval=300.0,
            chance=lambda: chance,
            failed=self.counted.append,
        )

    async def pauses(self, count: int) -> list[float]:
        found: list[float] = []
        for _ in range(count):
            await self.refresh.refresh()
            found.append(self.refresh.pause())
        return found


def kept(age: float, origin: str = "here") -> SourceList:
    return SourceList(source="metagraph", origin=origin, fetched=1_000_000.0 - age, validators=(TWO,))


async def test_every_300_seconds_and_sooner_after_a_failure_backing_off() -> None:
    bench = Bench()
    assert await bench.pauses(2) == [300.0, 300.0]
    bench.source.gives = GONE
    assert await bench.pauses(8) == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    bench.source.gives = (ONE,)
    assert await bench.pauses(1) == [300.0]
    assert bench.counted == ["metagraph"] * 8


async def test_pauses_are_spread_by_a_tenth() -> None:
    assert await Bench(chance=0.0).pauses(1) == [270.0]
    assert await Bench(chance=1.0).pauses(1) == [330.0]


async def test_a_failure_keeps_the_list_and_is_told_once_with_its_remedy() -> None:
    bench = Bench()
    await bench.refresh.refresh()
    bench.source.gives = GONE
    with capture_logs() as logs:
        await bench.pauses(5)
        bench.source.gives = ChainError("other", remedy="other", code="timeout")
        await bench.pauses(2)
        bench.source.gives = (ONE,)
        await bench.pauses(2)
    assert [log["event"] for log in logs] == ["allow-list can't be read"] * 2 + ["allow-list is read again"]
    assert (logs[0]["cause"], logs[0]["remedy"]) == ("it is away", "wait")
    assert bench.lists.allows("5A")
    report = bench.refresh.report()
    assert (report.validators, report.age_seconds, report.valid, report.failures, report.failing) == (
        1,
        0.0,
        True,
        7,
        "",
    )


async def test_threat_16_an_empty_answer_is_a_failure_and_an_alarm() -> None:
    bench = Bench()
    await bench.refresh.refresh()
    bench.source.gives = ()
    await bench.refresh.refresh()
    assert bench.lists.allows("5A")
    assert bench.store.kept[0].validators == (ONE,)
    (alarm,) = bench.refresh.alarms()
    assert alarm.name == "empty:metagraph"
    assert "NETUID" in alarm.text
    bench.clock.now += VALID_SECONDS
    assert not bench.lists.allows("5A"), "but not for longer than 24 h"
    bench.source.gives = (TWO,)
    await bench.refresh.refresh()
    assert bench.refresh.alarms() == ()
    assert bench.lists.allows("5B")
    assert bench.store.kept[0].validators == (TWO,)


async def test_an_old_list_is_an_alarm_that_says_how_long_it_holds() -> None:
    bench = Bench()
    await bench.refresh.refresh()
    bench.source.gives = GONE
    bench.clock.now += 3 * 3600
    await bench.refresh.refresh()
    (alarm,) = bench.refresh.alarms()
    assert alarm.name == "old:metagraph"
    assert "3 h old, it ends in 21 h: it is away: wait" in alarm.text


async def running(refresh: ListRefresh, store: Store, until: Callable[[], object]) -> None:
    task = asyncio.create_task(ListRefreshes([refresh], store).run())
    async with asyncio.timeout(5):
        while not until():  # noqa: ASYNC110 - a test's patience
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_threat_16_the_list_on_disk_serves_until_a_fresh_one_comes() -> None:
    bench = Bench(kept(VALID_SECONDS - 1))
    bench.source.gives = GONE
    await running(bench.refresh, bench.store, lambda: bench.source.asked)
    assert bench.lists.allows("5B")
    bench.clock.now += 1
    assert not bench.lists.allows("5B"), "its time counts from when it was fetched, not from the start"


async def test_threat_16_lists_too_old_or_of_elsewhere_are_not_used() -> None:
    for bad in (kept(VALID_SECONDS), kept(10, origin="elsewhere"), kept(-3600)):
        bench = Bench(bad)
        bench.source.gives = GONE
        await running(bench.refresh, bench.store, lambda bench=bench: bench.source.asked)
        assert not bench.lists.allows("5B"), bad


async def test_a_source_that_hangs_is_given_up() -> None:
    class Hanging(Source):
        async def validators(self) -> tuple[ListedValidator, ...]:
            raise TimeoutError

    bench = Bench()
    refresh = ListRefresh(
        Hanging(), bench.lists, bench.store, bench.clock, interval=1, chance=lambda: 0.5, failed=bench.counted.append
    )
    await refresh.refresh()
    assert "did not answer" in refresh.report().failing
    assert bench.counted == ["metagraph"]


async def test_alarms_are_told_when_they_begin_and_when_they_end() -> None:
    bench = Bench()
    board = AlarmBoard(bench.refresh.alarms)
    with capture_logs() as logs:
        board.tell()
        bench.source.gives = ()
        await bench.refresh.refresh()
        logs.clear()
        for _ in range(3):
            board.tell()
        bench.source.gives = (ONE,)
        await bench.refresh.refresh()
        told = [log for log in logs if log["event"] == "alarm"]
        logs.clear()
        board.tell()
        board.tell()
    assert [(log["alarm"], log["log_level"]) for log in told] == [("empty:metagraph", "warning")]
    assert [(log["event"], log["alarm"]) for log in logs] == [("alarm over", "empty:metagraph")]
