"""Fetches weights from the Hugging Face hub: pinned, resumed, checked before and after.

Order: may we, is there a network, which files at which commit, does the disk hold them, fetch, compare checksums, and
only then write the lock.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.appliance.compute.lock_file import LockedFile, LockedWeights
from app.appliance.compute.pull_file import ASK_SECONDS, fetch
from app.domain.compute.fit import gb
from app.domain.compute.profile import Weights
from app.errors import DownloadError

_RESERVE: Final = 10**9
"""Bytes that must stay free on the disk."""
_NOT_WANTED: Final = ("original/*", "*.pth", "*.pt", "*.onnx", "*.h5", "*.msgpack", ".gitattributes", "*.md")
"""Other forms of the same weights, and what no engine reads."""


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that are here and checked."""

    name: str
    """The repository, or Ollama's tag."""
    revision: str
    path: str | None
    """The folder, or the GGUF file; None where Ollama keeps it."""
    bytes: int
    locked: LockedWeights


def pull_weights(weights: Weights, cache: Path, token: str | None, locked: LockedWeights | None) -> Pulled:
    """Fetch a repository's files into the hub's cache; a second call goes on where the first was interrupted.

    Errors: `DownloadError`.
    """
    repository = weights.repository
    if repository is None:
        raise DownloadError("these weights are not on the Hugging Face hub: nothing to pull")
    try:
        revision, files = _listed(repository, weights, token)
        _compare(repository, revision, files, locked)
        _room(repository, revision, files, cache)
        refuse_too_large(repository, files, cache)
        paths = [fetch(repository, revision, file, cache, token) for file in files]
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise _said(repository, weights, error) from None
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    first = next((path for path in paths if path.suffix == ".gguf"), None)
    return Pulled(
        name=repository,
        revision=revision,
        path=str(first or folder),
        bytes=sum(file.size for file in files),
        locked=LockedWeights(revision=revision, files=files),
    )


def _listed(repository: str, weights: Weights, token: str | None) -> tuple[str, tuple[LockedFile, ...]]:
    """Ask for the commit and its files. Being allowed to read a gated repository is asked for at the same time."""
    api = HfApi(token=token or False)
    api.auth_check(repository)
    info: Any = api.model_info(
        repository, revision=weights.revision or "main", files_metadata=True, timeout=ASK_SECONDS
    )
    files = tuple(
        LockedFile(
            name=file.rfilename,
            size=file.size or 0,
            sha256=file.lfs.sha256 if file.lfs else None,
            git_sha1=None if file.lfs else file.blob_id,
        )
        for file in info.siblings or ()
        if _wanted(file.rfilename, weights.files)
    )
    if not files:
        raise DownloadError(
            f"{repository} at {info.sha} has no file like {', '.join(weights.files) or '*'}: correct `files` in"
            " min_compute.yml"
        )
    return str(info.sha), files


def _wanted(name: str, patterns: Iterable[str]) -> bool:
    if patterns:
        return any(fnmatch(name, pattern) for pattern in patterns)
    return not any(fnmatch(name, pattern) for pattern in _NOT_WANTED)


def _compare(repository: str, revision: str, files: tuple[LockedFile, ...], locked: LockedWeights | None) -> None:
    """What was locked must still be what the hub offers for that commit."""
    if locked is None or locked.revision != revision or set(locked.files) <= set(files):
        return
    raise DownloadError(
        f"{repository} at {revision} is not what models.lock.json says: somebody changed one of the two; restore the"
        " lock, or remove the entry if you trust the hub"
    )


def _room(repository: str, revision: str, files: tuple[LockedFile, ...], cache: Path) -> None:
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    need = sum(file.size - _there(cache, repository, file) for file in files if not (folder / file.name).is_file())
    there = next(each for each in (cache.absolute(), *cache.absolute().parents) if each.exists())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    if need and need + _RESERVE > free:
        raise DownloadError(
            f"{repository} takes {gb(need)} more and 1 GB must stay free, but {there} has {gb(free)}: make room, or set"
            " HF_HOME to a folder on a larger disk"
        )


def refuse_too_large(repository: str, files: tuple[LockedFile, ...], cache: Path) -> None:
    """Refuse files that the hub serves by its own protocol only, which its library has as an extra.

    Errors: `DownloadError`; none for files that are here already.
    """
    blobs = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    for file in files:
        if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE and not (blobs / (file.sha256 or "")).is_file():
            raise DownloadError(
                f"{repository}: {file.name} has {gb(file.size)}, and over {gb(constants.MAX_HTTP_DOWNLOAD_SIZE)} the"
                f" hub serves by its Xet protocol only: fetch it with `hf download {repository}` (pip install hf_xet)"
                " into the same HF_HOME, then pull again"
            )


def _there(cache: Path, repository: str, file: LockedFile) -> int:
    """Count the bytes that an interrupted pull left."""
    blobs = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    partial = blobs / f"{file.sha256 or file.git_sha1}.partial"
    return min(file.size, partial.stat().st_size) if partial.is_file() else 0


def _said(repository: str, weights: Weights, error: Exception) -> DownloadError:
    why = _first_line(error)
    match error:
        case GatedRepoError():
            text = f"is gated: accept its licence at https://huggingface.co/{repository}, then set HF_TOKEN"
        case RepositoryNotFoundError():
            text = "is not on the hub, or your token may not see it: check min_compute.yml and HF_TOKEN"
        case RevisionNotFoundError():
            text = f"has no commit {weights.revision}: correct the revision in min_compute.yml or models.lock.json"
        case HfHubHTTPError():
            text = f"is refused by the hub ({why}): try again later"
        case OfflineModeIsEnabled():
            text = "can't be downloaded, HF_HUB_OFFLINE is set: unset it"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            text = f"can't be downloaded, the hub can't be reached ({why}): check the network, or copy the cache over"
        case httpx2.HTTPError():
            text = f"came in part only, the download broke off ({why}): pull again, it goes on where it was"
        case _:
            text = f"can't be stored ({why}): check the disk and the folder's mode"
    return DownloadError(f"{repository} {text}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
