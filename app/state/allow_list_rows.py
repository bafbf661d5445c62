"""The last good list of validators from each source, kept over restarts (design decision 8)."""

import sqlite3
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, cast

from app.domain.allow_list import ListSource
from app.domain.source_list import ListedValidator, SourceList
from app.state.database import Database, read_only

_SOURCES: Final[Mapping[str, ListSource]] = {"metagraph": "metagraph", "challenge-api": "challenge-api"}


class AllowListRows:
    """One list for each source."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[SourceList, ...]:
        """All lists that are kept, however old; empty when the file can't be read."""
        return await self._database.run(_read) or ()

    async def save(self, kept: SourceList) -> None:
        """Keep a source's list instead of the one before, in one step."""
        await self._database.run(partial(_replace, kept=kept))


def kept_lists(state_dir: Path) -> tuple[SourceList, ...]:
    """Read the lists from another process than the miner's; empty when there are none."""
    return read_only(state_dir, _read) or ()


def _read(connection: sqlite3.Connection) -> tuple[SourceList, ...]:
    validators: dict[str, list[ListedValidator]] = {}
    rows = connection.execute("SELECT source, hotkey, stake, addresses FROM allow_list_validator ORDER BY hotkey")
    for source, hotkey, stake, addresses in cast("list[tuple[str, str, float | None, str]]", rows.fetchall()):
        listed = ListedValidator(hotkey=hotkey, stake=stake, addresses=tuple(addresses.split()))
        validators.setdefault(source, []).append(listed)
    lists = connection.execute("SELECT source, origin, fetched FROM allow_list")
    return tuple(
        SourceList(
            source=_SOURCES[source], origin=origin, fetched=fetched, validators=tuple(validators.get(source, ()))
        )
        for source, origin, fetched in cast("list[tuple[str, str, float]]", lists.fetchall())
        if source in _SOURCES
    )


def _replace(connection: sqlite3.Connection, *, kept: SourceList) -> None:
    connection.execute("DELETE FROM allow_list WHERE source = ?", (kept.source,))
    connection.execute("INSERT INTO allow_list VALUES (?, ?, ?)", (kept.source, kept.origin, kept.fetched))
    connection.executemany(
        "INSERT INTO allow_list_validator VALUES (?, ?, ?, ?)",
        [(kept.source, one.hotkey, one.stake, " ".join(one.addresses)) for one in kept.validators],
    )
