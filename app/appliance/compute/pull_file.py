"""Fetches one file of a repository into the hub's cache, and goes on where an earlier process was interrupted.

The hub's own library no longer does that: each of its downloads begins at nothing, and a killed one leaves gigabytes
that nobody uses. So the partial file is ours; requests, retries, progress and the cache's layout are the library's.
"""

import fcntl
import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from huggingface_hub import file_download, hf_hub_url
from huggingface_hub.utils import build_hf_headers  # pyright: ignore[reportUnknownVariableType] - in part only

from app.appliance.compute.lock_file import LockedFile
from app.errors import DownloadError

ASK_SECONDS: Final = 10.0
_CHECKSUM: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK: Final = 8 * 1024 * 1024
_LIBRARY: Final[Any] = file_download  # its signatures are known in part only


def fetch(repository: str, revision: str, file: LockedFile, cache: Path, token: str | None) -> Path:
    """Give the file in the cache, fetched and with the right checksum.

    Errors: `DownloadError` when it is damaged or another process is at it; what the library raises besides.
    """
    storage = cache / f"models--{repository.replace('/', '--')}"
    checksum = file.sha256 or file.git_sha1 or ""
    if not _CHECKSUM.fullmatch(checksum):
        raise DownloadError(f"{repository}: the hub names no checksum for {file.name}: it is not fetched")
    name = PurePosixPath(file.name)
    if name.is_absolute() or ".." in name.parts:  # it becomes a path of this machine
        raise DownloadError(f"{repository} has a file {file.name!r}: that is no name of a file, nothing is fetched")
    blob = storage / "blobs" / checksum
    pointer = storage / "snapshots" / revision / file.name
    if blob.exists():
        _check(repository, file, blob)
    else:
        _download(repository, revision, file, blob, token)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if not pointer.exists():
        pointer.unlink(missing_ok=True)  # a link that leads nowhere
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    return pointer


def _download(repository: str, revision: str, file: LockedFile, blob: Path, token: str | None) -> None:
    url = hf_hub_url(repository, file.name, revision=revision)
    found = _LIBRARY.get_hf_file_metadata(url, token=token or False, timeout=ASK_SECONDS)
    # The token is for the hub, not for the network that it sends us on to.
    location: str = found.location
    ours = urlsplit(location).netloc == urlsplit(url).netloc
    headers = build_hf_headers(token=token if token and ours else False)
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{blob.name}.partial")
    with partial.open("ab"), partial.open("r+b") as opened:
        _alone(repository, file, opened)
        there = opened.seek(0, os.SEEK_END)
        if there > file.size:
            opened.truncate(0)
            there = opened.seek(0)
        _LIBRARY.http_get(
            location,
            opened,
            resume_size=there,
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.name,
        )
        opened.flush()
        os.fsync(opened.fileno())
        _check(repository, file, partial)
        partial.replace(blob)


def _alone(repository: str, file: LockedFile, opened: BinaryIO) -> None:
    """Nobody else may write to the same partial file; the lock ends with the process, however that ends."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DownloadError(f"{repository}: {file.name} is being fetched by another process: wait for that") from None


def _check(repository: str, file: LockedFile, path: Path) -> None:
    """Compare with the checksum that the hub names; a wrong file is removed, so that it is fetched anew."""
    if file.sha256 is not None:
        digest, wanted = hashlib.sha256(), file.sha256
    else:
        digest, wanted = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False), file.git_sha1 or ""
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{repository}: {file.name} is damaged (checksum {digest.hexdigest()[:12]}..., the hub says"
            f" {wanted[:12]}...) and was removed: pull again"
        )
