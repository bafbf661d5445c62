"""The log of challenges on a real SQLite file: kept, bounded, once each; damage and full disks cost no answer."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from structlog.testing import capture_logs

from app.clock import SystemClock
from app.domain import challenge_log
from app.domain.challenge_log import ChallengeLog, ChallengeRecord
from app.state.challenge_rows import ChallengeRows
from app.state.database import FILE_NAME, Database

DAY = 86_400.0
NOW = 1_790_000_000.0


def record(at: float, hotkey: str = "5A") -> ChallengeRecord:
    return ChallengeRecord(at, hotkey, "ok", "", 1.5, 0.1, 0.2, 10, 20)


async def all_kept(state: Path) -> list[ChallengeRecord]:
    database = Database(state, SystemClock())
    try:
        return list(await ChallengeRows(database).since(0.0))
    finally:
        await database.close()


def size(file: Path) -> int:
    return file.stat().st_size


class Log:
    """A log on a real file, with what its listener was shown."""

    def __init__(self, state: Path) -> None:
        self.database = Database(state, SystemClock())
        self.shown: list[ChallengeRecord] = []
        self.recalled = asyncio.Event()
        self.log = ChallengeLog(ChallengeRows(self.database), SystemClock(), self.show, recall_seconds=DAY)

    def show(self, records: Sequence[ChallengeRecord]) -> None:
        self.shown.extend(records)
        self.recalled.set()


async def test_records_outlive_the_process_whole_and_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path)
    records = [
        record(NOW + 1),
        ChallengeRecord(NOW + 2, "5B", "refused", "queue_full"),
        ChallengeRecord(NOW + 3, "5B", "gone", "client_gone"),
    ]
    for one in records:
        log.log.add(one)
    assert log.shown == [], "nothing happens on the way of a request"
    assert await log.log.keep()
    assert log.shown == records
    await log.database.close()
    assert await all_kept(tmp_path) == records


async def test_a_start_recalls_the_last_day_and_only_that(tmp_path: Path) -> None:
    now = time.time()
    before = Log(tmp_path)
    before.log.add(record(now - 2 * DAY))
    before.log.add(record(now - 3600))
    await before.log.keep()
    await before.database.close()
    after = Log(tmp_path)
    running = asyncio.create_task(after.log.run())
    async with asyncio.timeout(60):
        await after.recalled.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await after.database.close()
    assert [round(now - one.at) for one in after.shown] == [3600]


async def test_a_batch_that_comes_twice_is_kept_once_and_equal_times_do_not_collide(tmp_path: Path) -> None:
    database = Database(tmp_path, SystemClock())
    rows = ChallengeRows(database)
    batch = [record(NOW), record(NOW), record(NOW, "5B")]
    assert await rows.append(batch)
    assert await rows.append(batch)
    await database.close()
    assert [one.hotkey for one in await all_kept(tmp_path)] == ["5A", "5A", "5B"]


async def test_what_is_old_and_what_is_too_much_goes(tmp_path: Path) -> None:
    database = Database(tmp_path, SystemClock())
    rows = ChallengeRows(database, most_rows=100)
    await rows.append([record(NOW - 40 * DAY + at) for at in range(50)])
    await rows.append([record(NOW + at) for at in range(150)])
    await rows.prune(NOW - 30 * DAY)
    kept = [one.at - NOW for one in await rows.since(0.0)]
    await database.close()
    assert kept == [float(at) for at in range(50, 150)]


async def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Freed pages are used again: ten times the most rows take no more room than about once."""
    database = Database(tmp_path, SystemClock())
    rows = ChallengeRows(database, most_rows=2000)
    sizes: list[int] = []
    for turn in range(10):
        await rows.append([record(NOW + 2000 * turn + at, "5" * 48) for at in range(2000)])
        await rows.prune(0.0)
        sizes.append(size(tmp_path / FILE_NAME) + size(tmp_path / f"{FILE_NAME}-wal"))
    await database.close()
    assert max(sizes) < 8_000_000
    assert size(tmp_path / FILE_NAME) < 1_500_000


async def test_a_file_damaged_under_the_running_log_is_moved_aside_and_nothing_new_is_lost(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.log.add(record(NOW))
    assert await log.log.keep()
    await log.database.close()
    whole = bytearray((tmp_path / FILE_NAME).read_bytes())
    whole[100:] = b"\xa5" * (len(whole) - 100)
    (tmp_path / FILE_NAME).write_bytes(whole)
    again = Log(tmp_path)
    again.log.add(record(NOW + 1, "5New"))
    with capture_logs() as logs:
        assert await again.log.keep()
    await again.database.close()
    (line,) = [one for one in logs if "damaged" in one["event"]]
    assert size(Path(line["kept"])) == len(whole)
    assert [one.hotkey for one in await all_kept(tmp_path)] == ["5New"]


async def test_a_store_that_can_not_be_used_loses_the_oldest_and_says_how_many(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file")
    log = Log(blocked)
    most = challenge_log.MOST_WAITING
    for at in range(most + 7):
        log.log.add(record(NOW + at))
    with capture_logs() as logs:
        assert not await log.log.keep()
    assert log.log.lost == 7
    assert any("loses its oldest" in one["event"] for one in logs)
    blocked.unlink()
    assert await log.log.keep()
    await log.database.close()
    kept = await all_kept(blocked)
    assert (len(kept), kept[0].at) == (most, NOW + 7)


async def test_a_file_of_the_version_before_gets_the_table(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await log.log.keep()
    assert await log.database.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    await log.database.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript("DROP TABLE challenge; PRAGMA user_version = 1;")
    connection.close()
    again = Log(tmp_path)
    again.log.add(record(NOW))
    assert await again.log.keep()
    await again.database.close()
    assert await all_kept(tmp_path) == [record(NOW)]
