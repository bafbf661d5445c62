"""The active check of the engine: one token, in time, again and again (design decision 11)."""

import asyncio

from app.clock import Clock
from app.domain.backend import Backend
from app.errors import BackendError


class Probing:
    """Probes the engine at an interval, oftener while it is down, and remembers how the last probe went.

    A probe that runs into its time-out while the engine is busy with real answers proves nothing: text that came
    since it began counts as a good probe (`seen_working`), but the next one follows at once, because an engine that
    wedges just after it wrote something must not have a whole interval more.
    """

    def __init__(self, backend: Backend, clock: Clock, *, interval: float, timeout: float, retry: float) -> None:
        self._backend = backend
        self._clock = clock
        self._interval = interval
        self._timeout = timeout
        self._retry = retry
        self._problem: str | None = "the engine has not been probed yet"
        self._sure = False
        """Whether the last probe itself was good."""
        self._wake = asyncio.Event()
        self._worked_at = 0.0
        self.last_seconds: float | None = None
        """How long the last good probe took."""

    def problem(self) -> str | None:
        """Why the engine counts as down; None when the last probe was good."""
        return self._problem

    def look_now(self) -> None:
        """Probe at once instead of waiting for the interval."""
        self._wake.set()

    def seen_working(self, now: float) -> None:
        """The engine has just written something for a validator; `now` is in monotonic seconds."""
        self._worked_at = now

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            self._wake.clear()
            if self._backend.status().ready:
                await self._probe()
            await self._pause()

    async def _probe(self) -> None:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await self._backend.probe()
        except TimeoutError:
            self._sure = False
            self._problem = self._silence() if self._worked_at < began else None
        except BackendError as error:
            self._sure = False
            self._problem = f"the engine's probe failed: {error}"
        else:
            self.last_seconds = self._clock.monotonic() - began
            self._sure = True
            self._problem = None

    def _silence(self) -> str:
        said = f"the engine wrote no token within {self._timeout:g} s"
        if self.last_seconds is None:
            return f"{said}: the first one may take a minute after its start; if it never comes, look at its log"
        return f"{said}: look at its log, restart it if wedged"

    async def _pause(self) -> None:
        ready = self._backend.status().ready and self._sure
        try:
            async with asyncio.timeout(self._interval if ready else self._retry):
                await self._wake.wait()
        except TimeoutError:
            return
