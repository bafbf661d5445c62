"""Handshakes that were dated ahead of our clock, kept over a restart so that none is taken twice (threat 1)."""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from app.errors import SettingsError

_FILE_NAME: Final = "handshakes-ahead.json"
_MOST_HOTKEYS: Final = 1024


class AheadFile(MutableMapping[str, float]):
    """Latest timestamp (unix seconds) by hotkey, in a small file of the state directory.

    Read once; written whole, and exchanged in one step, at every change: that is seldom, for honest clocks agree.
    Errors: `SettingsError` when the directory can't be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE_NAME
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._latest = msgspec.json.decode(self._path.read_bytes(), type=dict[str, float])
        except FileNotFoundError:
            self._latest: dict[str, float] = {}
        except OSError as error:
            raise SettingsError(
                f"STATE_DIR: {state_dir} can't be used ({error.strerror}): make it writable, with room on its disk, or"
                " choose another"
            ) from None
        except (msgspec.DecodeError, UnicodeError):
            raise SettingsError(f"STATE_DIR: {self._path} is damaged: delete it and start a minute later") from None

    def __getitem__(self, hotkey: str) -> float:
        return self._latest[hotkey]

    def __setitem__(self, hotkey: str, timestamp: float) -> None:
        self._latest[hotkey] = timestamp
        if len(self._latest) > _MOST_HOTKEYS:
            del self._latest[min(self._latest, key=lambda known: self._latest[known])]
        self._write()

    def __delitem__(self, hotkey: str) -> None:
        del self._latest[hotkey]  # written with the next change: an old timestamp in the file does no harm

    def __iter__(self) -> Iterator[str]:
        return iter(self._latest)

    def __len__(self) -> int:
        return len(self._latest)

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self._latest))
            fresh.replace(self._path)
        except OSError as error:
            # A full disk must not stop the miner; what is lost is the guard of one minute after a restart.
            structlog.get_logger("app").warning("STATE_DIR can't be written", error=error.strerror)
