"""`models.lock.json`: which commit of which weights was pulled, and the checksums of its files.

It lies in STATE_DIR, wherever a command is started, or where `--lock` says. It holds nothing of one machine: a copy can
be kept in version control, so that every box of an operator serves the same weights.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.errors import ComputeFileError

LOCK_NAME: Final = "models.lock.json"
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
    except (FileNotFoundError, NotADirectoryError):
        return Lock()
    except OSError as error:
        raise ComputeFileError(f"{file}: can't be read ({error.strerror}): correct its owner and mode") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ComputeFileError(
            f"{file}: is no lock of weights ({error}): restore it, or remove it and pull again"
        ) from None


def check_writable(file: Path) -> None:
    """See that the lock can be written, before gigabytes are fetched for it. Errors: `ComputeFileError`."""
    place = file.resolve()
    new = _beside(place)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.touch(exist_ok=True)
        new.unlink()
    except OSError as error:
        raise _unwritable(file, error) from None
    if place.is_dir():
        raise ComputeFileError(f"{file}: is a folder: name a file with --lock")


def write_lock(file: Path, name: str, weights: LockedWeights) -> None:
    """Put one entry into the lock, whole or not at all. Errors: `ComputeFileError`."""
    place = file.resolve()  # a link stays one
    new = _beside(place)
    try:
        with _alone(place.parent):
            lock = read_lock(place)
            entries = dict(sorted({**lock.weights, name: weights}.items()))
            text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(lock, weights=entries))) + b"\n"
            with new.open("wb") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise _unwritable(file, error) from None


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def _unwritable(file: Path, error: OSError) -> ComputeFileError:
    return ComputeFileError(
        f"{file}: can't be written ({error.strerror}): run this as the owner of the folder, set STATE_DIR, or name"
        " another file with --lock"
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Two pulls that end at the same time must not lose each other's entry."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
