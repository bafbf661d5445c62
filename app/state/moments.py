"""Points in time that outlive the process, each one row."""

import sqlite3
from functools import partial

from app.state.database import Database


class Moment:
    """One named point in time, in unix seconds."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def load(self) -> float | None:
        """When it last was; None when that is not known."""
        return await self._database.run(self._read)

    async def save(self, at: float) -> None:
        """Keep it instead of the one before."""
        await self._database.run(partial(self._write, at=at))

    def _read(self, connection: sqlite3.Connection) -> float | None:
        row = connection.execute("SELECT at FROM moment WHERE name = ?", (self._name,)).fetchone()
        return None if row is None else float(row[0])

    def _write(self, connection: sqlite3.Connection, *, at: float) -> None:
        connection.execute("INSERT OR REPLACE INTO moment VALUES (?, ?)", (self._name, at))
