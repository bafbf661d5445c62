"""What probing makes of an engine that works, fails, is wedged, or is only busy (design decision 11)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

import pytest

from app.clock import SystemClock
from app.domain.backend import BackendStatus, Delta, Generation
from app.domain.probing import Probing
from app.errors import BackendUnavailable

INTERVAL, TIMEOUT, RETRY = 0.5, 0.1, 0.02


class FakeEngine:
    """A `Backend` whose probe does what `then` says."""

    def __init__(self) -> None:
        self.then = "works"
        self.ready = True
        self.probes = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> BackendStatus:
        return BackendStatus(ready=self.ready)

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        del generation
        yield Delta()

    async def probe(self) -> None:
        self.probes += 1
        if self.then == "fails":
            raise BackendUnavailable("engine: refused")
        if self.then == "hangs":
            await asyncio.sleep(60)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def probing(engine: FakeEngine) -> AsyncGenerator[Probing, None]:
    made = Probing(engine, SystemClock(), interval=INTERVAL, timeout=TIMEOUT, retry=RETRY)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def seconds_until(condition: Callable[[], bool], limit: float = 2) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_a_good_probe_is_not_repeated_before_the_interval(engine: FakeEngine, probing: Probing) -> None:
    await seconds_until(lambda: probing.problem() is None)
    await asyncio.sleep(INTERVAL / 2)
    assert engine.probes == 1
    assert probing.last_seconds is not None


async def test_a_failure_is_seen_at_the_next_probe_and_recovery_at_the_retry(
    engine: FakeEngine, probing: Probing
) -> None:
    await seconds_until(lambda: probing.problem() is None)
    engine.then = "fails"
    probing.look_now()
    await seconds_until(lambda: probing.problem() is not None, INTERVAL / 2)
    engine.then = "works"
    await seconds_until(lambda: probing.problem() is None, INTERVAL / 2)


async def test_a_wedged_engine_is_down_and_what_it_needs_is_said(engine: FakeEngine, probing: Probing) -> None:
    engine.then = "hangs"
    probing.last_seconds = None
    probing.look_now()
    await seconds_until(lambda: probing.problem() is not None)
    assert "may take a minute" in str(probing.problem())
    engine.then = "works"
    await seconds_until(lambda: probing.problem() is None)
    engine.then = "hangs"
    probing.look_now()
    await seconds_until(lambda: probing.problem() is not None)
    assert "restart it if wedged" in str(probing.problem())


async def test_an_engine_busy_with_answers_is_not_down(engine: FakeEngine, probing: Probing) -> None:
    """Nor stays it down: text is as good as a probe's token."""
    engine.then = "fails"
    await seconds_until(lambda: probing.problem() is not None and engine.probes > 0)
    engine.then = "hangs"
    until = time.monotonic() + 4 * TIMEOUT
    was_up = False
    while time.monotonic() < until:
        probing.seen_working(time.monotonic())
        await asyncio.sleep(0.005)
        was_up = was_up or probing.problem() is None
    assert was_up
    assert probing.problem() is None


async def test_an_engine_that_wedges_after_some_text_gets_no_interval_more(
    engine: FakeEngine, probing: Probing
) -> None:
    await seconds_until(lambda: probing.problem() is None)
    engine.then = "hangs"
    probing.look_now()
    await seconds_until(lambda: engine.probes == 2)
    probing.seen_working(time.monotonic())
    taken = await seconds_until(lambda: probing.problem() is not None)
    assert taken < INTERVAL


async def test_a_loading_engine_is_not_probed(engine: FakeEngine, probing: Probing) -> None:
    engine.ready = False
    await asyncio.sleep(0)
    seen = engine.probes
    await asyncio.sleep(5 * RETRY)
    assert engine.probes == seen
