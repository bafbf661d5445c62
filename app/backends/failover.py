"""Several engines in order: the first healthy one serves, the others stand by (balancing is a router's business)."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from app.backends.breaker import Breaker
from app.clock import Clock
from app.domain.backend import Backend, BackendStatus, Delta, Generation
from app.errors import BackendError, BackendRejected, BackendUnavailable


class _Engine:
    """One engine with its breaker, its probe, and those who wait for their first token from it."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self.backend = backend
        self.breaker = Breaker(clock)
        self.problem = ""
        self.probing: asyncio.Task[str] | None = None
        self._clock = clock
        self._waiting: set[asyncio.Timeout] = set()
        self._worked_at = 0.0

    @property
    def usable(self) -> bool:
        return self.breaker.state == "closed" and self.backend.status().ready

    @property
    def line(self) -> str:
        """Where it is and what is wrong with it, if anything."""
        status = self.backend.status()
        problem = status.reason or ("" if self.breaker.state == "closed" else self.problem)
        return problem if not status.address or status.address in problem else f"{status.address} {problem}".rstrip()

    async def first(self, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        """The beginning of a text. Errors: `BackendUnavailable`, also when a probe finds the engine wedged meanwhile.

        A time-out that only then gets its time costs no task.
        """
        try:
            async with asyncio.timeout(None) as patience:
                self._waiting.add(patience)
                try:
                    return await anext(deltas, None)
                finally:
                    self._waiting.discard(patience)
        except TimeoutError:
            raise BackendUnavailable("the engine was found wedged before its first token") from None

    def worked(self) -> None:
        """It has just written something."""
        self._worked_at = self._clock.monotonic()
        self.breaker.succeeded()

    def failed(self, problem: str, *, trial: bool = False) -> None:
        """It failed; when that opens its breaker, nobody waits for it any longer."""
        self.problem = problem
        self.breaker.failed(trial=trial)
        if self.breaker.state == "open":
            now = asyncio.get_running_loop().time()
            for patience in self._waiting:
                patience.reschedule(now)
            self._waiting.clear()

    async def probe(self, seconds: float) -> str:
        """The trial; gives what is wrong, or nothing."""
        began = self._clock.monotonic()
        problem = ""
        try:
            async with asyncio.timeout(seconds):
                await self.backend.probe()
        except TimeoutError:
            if self._worked_at < began:
                problem = f"wrote no token within {seconds:g} s"
        except BackendError as error:
            problem = str(error)
        if problem:
            self.failed(problem, trial=True)
        else:
            self.breaker.succeeded()
        return problem


class FailoverBackend:
    """A `Backend` made of several.

    A request whose engine fails before its first token goes on to the next one, within the same deadline; after the
    first token its text so far is all there is. A trial of an engine that failed is always a probe, never a challenge.
    """

    def __init__(self, backends: Sequence[Backend], clock: Clock, *, probe_seconds: float) -> None:
        self._engines = [_Engine(backend, clock) for backend in backends]
        self._probe_seconds = probe_seconds

    async def open(self) -> None:
        """Connect to all."""
        for engine in self._engines:
            await engine.backend.open()

    async def close(self) -> None:
        """Let go of all."""
        probes = [engine.probing for engine in self._engines if engine.probing is not None]
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        for engine in self._engines:
            await engine.backend.close()

    def status(self) -> BackendStatus:
        """The serving engine's; when none serves, that of the first which can at least be tried."""
        serving = next((engine for engine in self._engines if engine.usable), None)
        serving = serving or next((engine for engine in self._engines if engine.backend.status().ready), None)
        if serving is None:
            loading = any(engine.backend.status().loading for engine in self._engines)
            return BackendStatus(ready=False, loading=loading, reason=self._lines())
        others = tuple(engine.line for engine in self._engines if engine is not serving)
        return msgspec.structs.replace(serving.backend.status(), standing_by=others)

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Stream the text of the first engine that begins one. Errors: `BackendUnavailable`, `BackendRejected`."""
        for engine in self._engines:
            if not engine.usable:
                continue
            async with aclosing(engine.backend.generate(generation)) as deltas:
                try:
                    first = await engine.first(deltas)
                except BackendUnavailable as error:
                    engine.failed(str(error))
                    continue
                except BackendRejected:
                    engine.worked()
                    raise
                engine.worked()
                if first is not None:
                    yield first
                try:
                    async for delta in deltas:
                        engine.worked()
                        yield delta
                except BackendUnavailable as error:
                    engine.failed(str(error))
                    raise
                return
        raise BackendUnavailable("no engine is up")

    async def probe(self) -> None:
        """Probe all that may be tried; the first that writes will do. Errors: `BackendUnavailable` when none does."""
        for engine in self._engines:
            running = engine.probing is not None and not engine.probing.done()
            if not running and engine.backend.status().ready and engine.breaker.state != "open":
                engine.probing = asyncio.create_task(engine.probe(self._probe_seconds))
        pending = {engine.probing for engine in self._engines if engine.probing and not engine.probing.done()}
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(not task.result() for task in done):
                return
        if not any(engine.usable for engine in self._engines):
            raise BackendUnavailable(self._lines())

    def _lines(self) -> str:
        return "; ".join(engine.line for engine in self._engines)
