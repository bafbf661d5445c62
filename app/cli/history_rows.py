"""What `history` writes: rows of the log of challenges, as a table, CSV or JSON, however many there are."""

import csv
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

import msgspec
from rich.console import Console
from rich.text import Text

from app.cli.asking import printable
from app.cli.common import warn
from app.clock import SystemClock
from app.domain.challenge_log import ChallengeRecord
from app.errors import SettingsError
from app.metrics import Outcome
from app.state.challenge_rows import select
from app.state.database import read_or_say

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_SECONDS: Final = 36_500 * 86_400
_COLOURS: Final[dict[Outcome, str]] = {
    "ok": "green",
    "cut": "yellow",
    "late": "red",
    "refused": "yellow",
    "failed": "red",
    "gone": "dim",
}
_COLUMNS: Final = ("time", *(field.name for field in msgspec.structs.fields(ChallengeRecord) if field.name != "at"))

type _Rows = Iterator[ChallengeRecord]


def began(since: str) -> float:
    """Read `--since` as unix seconds. Errors: `SettingsError`."""
    if age := re.fullmatch(r"([0-9]{1,9})([smhd])", since):
        return SystemClock().wall() - min(int(age[1]) * _UNITS[age[2]], _MOST_SECONDS)
    try:
        moment = datetime.fromisoformat(since)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"--since: {printable(since)[:40]!r} is no age and no time: write 90m, 24h, 7d or 2026-11-23T12:00"
        ) from None


def write(state_dir: Path, since: float, form: str | None) -> None:
    """Write the rows to stdout, one by one. Errors: `StateError`."""
    forms: dict[str | None, Callable[[_Rows], bool]] = {"csv": _csv, "json": _json, None: _table}
    writer = forms[form]

    def job(connection: sqlite3.Connection) -> bool:
        return writer(select(connection, since))

    if read_or_say(state_dir, job) is None:
        warn(f"{state_dir}: no miner has kept anything here yet; STATE_DIR says where it does")
        writer(iter(()))


def _cells(one: ChallengeRecord) -> dict[str, object]:
    cells = cast("dict[str, object]", msgspec.to_builtins(one))
    at = datetime.fromtimestamp(one.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    del cells["at"]
    return {"time": at, **cells}


def _csv(rows: _Rows) -> bool:
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in rows:
        writer.writerow({name: printable(str("" if value is None else value)) for name, value in _cells(one).items()})
    return True


def _json(rows: _Rows) -> bool:
    between = "["
    for one in rows:
        sys.stdout.write(f"{between}\n{msgspec.json.encode(_cells(one)).decode()}")
        between = ","
    sys.stdout.write("[]\n" if between == "[" else "\n]\n")
    return True


def _table(rows: _Rows) -> bool:
    console = Console(highlight=False, soft_wrap=True)
    outcomes, seconds = Counter[Outcome](), list[float]()
    console.print(Text(f"{'time (UTC)':<20}{'outcome':<9}{'seconds':>8}{'tokens':>15}  {'validator':<48}  why", "dim"))
    for one in rows:
        outcomes[one.outcome] += 1
        if one.seconds is not None:
            seconds.append(one.seconds)
        at = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        took = "" if one.seconds is None else f"{one.seconds:.2f}"
        tokens = "" if one.seconds is None else f"{one.prompt_tokens} > {one.completion_tokens}"
        console.print(
            Text.assemble(
                f"{at} ",
                (f"{one.outcome:<9}", _COLOURS.get(one.outcome, "")),
                f"{took:>8}{tokens:>15}  {printable(one.hotkey):<48}  {printable(one.reason)}",
            )
        )
    counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    console.print(f"{outcomes.total()} challenges" + (f": {counted}" if counted else "") + _latency(seconds))
    return True


def _latency(seconds: list[float]) -> str:
    if not seconds:
        return ""
    seconds.sort()
    p50, p95 = (seconds[min(len(seconds) - 1, int(share * len(seconds)))] for share in (0.5, 0.95))
    return f"; answered in {p50:.1f} s (p50), {p95:.1f} s (p95)"
