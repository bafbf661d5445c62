"""STATE_DIR's SQLite file, for real: kept lists, damage, full and read-only disks, other versions."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.clock import SystemClock
from app.domain.source_list import ListedValidator, SourceList
from app.state.allow_list_rows import AllowListRows, kept_lists
from app.state.database import FILE_NAME, Database
from app.state.moments import Moment
from tests.cli.command import ROOT, environment

METAGRAPH = SourceList(
    source="metagraph",
    origin="ws://here netuid 78",
    fetched=1_700_000_000.25,
    validators=(
        ListedValidator(hotkey="5A", stake=12.5, addresses=("198.51.100.1", "2001:db8::1")),
        ListedValidator(hotkey="5B"),
    ),
)
API = SourceList(source="challenge-api", origin="https://api", fetched=5.0, validators=(ListedValidator(hotkey="5B"),))


def opened(state: Path) -> Database:
    return Database(state, SystemClock())


async def keep(state: Path, *lists: SourceList) -> None:
    database = opened(state)
    for one in lists:
        await AllowListRows(database).save(one)
    await database.close()


async def load(state: Path) -> tuple[SourceList, ...]:
    database = opened(state)
    try:
        return await AllowListRows(database).load()
    finally:
        await database.close()


async def test_lists_outlive_the_process_and_replace_each_other_whole(tmp_path: Path) -> None:
    assert await load(tmp_path / "state") == ()
    await keep(tmp_path / "state", METAGRAPH, API)
    assert set(await load(tmp_path / "state")) == {METAGRAPH, API}
    fresh = SourceList(source="metagraph", origin="x", fetched=6.0, validators=(ListedValidator(hotkey="5C"),))
    await keep(tmp_path / "state", fresh)
    assert set(await load(tmp_path / "state")) == {fresh, API}
    assert set(kept_lists(tmp_path / "state")) == {fresh, API}


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE_NAME).touch(0o644)
    old = os.umask(0)
    try:
        database = opened(state)
        await AllowListRows(database).save(METAGRAPH)
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()}
        await database.close()
    finally:
        os.umask(old)
    assert found == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600, f"{FILE_NAME}-shm": 0o600}


async def test_another_process_reads_while_the_miner_writes(tmp_path: Path) -> None:
    assert kept_lists(tmp_path) == ()
    database = opened(tmp_path)
    await AllowListRows(database).save(METAGRAPH)
    assert kept_lists(tmp_path) == (METAGRAPH,)
    await database.close()
    assert kept_lists(tmp_path) == (METAGRAPH,)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 400)


def _torn(path: Path) -> None:
    """Sectors of zeros in the middle, as after a crash of a bad disk."""
    whole = bytearray(path.read_bytes())
    whole[4096:12288] = bytes(8192)
    path.write_bytes(whole)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def is_kept(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


@pytest.mark.parametrize("damage", [_garbage, _torn, _cut, _newer], ids=lambda damage: damage.__name__)
async def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    await keep(tmp_path, METAGRAPH)
    damage(tmp_path / FILE_NAME)
    database = opened(tmp_path)
    with capture_logs() as logs:
        assert await AllowListRows(database).load() == ()
    await AllowListRows(database).save(API)
    assert await AllowListRows(database).load() == (API,)
    assert database.problem is None
    await database.close()
    (line,) = [log for log in logs if "damaged" in log["event"]]
    assert is_kept(Path(line["kept"]))
    assert await load(tmp_path) == (API,)


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    await keep(tmp_path, METAGRAPH)
    assert await load(tmp_path) == (METAGRAPH,)


async def test_a_state_dir_that_can_not_be_used_is_said_once_and_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file")
    database = opened(blocked)
    with capture_logs() as logs:
        assert await AllowListRows(database).load() == ()
        await AllowListRows(database).save(METAGRAPH)
    assert len(logs) == 1
    assert "STATE_DIR" in (database.problem or "")
    assert [alarm.name for alarm in database.alarms()] == ["state"]
    blocked.unlink()
    await AllowListRows(database).save(METAGRAPH)
    assert database.problem is None
    assert database.alarms() == ()
    assert await AllowListRows(database).load() == (METAGRAPH,)
    await database.close()


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from app.clock import SystemClock
from app.domain.source_list import ListedValidator, SourceList
from app.state.allow_list_rows import AllowListRows
from app.state.database import Database

async def main():
    database = Database(Path(sys.argv[1]), SystemClock())
    rows = AllowListRows(database)
    first = SourceList(source="metagraph", origin="x", fetched=1.0, validators=(ListedValidator(hotkey="5A"),))
    await rows.save(first)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    many = tuple(ListedValidator(hotkey=f"5{number:047}") for number in range(2000))
    await rows.save(SourceList(source="metagraph", origin="x", fetched=2.0, validators=many))
    print("full:", database.problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print("kept:", [(one.fetched, len(one.validators)) for one in await rows.load()], database.problem)
    await rows.save(SourceList(source="metagraph", origin="x", fetched=3.0, validators=many))
    print("kept:", [(one.fetched, len(one.validators)) for one in await rows.load()], database.problem)
    await database.close()

asyncio.run(main())
"""


def test_a_full_disk_keeps_the_last_good_list_and_says_so(tmp_path: Path) -> None:
    """The kernel itself refuses to let any file grow, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "state")],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    full, before, after = [line for line in done.stdout.splitlines() if line.startswith(("full:", "kept:"))]
    assert "give STATE_DIR a disk that has room" in full, done.stdout
    assert before == "kept: [(1.0, 1)] None"
    assert after == "kept: [(3.0, 2000)] None"


async def test_a_moment_outlives_the_process(tmp_path: Path) -> None:
    database = opened(tmp_path)
    moment = Moment(database, "last answer")
    assert await moment.load() is None
    await moment.save(12.5)
    await moment.save(13.5)
    await database.close()
    again = opened(tmp_path)
    assert await Moment(again, "last answer").load() == 13.5
    assert await Moment(again, "another").load() is None
    await again.close()


async def test_many_jobs_at_once_are_done_one_after_another(tmp_path: Path) -> None:
    database = opened(tmp_path)
    rows = AllowListRows(database)
    await asyncio.gather(*(rows.save(METAGRAPH if number % 2 else API) for number in range(50)))
    assert set(await rows.load()) == {METAGRAPH, API}
    await database.close()
