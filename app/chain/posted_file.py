"""What this machine posted last, kept for `register --watch`: a changed address is told from another machine's post."""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from app.chain.networks import Subnet
from app.domain.metagraph import Axon

_NAME: Final = "posted-axon.json"


class _Posted(msgspec.Struct, frozen=True):
    netuid: int
    network: str
    hotkey: str
    axon: Axon


class PostedFile:
    """One entry, in the state directory; of another hotkey or subnet it counts as none."""

    def __init__(self, state_dir: Path, subnet: Subnet, hotkey: str) -> None:
        self._path = state_dir / _NAME
        self._about = (subnet.netuid, subnet.network_flag, hotkey)

    def read(self) -> Axon | None:
        """Give the last post; None where nothing is known."""
        try:
            posted = msgspec.json.decode(self._path.read_bytes(), type=_Posted)
        except (OSError, msgspec.DecodeError, UnicodeError):
            return None
        return posted.axon if (posted.netuid, posted.network, posted.hotkey) == self._about else None

    def write(self, axon: Axon) -> None:
        """Remember a post; where that can't be written the next watch posts as if it were the first."""
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(_Posted(*self._about, axon)))
            fresh.replace(self._path)
