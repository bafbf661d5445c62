"""The engines' client under twelve faults at three moments: an error of ours or the text so far, and nothing left."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from app.backends.dialects import Vllm
from app.backends.openai_api import OpenAiBackend
from app.errors import BackendError, BackendUnavailable
from tests.backends.engines import question, text_of, until
from tests.faults.proxy import FAULTS, PHASES, FaultProxy, Phase
from tests.miner.process import StubEngine

PATIENCE = 0.8
"""Stands in for the deadline, in seconds."""
SILENT = {"stall", "drip"}
NO_CHUNK = {"garbage", "redirect"}
"""Bytes that are no chunk, in a chunked body: aiohttp 3.14 drops the connection, but wakes nobody who reads the body.

So in a running answer it is as silence is: the deadline ends it, with the text so far.
"""


@pytest.fixture
async def proxy(engine: StubEngine) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(engine.port) as made:
        yield made


@pytest.fixture
async def backend(proxy: FaultProxy) -> AsyncIterator[OpenAiBackend]:
    made = OpenAiBackend(Vllm(None, 16384), proxy.base_url)
    await made.open()
    await until(lambda: made.status().ready)
    yield made
    await made.close()


def descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


def tasks() -> list[str]:
    """The loop's tasks, but for those of the proxy, which lives in it too."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in names if "FaultProxy" not in name and "StreamReader" not in name]


async def ask(backend: OpenAiBackend) -> tuple[str, str]:
    """Text, and how it ended."""
    text = ""
    try:
        async with asyncio.timeout(PATIENCE), aclosing(backend.generate(question("on", 5000))) as deltas:
            async for delta in deltas:
                text += delta.text
    except TimeoutError:
        return text, "timed out"
    except BackendError as error:
        return text, type(error).__name__
    return text, "finished"


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_threat_21_a_fault_is_an_error_of_ours_and_leaves_nothing(
    backend: OpenAiBackend, proxy: FaultProxy, engine: StubEngine, fault: str, phase: Phase
) -> None:
    await text_of(backend, question("warm up"))
    before = len(tasks())
    open_before = descriptors()
    engine.behave(endless=True, token_ms=10)
    await proxy.arm(fault, phase)
    text, ended = await ask(backend)
    assert proxy.failed
    silent = fault in SILENT or (fault in NO_CHUNK and phase == "generation")
    assert ended == ("timed out" if silent else BackendUnavailable.__name__)
    assert text == ("on " * text.count("on ") if phase == "generation" else "")
    assert bool(text) == (phase == "generation")
    assert proxy.followed_redirects == 0
    await proxy.mend()
    engine.behave()
    await until(lambda: engine.stats().running == 0, 2)
    await until(lambda: backend.status().ready)
    await text_of(backend, question("well again"))
    await until(lambda: len(tasks()) <= before, 2)
    assert descriptors() <= open_before + 4
