"""The support bundle: what somebody who helps wants to see, in one file, and nothing that must stay here."""

import gzip
import io
import os
import tarfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from app.errors import SettingsError
from app.secret import MASK, Secret

_LEAST_LETTERS: Final = 6
"""A secret shorter than this is no secret, and would turn half of the texts into stars."""
_PRIVATE: Final = 0o600
_FOLDER: Final = "loosh-miner-support"


def scrub(data: bytes, secrets: Collection[Secret[str]]) -> bytes:
    """Give `data` with every secret replaced, in the forms in which it could stand there.

    None should be in it to begin with: this is the second lock on the door (threat 18).
    """
    for secret in secrets:
        text = secret.reveal()
        if len(text) < _LEAST_LETTERS:
            continue
        for form in (text, text.removeprefix("0x"), text.encode().hex()):
            data = data.replace(form.encode(), MASK.encode())
    return data


def write_bundle(file: Path, parts: Mapping[str, bytes], secrets: Collection[Secret[str]]) -> int:
    """Write all parts, scrubbed, into one `.tar.gz` (mode 0600, whole or not at all); gives its size in bytes.

    Errors: `SettingsError` when the file can't be written.
    """
    packed = _packed({name: scrub(data, secrets) for name, data in parts.items()})
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as opened:
            opened.write(packed)
        fresh.replace(file)
    except OSError as error:
        raise SettingsError(f"{file}: can't be written ({error.strerror}): choose another --output") from None
    return len(packed)


def _packed(parts: Mapping[str, bytes]) -> bytes:
    now = int(time.time())
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in parts.items():
            entry = tarfile.TarInfo(f"{_FOLDER}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), _PRIVATE, now
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=now)
