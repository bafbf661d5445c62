"""The embedded model's weights in the form that this processor computes fastest; written once, kept on disk.

The package ships 4-bit weights (Q4_1), a form that llama.cpp multiplies row by row. In 8 bits (Q8_0) it multiplies in
blocks: on AVX2 prompts are read 2.2 to 2.5 times as fast, eight at once are written 1.4 to 1.6 times as fast, four 1.1
to 1.3 times, and one alone neither faster nor slower. Where llama.cpp was built for AVX512-BF16, bfloat16 gains twice
as much at eight. On other processors nothing was measured: the weights stay as they are. Going from 4 bits to 8 loses
next to nothing, and the text is the shipped model's but for rounding.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

import llama_cpp
import msgspec
import structlog

from app.backends.llama_local.bindings import NativeLog, can_use_gpu, load_library

_log = structlog.get_logger(__name__)
_STALE_SECONDS: Final = 3600.0
_ROOM: Final = 4
"""Free space wanted, in sizes of the shipped file: bfloat16 takes 2.8."""
_DIGITS: Final = 16


class Form(msgspec.Struct, frozen=True):
    """What the weights are rewritten to."""

    name: str
    file_type: int
    """llama.cpp's number (`llama_ftype`)."""


_FORMS: Final = (
    ("AVX512_BF16 = 1", Form("BF16", llama_cpp.LLAMA_FTYPE_MOSTLY_BF16)),
    ("AVX2 = 1", Form("Q8_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0)),
)


def fastest_form(gpu_layers: int) -> Form | None:
    """What this build of llama.cpp computes fastest on this processor; None to leave the weights as they are."""
    load_library()
    if can_use_gpu() and gpu_layers:
        return None
    features = llama_cpp.llama_print_system_info().decode()
    return next((form for feature, form in _FORMS if feature in features), None)


def rewritten(source: Path, folder: Path, form: Form, threads: int) -> Path:
    """The weights of `source` in that form: from `folder`, or written there now, which takes seconds.

    A file counts only when its content has the hash that its name carries, so one that was cut short, or damaged, is
    written again. Where it can't be written the log says why, and `source` itself is what is given.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # may be STATE_DIR, which is nobody else's
        folder.mkdir(mode=0o700, exist_ok=True)
        # Another llama.cpp may write, and read, otherwise.
        stem = f"{source.stem}-{form.name}-llama{llama_cpp.__version__}-{_digest(source)}"
        for kept in folder.glob(f"{stem}-*.gguf"):
            if kept.stem == f"{stem}-{_digest(kept)}":
                return kept
            _log.warning("rewritten model is damaged", file=str(kept), action="writing it again")
        return _write(source, folder, stem, form, threads) or source
    except OSError as error:
        _log.warning("embedded model not rewritten", reason=str(error), consequence="slower with several at once")
        return source


def _write(source: Path, folder: Path, stem: str, form: Form, threads: int) -> Path | None:
    _sweep(folder)
    needed, free = _ROOM * source.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder} has {free >> 20} MB left, {needed >> 20} are wanted")
    began = time.monotonic()
    draft = folder / f"{stem}.{os.getpid()}.part"
    try:
        _quantise(source, draft, form, threads)
        target = folder / f"{stem}-{_digest(draft)}.gguf"
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    for old in folder.glob("*.gguf"):
        if old != target:
            old.unlink(missing_ok=True)
    _log.info(
        "embedded model rewritten for this processor",
        form=form.name,
        seconds=round(time.monotonic() - began, 1),
        megabytes=target.stat().st_size >> 20,
        file=str(target),
    )
    return target


def _quantise(source: Path, draft: Path, form: Form, threads: int) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = form.file_type
    params.nthread = threads
    params.allow_requantize = True
    with NativeLog() as log:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(draft).encode(), ctypes.pointer(params))
    if code:
        raise OSError(f"llama.cpp could not write {draft}: {log.text()}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed left; another miner may be writing just now."""
    for draft in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                draft.unlink()
