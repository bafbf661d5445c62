"""Recorded machines: a file stands in for detection (`--hardware FILE.json`), and some are shipped by name."""

from pathlib import Path
from typing import Final

import msgspec

from app.domain.compute.hardware import Hardware
from app.errors import ComputeFileError

_SHIPPED: Final = Path(__file__).with_name("recordings")
_MAX_BYTES: Final = 1024 * 1024


def shipped() -> tuple[str, ...]:
    """Name the machines that come with the miner."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob("*.json")))


def read_recording(name: str) -> Hardware:
    """Read a recording: a shipped one by its name, else a file. Errors: `ComputeFileError`."""
    file = _SHIPPED / f"{name}.json" if name in shipped() else Path(name)
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        known = ", ".join(shipped())
        raise ComputeFileError(f"{name}: can't be read ({error.strerror}): give a file, or one of {known}") from None
    if len(raw) > _MAX_BYTES:
        raise ComputeFileError(f"{file}: is larger than 1 MiB: it is no recorded machine")
    try:
        return msgspec.json.decode(raw, type=Hardware)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ComputeFileError(
            f"{file}: is no recorded machine ({error}): make one with `loosh-miner hardware --json`"
        ) from None
