"""Opening, failing and closing."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.model_file import find_model
from app.backends.llama_local.options import LlamaLocalSettings
from app.domain.backend import BackendStatus, Delta
from app.errors import BackendUnavailable, SettingsError
from tests.backends.llama_local.asking import ask, generation, opened, until

SMALL = LlamaLocalSettings(parallel=2, context_tokens=512)


@pytest.fixture
def left_over() -> Callable[[], set[threading.Thread]]:
    """Threads of engines that were not there before the test."""
    before = set(threading.enumerate())
    return lambda: {thread for thread in threading.enumerate() if thread.name.startswith("llama-")} - before


async def failed(settings: LlamaLocalSettings) -> str:
    """Why the backend says that it can't load."""
    backend = LlamaLocalBackend(settings, "smollm2")
    await backend.open()
    try:
        await until(lambda: not backend.status().reason.startswith("loading"))
        assert not backend.status().ready
        assert not backend.status().loading
        with pytest.raises(BackendUnavailable):
            await backend.probe()
        return backend.status().reason
    finally:
        await backend.close()


async def test_status_tells_loading_then_ready_then_closed() -> None:
    backend = LlamaLocalBackend(SMALL, "smollm2")
    assert backend.status().reason == "not started"
    began = time.monotonic()
    await backend.open()
    assert time.monotonic() - began < 0.5
    status = backend.status()
    assert (status.ready, status.loading) == (False, True)
    assert status.reason.startswith("loading smollm2")
    with pytest.raises(BackendUnavailable, match="loading smollm2"):
        await ask(backend)
    await until(lambda: backend.status().ready)
    assert backend.status() == BackendStatus(ready=True, model="smollm2", context_tokens=512)
    await backend.close()
    assert not backend.status().ready
    with pytest.raises(BackendUnavailable, match="not started"):
        await ask(backend)


async def test_close_while_loading_comes_back(left_over: Callable[[], set[threading.Thread]]) -> None:
    backend = LlamaLocalBackend(SMALL, "smollm2")
    await backend.open()
    await asyncio.wait_for(backend.close(), 30)
    await until(lambda: not left_over(), 5)


async def test_close_without_open_and_twice() -> None:
    backend = LlamaLocalBackend(SMALL, "smollm2")
    await backend.close()
    await backend.open()
    await backend.close()
    await backend.close()


async def test_close_while_writing_and_reading_ends_every_request(
    left_over: Callable[[], set[threading.Thread]],
) -> None:
    backend = LlamaLocalBackend(LlamaLocalSettings(parallel=2), "smollm2")
    await backend.open()
    await until(lambda: backend.status().ready)
    long = "Repeat: " + " ".join(f"word{number}" for number in range(1500))
    asking = [asyncio.create_task(ask(backend, text, max_tokens=2000)) for text in ("Tell me a story.", long, "Wait")]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await backend.close()
    assert time.monotonic() - began < 5
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [BackendUnavailable] * 3
    await until(lambda: not left_over(), 5)


async def test_a_reader_that_has_not_finished_can_be_closed_after_the_backend() -> None:
    backend = LlamaLocalBackend(SMALL, "smollm2")
    await backend.open()
    await until(lambda: backend.status().ready)
    stream = backend.generate(generation("Tell me a story.", max_tokens=300))
    assert isinstance(await anext(stream), Delta)
    await backend.close()
    await stream.aclose()


async def test_cycles_leak_neither_threads_nor_files_nor_memory(left_over: Callable[[], set[threading.Thread]]) -> None:
    process = psutil.Process()
    seen: list[tuple[int, int, int]] = []
    for _ in range(4):
        async with opened(SMALL) as backend:
            await ask(backend, max_tokens=4)
        gc.collect()
        await until(lambda: not left_over(), 5)
        seen.append((threading.active_count(), process.num_fds(), process.memory_info().rss >> 20))
    threads, files, memory = zip(*seen[1:], strict=True)  # the first cycle loads the library
    assert len(set(threads)) == 1, seen
    assert len(set(files)) == 1, seen
    assert max(memory) - min(memory) < 30, seen


async def test_missing_file_is_named(tmp_path: Path) -> None:
    assert await failed(LlamaLocalSettings(parallel=1, model_path=tmp_path / "no.gguf")) == (
        f"MODEL_PATH {tmp_path}/no.gguf does not exist: set it to a .gguf file, or leave it empty"
    )


async def test_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(find_model(None).read_bytes()[:3_000_000])
    reason = await failed(LlamaLocalSettings(parallel=1, model_path=broken))
    assert f"{broken} can't be loaded" in reason
    assert "download it again" in reason


async def test_more_context_than_memory_is_refused_with_what_to_do() -> None:
    reason = await failed(LlamaLocalSettings(parallel=1, context_tokens=2_000_000_000))
    assert "LLAMA_CONTEXT" in reason


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "readme.gguf"
    text.write_text("hello")
    with pytest.raises(SettingsError, match="is not a GGUF file"):
        find_model(text)
    with pytest.raises(SettingsError, match="is a folder"):
        find_model(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    locked = tmp_path / "locked.gguf"
    locked.touch()
    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who reads everything
    with pytest.raises(SettingsError, match=r"can't be read \(Permission denied\): let the miner's user read it"):
        find_model(locked)


def test_nothing_installed_and_nothing_set_says_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> None:
        return None

    monkeypatch.setattr("app.backends.llama_local.model_file.find_spec", nothing)
    with pytest.raises(SettingsError, match="MODEL_PATH is not set"):
        find_model(None)


def test_importing_the_backend_loads_neither_numpy_nor_llama_cpp() -> None:
    code = "import sys, app.backends.llama_local.backend; print({'numpy', 'llama_cpp', 'jinja2'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, env=os.environ | {"PYTHONPATH": "."}
    )
    assert done.stdout == b"set()\n"


def test_the_process_ends_although_nobody_closed_the_backend() -> None:
    code = (
        "import asyncio\n"
        "from tests.backends.llama_local.asking import *\n"
        "async def main():\n"
        "    backend = LlamaLocalBackend(LlamaLocalSettings(parallel=1), 'x')\n"
        "    await backend.open()\n"
        "    await until(lambda: backend.status().ready)\n"
        "    await anext(backend.generate(generation(max_tokens=500)))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, env=os.environ | {"PYTHONPATH": "."}, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
