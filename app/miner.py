"""The running miner: its start, its background work, and its graceful end (design decision 5)."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvloop

from app.clock import Clock
from app.domain.admission import Admission
from app.domain.backend import Backend
from app.domain.health import Health
from app.domain.probing import Probing
from app.protocol.rsa_keys import RsaKeyring
from app.serve_events import ServeScreen, StartFacts
from app.transport.listeners import Listener

_WATCH_SECONDS: Final = 0.25
_DRAIN_CHECK_SECONDS: Final = 0.02
_ROTATION_CHECK_SECONDS = 30.0
_LISTENER_STOP_SECONDS = 15.0
_GC_AFTER_OBJECTS: Final = 20_000
_FAILED = 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Miner:
    """All parts that live as long as the process does."""

    public: Listener
    admin: Listener
    backend: Backend
    probing: Probing
    health: Health
    admission: Admission
    keyring: RsaKeyring
    rotate_keys: bool
    drain_seconds: float
    keepers: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    """What else runs for as long as the miner does: lists, watches, alarms."""
    keep: Callable[[], Coroutine[Any, Any, None]]
    """Called at the end, for what is to outlive the process."""
    clock: Clock
    screen: ServeScreen
    facts: StartFacts

    def run(self) -> int:
        """Serve until a signal says stop; gives the exit status. Errors: `SettingsError`."""
        self.public.check_free()
        self.admin.check_free()
        return uvloop.run(self._serve())

    async def _serve(self) -> int:
        stop, hurry = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            # The second time somebody at a terminal doesn't want to wait for the answers in flight.
            loop.add_signal_handler(number, lambda: hurry.set() if stop.is_set() else stop.set())
        self.screen.starting(self.facts)
        await self.backend.open()
        listeners = [self.public.start(), self.admin.start()]
        works = (self.probing.run, self._announce, self._rotate_keys, *self.keepers)
        background = [asyncio.create_task(work()) for work in works]
        # What was built so far lives as long as the process: the collector need not walk it again and again.
        gc.freeze()
        # A request leaves no cycles behind: to look for them at every 700 new objects costs more than it finds.
        gc.set_threshold(_GC_AFTER_OBJECTS)
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *listeners, *background], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in (*listeners, *background) if task.done()]
        await self._drain(hurry)
        await self._close([stopping, *background])
        for task in failed:
            structlog.get_logger("app").error("a part of the miner ended by itself", error=repr(task.exception()))
        return _FAILED if failed else 0

    async def _drain(self, hurry: asyncio.Event) -> None:
        """Refuse what is new, finish what was accepted, for `drain_seconds` at most or until told to hurry."""
        self.admission.drain()
        self.screen.draining(self.admission.in_flight)
        end = self.clock.monotonic() + self.drain_seconds
        while self.admission.in_flight and self.clock.monotonic() < end and not hurry.is_set():  # noqa: ASYNC110 - 20 ms more do no harm
            await asyncio.sleep(_DRAIN_CHECK_SECONDS)

    async def _close(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        try:
            async with asyncio.timeout(_LISTENER_STOP_SECONDS):
                await self.public.stop()
        except TimeoutError:
            structlog.get_logger("app").warning("connections were still open at the end and are cut")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.keep()
        await self.backend.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTENER_STOP_SECONDS):
                await self.admin.stop()
        self.screen.stopped(self.admission.answered)

    async def _announce(self) -> None:
        """Tell the screen whenever readiness changes."""
        since, said = self.clock.monotonic(), None
        while True:
            readiness = self.health.readiness()
            if readiness != said:
                now = self.clock.monotonic()
                if readiness.ready:
                    self.screen.ready(now - since, self.backend.status().model)
                else:
                    self.screen.not_ready(readiness.reason)
                since, said = now, readiness
            await asyncio.sleep(_WATCH_SECONDS)

    async def _rotate_keys(self) -> None:
        """A new RSA key every day; the old one opens handshakes for ten minutes more (threat 17)."""
        while True:
            await asyncio.sleep(_ROTATION_CHECK_SECONDS)
            if self.keyring.rotation_due() and self.rotate_keys:
                self.keyring.rotate(await asyncio.to_thread(self.keyring.prepare))
