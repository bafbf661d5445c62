"""STATE_DIR's one SQLite file, never on the way of a request (design decision 14).

Every job runs in the database's own thread, one after another, each in a transaction of its own. The file is of use,
but the miner does not need it to answer: when it can't be written, jobs give None, `problem` says why, and the next
job tries again. A damaged file is moved aside and a new one begun.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from app.clock import Clock
from app.domain.alarms import Alarm
from app.errors import StateError

FILE_NAME: Final = "miner.db"
_MIGRATIONS: Final = (
    """
    CREATE TABLE allow_list (source TEXT PRIMARY KEY, origin TEXT NOT NULL, fetched REAL NOT NULL) STRICT;
    CREATE TABLE allow_list_validator (
        source TEXT NOT NULL REFERENCES allow_list ON DELETE CASCADE,
        hotkey TEXT NOT NULL,
        stake REAL,
        addresses TEXT NOT NULL,
        PRIMARY KEY (source, hotkey)
    ) STRICT;
    CREATE TABLE moment (name TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
    """,
    """
    CREATE TABLE challenge (
        at_us INTEGER PRIMARY KEY,
        hotkey TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        seconds REAL,
        queued REAL,
        first_token REAL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL
    ) STRICT;
    """,
)
"""One script for each version of the schema; `user_version` says how many a file has had. Only ever add to it."""
_JOB_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_BUSY_SECONDS: Final = 5.0
_WAL_BYTES: Final = 4 * 1024 * 1024
_CACHE_KIB: Final = 256
"""SQLite would fill 2 MB over the first hours, which looks like a leak; rows are appended and rarely read."""
_PRIMARY_CODE: Final = 0xFF
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _DamagedError(Exception):
    """The file is no database that this version can use."""


class Database:
    """The file, opened by the first job."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self.path = state_dir / FILE_NAME
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._connection: sqlite3.Connection | None = None
        self._problem: str | None = None
        self._log = structlog.get_logger("app.state")

    @property
    def problem(self) -> str | None:
        """Why nothing can be kept at present, with the remedy; None when all is well."""
        return self._problem

    async def run[T](self, job: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do a job in a transaction and give its result; None when the file can't be used, or not in time."""
        try:
            async with asyncio.timeout(_JOB_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, job)
        except TimeoutError:
            self._say(f"{self.path}: the disk does not answer: give STATE_DIR another one")
            return None

    async def close(self) -> None:
        """Finish the jobs that wait, and close; a disk that hangs is not waited for."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        except TimeoutError:
            self._log.warning("the state file could not be closed in time", path=str(self.path))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _do[T](self, job: Callable[[sqlite3.Connection], T]) -> T | None:
        try:
            try:
                result = self._attempt(job)
            except _DamagedError as damage:
                self._set_aside(str(damage))
                result = self._attempt(job)
        except (sqlite3.Error, OSError, _DamagedError) as error:
            self._disconnect()
            self._say(
                f"{self.path}: can't be used ({_cause(error)}): give STATE_DIR a disk that has room and is writable"
            )
            return None
        self._say(None)
        return result

    def _attempt[T](self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = job(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()
        except sqlite3.DatabaseError as error:
            if _primary_code(error) in _DAMAGED:
                raise _DamagedError(str(error)) from None
            raise
        return result

    def _connect(self) -> sqlite3.Connection:
        """Open the file, made with mode 0600, check it and bring its schema up to date."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # SQLite gives its -wal and -shm files the same mode
        finally:
            os.close(descriptor)
        # Only the one thread uses it; closing may come from the same thread at another time.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        with contextlib.ExitStack() as unless_good:
            unless_good.callback(connection.close)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            _check(connection)
            _migrate(connection)
            unless_good.pop_all()
        return connection

    def _set_aside(self, cause: str) -> None:
        """Keep the damaged file under another name. Errors: `OSError`."""
        self._disconnect()
        aside = self.path.with_name(f"{FILE_NAME}.damaged-{int(self._clock.wall())}")
        for suffix in ("", "-wal", "-shm"):
            file = self.path.with_name(FILE_NAME + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
        self._log.warning("the state file was damaged: a new one is begun", cause=cause, kept=str(aside))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def alarms(self) -> tuple[Alarm, ...]:
        """Said when nothing can be kept."""
        return () if self._problem is None else (Alarm("state", self._problem),)

    def _say(self, problem: str | None) -> None:
        """Log when the state of the file changes."""
        if problem is not None and self._problem is None:
            self._log.warning("state can't be kept; challenges are answered all the same", problem=problem)
        elif problem is None and self._problem is not None:
            self._log.info("state is kept again", path=str(self.path))
        self._problem = problem


def read_only[T](state_dir: Path, job: Callable[[sqlite3.Connection], T]) -> T | None:
    """Do a reading job from another process, while the miner runs or not; None when there is nothing to read."""
    try:
        return read_or_say(state_dir, job)
    except StateError:
        return None


def read_or_say[T](state_dir: Path, job: Callable[[sqlite3.Connection], T]) -> T | None:
    """Do a reading job from another process; None when there is no file yet. Errors: `StateError`."""
    path = state_dir / FILE_NAME
    try:
        if not path.is_file():
            return None
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_SECONDS, uri=True)
        try:
            return job(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if _primary_code(error) in _DAMAGED:
            raise StateError(
                f"{path}: is damaged ({error}): the miner moves it aside and begins a new one at its next start"
            ) from None
        raise StateError(f"{path}: can't be read ({error}): ask as the user that the miner runs as") from None
    except OSError as error:
        raise StateError(f"{path}: can't be read ({error.strerror}): ask as the user that the miner runs as") from None


def _check(connection: sqlite3.Connection) -> None:
    (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise _DamagedError(str(health))


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise _DamagedError(f"written by a newer version, schema {version}")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _primary_code(error: sqlite3.Error) -> int:
    # The module's own complaints carry no code.
    code: int | None = vars(error).get("sqlite_errorcode")
    return (code or 0) & _PRIMARY_CODE


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
