"""One line an event, nothing of content, and both ways of logging leave by the same door."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import logs
from tests.cli.command import environment

PROGRAM = """
import logging, sys, structlog
from pathlib import Path
from app import logs
from app.secret import Secret
form, file = sys.argv[1], sys.argv[2]
logs.configure(form=form, file=Path(file) if file else None)
log = structlog.get_logger()
log.info("plain", secret=Secret("canary"), nested={"k": [Secret(b"canary")]}, body=b"canary", path=Path("/x"), n=1)
log.info("a\\x1b[31mb\\nc", text="d\\x1b]0;e\\nf")
log.info("odd", surrogate="\\ud800")
log.info("long", text="x" * 100_000)
log.debug("hidden")
logging.getLogger("library").warning("by %s", Secret("canary"))
logging.getLogger("library").info("hidden")
logging.getLogger("library").warning("wrong arguments %d", "x")
try:
    secret = "canary"
    raise ValueError("told\\x1b[0m")
except ValueError:
    log.exception("failed")
"""


def run(tmp_path: Path, form: str, file: str = "") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, file],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b""
    return done


def test_json_lines(tmp_path: Path) -> None:
    raw = run(tmp_path, "json").stderr.decode()
    lines = raw.splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == [
        "plain",
        "a\x1b[31mb\nc",
        "odd",
        "long",
        "by ***",
        "wrong arguments %d (its arguments do not fit)",
        "failed",
    ]
    assert all(list(event)[:3] == ["time", "level", "event"] for event in events)
    plain = events[0]
    assert (plain["secret"], plain["body"], plain["path"], plain["n"]) == ("***", "<6 bytes>", "/x", 1)
    assert len(events[3]["text"]) < 600
    assert (events[4]["level"], events[4]["logger"]) == ("warning", "library")
    assert (events[6]["level"], "Traceback" in events[6]["exception"]) == ("error", True)
    assert "canary" not in "".join(lines).replace('secret = \\"canary\\"', "")


def test_lines_for_people_can_not_steer_the_terminal(tmp_path: Path) -> None:
    text = run(tmp_path, "console").stderr.decode()
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].endswith("plain secret=*** nested={'k': [***]} body=<6 bytes> path=/x n=1")
    assert lines[1].split(" ", 2)[2].strip() == r"a\x1b[31mb\nc text=d\x1b]0;e\nf"
    assert lines[2].endswith(r"odd surrogate=\ud800")
    assert "hidden" not in text


def test_a_log_file_is_the_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "miner.log"
    file.write_text("before\n")
    file.chmod(0o644)
    run(tmp_path, "json", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    assert lines[0] == "before"
    assert len(lines) == 8


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "json", ""],
            cwd=tmp_path,
            env=environment(tmp_path),
            stderr=full,
            check=False,
        )
    assert done.returncode == 0


def test_a_log_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(logs.SettingsError, match=r"LOG_FILE: .* can't be written"):
        logs.configure(file=tmp_path / "none" / "miner.log")


def test_the_journal_gets_json() -> None:
    status = os.fstat(2)
    journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert logs.resolve_form("auto", journal) == "json"
    assert logs.resolve_form("auto", {"JOURNAL_STREAM": "1:2"}) == "console"
    assert logs.resolve_form("auto", {}) == "console"
    assert logs.resolve_form("console", journal) == "console"
    assert logs.resolve_form("json", {}) == "json"
