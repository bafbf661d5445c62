"""The log of challenges in STATE_DIR's SQLite file, one row each, bounded in age and number."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final, cast

from app.domain.challenge_log import ChallengeRecord
from app.metrics import Outcome
from app.state.database import Database

MOST_ROWS: Final = 400_000
"""Some 50 MB: a challenge every 6.5 seconds for 30 days."""
FIRST_SCHEMA: Final = 2
"""The schema that has the table, as `user_version` counts."""
_MICRO: Final = 1_000_000
_HOTKEY_LETTERS: Final = 48
_COLUMNS: Final = "at_us, hotkey, outcome, reason, seconds, queued, first_token, prompt_tokens, completion_tokens"

type _Row = tuple[int, str, Outcome, str, float | None, float | None, float | None, int, int]


class ChallengeRows:
    """The rows, written in batches."""

    def __init__(self, database: Database, most_rows: int = MOST_ROWS) -> None:
        self._database = database
        self._most_rows = most_rows

    async def append(self, records: Sequence[ChallengeRecord]) -> bool:
        """Keep them in one transaction; False when the file can't be used."""
        return await self._database.run(partial(_insert, rows=list(_rows(records)))) is not None

    async def prune(self, before: float) -> None:
        """Forget what is older, and the oldest above the most there may be; freed pages are used again."""
        await self._database.run(partial(_prune, before=before, most=self._most_rows))

    async def since(self, at: float) -> Sequence[ChallengeRecord]:
        """What is kept since then, in order of time."""
        return await self._database.run(lambda connection: tuple(select(connection, at))) or ()


def select(connection: sqlite3.Connection, since: float) -> Iterator[ChallengeRecord]:
    """Read the rows since a unix time, one by one, in order of time; none where the file is of an older version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < FIRST_SCHEMA:
        return
    cursor = connection.execute(
        f"SELECT {_COLUMNS} FROM challenge WHERE at_us >= ? ORDER BY at_us",  # noqa: S608 - a constant of this file
        (int(since * _MICRO),),
    )
    for row in cast("Iterable[_Row]", cursor):
        yield ChallengeRecord(row[0] / _MICRO, *row[1:])


def _rows(records: Iterable[ChallengeRecord]) -> Iterator[_Row]:
    """Key each by its microsecond: a batch that comes twice is kept once, and the key is the index by time."""
    taken: set[int] = set()
    for one in records:
        key = int(one.at * _MICRO)
        while key in taken:
            key += 1
        taken.add(key)
        yield (
            key,
            one.hotkey[:_HOTKEY_LETTERS],
            one.outcome,
            one.reason,
            one.seconds,
            one.queued,
            one.first_token,
            one.prompt_tokens,
            one.completion_tokens,
        )


def _insert(connection: sqlite3.Connection, *, rows: Sequence[_Row]) -> bool:
    connection.executemany("INSERT OR IGNORE INTO challenge VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return True


def _prune(connection: sqlite3.Connection, *, before: float, most: int) -> None:
    connection.execute("DELETE FROM challenge WHERE at_us < ?", (int(before * _MICRO),))
    connection.execute(
        "DELETE FROM challenge WHERE at_us <= (SELECT at_us FROM challenge ORDER BY at_us DESC LIMIT 1 OFFSET ?)",
        (most,),
    )
