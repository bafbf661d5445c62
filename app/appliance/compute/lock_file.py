"""`models.lock.json`: which commit of which weights was pulled, and the checksums of its files.

It lies in the current directory, beside `.env`, and holds nothing of one machine: it can be kept in version control, so
that every box of an operator serves the same weights.
"""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.errors import ComputeFileError

LOCK_FILE: Final = Path("models.lock.json")
_MAX_BYTES: Final = 4 * 1024 * 1024


class LockedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a repository; size in bytes, checksum as hex."""

    name: str
    size: int
    sha256: str | None = None
    """Of large files."""
    git_sha1: str | None = None
    """Git's own, of small ones."""


class LockedWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One repository on the hub at one commit; for Ollama a tag with its digest."""

    revision: Annotated[str, Meta(pattern="^[0-9a-f]{40}$|^sha256:[0-9a-f]{64}$")]
    files: tuple[LockedFile, ...] = ()


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: int = 1
    weights: dict[str, LockedWeights] = {}

    def revisions(self) -> dict[str, str]:
        """Give the commit of each repository."""
        return {name: weights.revision for name, weights in self.weights.items()}


def read_lock(file: Path) -> Lock:
    """Read the lock; empty where there is none. Errors: `ComputeFileError`."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
        return msgspec.json.decode(raw, type=Lock)
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise ComputeFileError(f"{file}: can't be read ({error.strerror}): correct its owner and mode") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ComputeFileError(
            f"{file}: is no lock of weights ({error}): restore it, or remove it and pull again"
        ) from None


def write_lock(file: Path, name: str, weights: LockedWeights) -> None:
    """Put one entry into the lock, in one step. Errors: `ComputeFileError`."""
    lock = read_lock(file)
    entries = dict(sorted({**lock.weights, name: weights}.items()))
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(lock, weights=entries))) + b"\n"
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_bytes(text)
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ComputeFileError(f"{file}: can't be written ({error.strerror}): correct the folder's mode") from None
