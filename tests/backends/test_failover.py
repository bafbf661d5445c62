"""Several engines: the first healthy one serves, and a request whose engine dies early goes on to the next."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from app.backends.failover import FailoverBackend
from app.clock import SystemClock
from app.domain.backend import BackendStatus, Delta, Generation
from app.errors import BackendRejected, BackendUnavailable
from tests.backends.engines import question, text_of, until

PROBE_SECONDS = 0.2


class FakeEngine:
    """A `Backend` that does what `then` says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.then = "works"
        self.ready = True
        self.asked = 0
        self.probes = 0
        self.closed = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> BackendStatus:
        reason = "" if self.ready else "can't be reached"
        return BackendStatus(ready=self.ready, reason=reason, model=self.name, address=f"http://{self.name}")

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        del generation
        self.asked += 1
        try:
            if self.then == "fails":
                raise BackendUnavailable(f"{self.name}: refused")
            if self.then == "refuses":
                raise BackendRejected("too long")
            if self.then == "hangs":
                await asyncio.sleep(60)
            yield Delta(text=f"{self.name} ")
            if self.then == "dies":
                raise BackendUnavailable(f"{self.name}: gone")
            yield Delta(text="done", finish="stop")
        finally:
            self.closed += 1

    async def probe(self) -> None:
        self.probes += 1
        if self.then in {"fails", "dies"}:
            raise BackendUnavailable(f"{self.name}: refused")
        if self.then == "hangs":
            await asyncio.sleep(60)


@pytest.fixture
def engines() -> list[FakeEngine]:
    return [FakeEngine("one"), FakeEngine("two"), FakeEngine("three")]


@pytest.fixture
async def backend(engines: list[FakeEngine]) -> AsyncIterator[FailoverBackend]:
    made = FailoverBackend(engines, SystemClock(), probe_seconds=PROBE_SECONDS)
    await made.open()
    yield made
    await made.close()


async def test_the_first_serves(backend: FailoverBackend, engines: list[FakeEngine]) -> None:
    assert await text_of(backend, question("?")) == "one done"
    status = backend.status()
    assert (status.ready, status.model) == (True, "one")
    assert status.standing_by == ("http://two", "http://three")
    assert [engine.asked for engine in engines] == [1, 0, 0]


async def test_a_failure_before_the_first_token_goes_on_to_the_next(
    backend: FailoverBackend, engines: list[FakeEngine]
) -> None:
    engines[0].then = engines[1].then = "fails"
    assert await text_of(backend, question("?")) == "three done"
    assert [engine.asked for engine in engines] == [1, 1, 1]


async def test_a_failure_after_the_first_token_is_told(backend: FailoverBackend, engines: list[FakeEngine]) -> None:
    engines[0].then = "dies"
    async with aclosing(backend.generate(question("?"))) as deltas:
        assert (await anext(deltas)).text == "one "
        with pytest.raises(BackendUnavailable, match="gone"):
            await anext(deltas)
    assert engines[1].asked == 0


async def test_a_refused_request_is_not_tried_elsewhere(backend: FailoverBackend, engines: list[FakeEngine]) -> None:
    engines[0].then = "refuses"
    for _ in range(5):
        with pytest.raises(BackendRejected):
            await text_of(backend, question("?"))
    assert engines[1].asked == 0


async def test_after_three_failures_it_is_left_alone_until_a_probe_is_good(
    backend: FailoverBackend, engines: list[FakeEngine]
) -> None:
    engines[0].then = "fails"
    for _ in range(5):
        assert await text_of(backend, question("?")) == "two done"
    assert engines[0].asked == 3
    assert backend.status().model == "two"
    assert "one: refused" in backend.status().standing_by[0]
    engines[0].then = "works"
    assert await text_of(backend, question("?")) == "two done", "no challenge is a trial"
    began = time.monotonic()
    while backend.status().model != "one":
        assert time.monotonic() - began < 3
        await backend.probe()
        await asyncio.sleep(0.05)
    assert await text_of(backend, question("?")) == "one done"


async def test_an_engine_that_is_not_ready_is_not_asked(backend: FailoverBackend, engines: list[FakeEngine]) -> None:
    engines[0].ready = False
    assert await text_of(backend, question("?")) == "two done"
    assert engines[0].asked == 0
    assert backend.status().standing_by[0] == "http://one can't be reached"


async def test_a_wedged_engine_keeps_nobody_once_a_probe_has_found_it(
    backend: FailoverBackend, engines: list[FakeEngine]
) -> None:
    """Both who waited when it was found, and who comes later, are answered by the next."""
    engines[0].then = "hangs"
    waiting = [asyncio.create_task(text_of(backend, question("?"))) for _ in range(5)]
    await asyncio.sleep(0.01)
    await backend.probe()  # the second engine's is good at once; the first one's runs on
    assert not any(task.done() for task in waiting)
    await until(lambda: all(task.done() for task in waiting), 2)
    assert [task.result() for task in waiting] == ["two done"] * 5
    assert engines[0].closed == 5, "its work was ended"
    assert await text_of(backend, question("?")) == "two done"


async def test_a_caller_that_leaves_cancels_and_blames_nobody(
    backend: FailoverBackend, engines: list[FakeEngine]
) -> None:
    engines[0].then = "hangs"
    for _ in range(5):
        task = asyncio.create_task(text_of(backend, question("?")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    engines[0].then = "works"
    assert await text_of(backend, question("?")) == "one done"
    assert engines[1].asked == 0


async def test_when_all_are_down_each_is_named(backend: FailoverBackend, engines: list[FakeEngine]) -> None:
    for engine in engines:
        engine.then = "fails"
    with pytest.raises(BackendUnavailable) as failed:
        await backend.probe()
    assert all(f"http://{engine.name}" in str(failed.value) for engine in engines)
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))
    assert backend.status().ready, "it can be tried: readiness is the probe's word"
    with pytest.raises(BackendUnavailable):
        await backend.probe()
    assert [engine.probes for engine in engines] == [1, 1, 1], "each has its rest"
    engines[2].then = "works"
    await asyncio.sleep(1.05)
    await backend.probe()
    assert await text_of(backend, question("?")) == "three done"
    for engine in engines:
        engine.ready = False
    assert not backend.status().ready
    assert backend.status().reason.count("can't be reached") == 3


async def test_a_hanging_probe_is_not_started_twice_and_ends_with_the_backend(
    backend: FailoverBackend, engines: list[FakeEngine]
) -> None:
    for engine in engines:
        engine.then = "hangs"
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await backend.probe()
    assert [engine.probes for engine in engines] == [1, 1, 1]
    before = len(asyncio.all_tasks())
    began = time.monotonic()
    await backend.close()
    assert time.monotonic() - began < PROBE_SECONDS / 2
    assert len(asyncio.all_tasks()) == before - 3
