"""Fetches weights from the Hugging Face hub: pinned, resumed, checked before and after.

Order: may we, is there a network, which files at which commit, does the disk hold them, fetch, compare checksums, and
only then write the lock.
"""

import hashlib
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
from huggingface_hub import (
    HfApi,
    hf_hub_download,  # pyright: ignore[reportUnknownVariableType] - tqdm has no types
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.appliance.compute.lock_file import LockedFile, LockedWeights
from app.domain.compute.fit import gb
from app.domain.compute.profile import Weights
from app.errors import DownloadError

_ASK_SECONDS: Final = 10.0
_CHUNK: Final = 8 * 1024 * 1024
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
        paths = [
            Path(
                hf_hub_download(
                    repository,
                    file.name,
                    revision=revision,
                    cache_dir=cache,
                    token=token or False,
                    etag_timeout=_ASK_SECONDS,
                )
            )
            for file in files
        ]
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise _said(repository, weights, error) from None
    for file, path in zip(files, paths, strict=True):
        _check(repository, file, path)
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
        repository, revision=weights.revision or "main", files_metadata=True, timeout=_ASK_SECONDS
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
    need = sum(file.size for file in files if not (folder / file.name).is_file())
    there = next(each for each in (cache.absolute(), *cache.absolute().parents) if each.exists())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    if need and need + _RESERVE > free:
        raise DownloadError(
            f"{repository} takes {gb(need)} more and 1 GB must stay free, but {there} has {gb(free)}: make room, or set"
            " HF_HOME to a folder on a larger disk"
        )


def _check(repository: str, file: LockedFile, path: Path) -> None:
    """Compare a file with the checksum that the hub names; a wrong one is removed, so that it is fetched again."""
    if file.sha256 is not None:
        digest, wanted = hashlib.sha256(), file.sha256
    else:
        digest, wanted = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False), file.git_sha1
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    if wanted is not None and digest.hexdigest() != wanted:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{repository}: {file.name} is damaged (checksum {digest.hexdigest()[:12]}..., the hub says"
            f" {wanted[:12]}...) and was removed: pull again"
        )


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
        case httpx2.HTTPError() | LocalEntryNotFoundError():
            text = f"came in part only, the download broke off ({why}): pull again, it goes on where it was"
        case _:
            text = f"can't be stored ({why}): check the disk and the folder's mode"
    return DownloadError(f"{repository} {text}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
