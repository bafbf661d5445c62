"""`loosh-miner history`, of a real miner's log of challenges, and what happens on a disk that is really full."""

import contextlib
import csv
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.registered import alarms, until
from tests.cli.command import Outcome, run
from tests.conftest import StartMiner
from tests.miner.canary import PROMPT
from tests.miner.process import MinerProcess, StubEngine
from tests.must_hold.conftest import NewValidator, new_validator

__all__ = ["new_validator"]


def history(miner: MinerProcess, *arguments: str) -> Outcome:
    return run(miner.home, "history", *arguments, STATE_DIR=str(miner.state))


async def test_what_was_asked_is_listed_without_its_text(
    start_miner: StartMiner, new_validator: NewValidator, engine: StubEngine, tmp_path: Path
) -> None:
    miner = start_miner(home=tmp_path)
    validator = await new_validator(miner)
    for number in range(3):
        await validator.ask(f"{PROMPT} {number}")
    await validator.send({"prompt": 17})  # readable, and nothing that can be answered
    until(lambda: len(history(miner, "--json").object()) == 4)
    rows = history(miner, "--json", "--since", "1h").object()
    assert [row["outcome"] for row in rows] == ["ok", "ok", "ok", "refused"]
    assert rows[0]["hotkey"] == validator.hotkey.ss58
    assert rows[0]["seconds"] > 0
    assert rows[0]["completion_tokens"] > 0
    assert rows[0]["time"].endswith("Z")
    assert rows[3]["seconds"] is None
    assert rows[3]["reason"]
    listed = list(csv.DictReader(io.StringIO(history(miner, "--csv").out)))
    assert [row["outcome"] for row in listed] == [row["outcome"] for row in rows]
    table = history(miner).out
    assert "4 challenges: 3 ok, 1 refused; answered in" in table
    assert validator.hotkey.ss58 in table
    assert history(miner, "--json", "--since", "2999-01-01").object() == []
    assert miner.stop() == 0
    assert len(history(miner, "--json").object()) == 4, "without a miner, too"
    state = b"".join(file.read_bytes() for file in miner.state.iterdir())
    assert PROMPT.encode() not in state


def test_the_last_seconds_before_a_stop_are_kept(start_miner: StartMiner, tmp_path: Path) -> None:
    miner = start_miner(home=tmp_path)
    done = run(tmp_path, "challenge", "hello", "--url", f"http://127.0.0.1:{miner.port}", "--json")
    assert done.code == 0, done.err
    assert miner.stop() == 0
    (row,) = history(miner, "--json").object()
    assert row["outcome"] == "ok"


def test_nothing_kept_yet(tmp_path: Path) -> None:
    done = run(tmp_path, "history", "--json", STATE_DIR=str(tmp_path / "none"))
    assert (done.code, done.object()) == (0, [])
    assert "STATE_DIR" in done.err


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "miner.db").write_bytes(b"this is no database at all" * 400)
    done = run(tmp_path, "history", STATE_DIR=str(tmp_path))
    assert done.code == 1
    assert "moves it aside" in done.err


@pytest.mark.parametrize("since", ["yesterday", "12", "5x", "", "99999999999999d"])
def test_a_since_that_is_none(tmp_path: Path, since: str) -> None:
    done = run(tmp_path, "history", "--since", since, STATE_DIR=str(tmp_path))
    assert done.code == 2
    assert "--since" in done.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a really full disk, because only root can mount one")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a really full disk, because none can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    """Write until there is no room left."""
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass


async def test_a_miner_on_a_full_disk_serves_on_says_so_and_loses_nothing(
    start_miner: StartMiner, new_validator: NewValidator, engine: StubEngine, small_disk: Path, tmp_path: Path
) -> None:
    miner = start_miner(home=tmp_path, STATE_DIR=small_disk)
    miner.state = small_disk
    validator = await new_validator(miner)
    await validator.ask("before")
    until(lambda: len(history(miner, "--json").object()) == 1)
    filler = small_disk / "filler"
    fill(filler)
    # More than the pages that the file already has can take.
    for number in range(150):
        await validator.ask(f"while it is full {number}")
    until(lambda: "state" in alarms(miner))
    assert "room" in alarms(miner)["state"]
    await validator.ask("served on")
    filler.unlink()
    until(lambda: "state" not in alarms(miner))
    until(lambda: len(history(miner, "--json").object()) == 152)
    log = [json.loads(line)["event"] for line in miner.log.read_text().splitlines() if line.startswith("{")]
    assert any("challenges are answered all the same" in event for event in log)
    assert "state is kept again" in log
    assert miner.stop() == 0
