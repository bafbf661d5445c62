"""How long ago the last challenge was answered: 3 h without one zero the miner's weight (protocol, section 3)."""

import asyncio
from typing import Final, Protocol

import msgspec

from app.clock import Clock
from app.domain.alarms import Alarm

_MINUTE: Final = 60.0
_STEPS: Final = ((150, "last_answer_150"), (90, "last_answer_90"), (45, "last_answer_45"))
_ZERO_MINUTES: Final = 180
_KEEP_SECONDS: Final = 60.0


class MomentStore(Protocol):
    """Keeps one point in time (unix seconds) over restarts."""

    async def load(self) -> float | None:
        """When it last was; None when that is not known."""
        ...

    async def save(self, at: float) -> None:
        """Keep it instead of the one before."""
        ...


class LastAnswerReport(msgspec.Struct, frozen=True):
    """Seconds since the last answer, None when none is known; `waited`: since then or since the start."""

    age_seconds: float | None
    waited_seconds: float


class LastAnswer:
    """The time of the last challenge that was answered in time; also that of earlier runs."""

    def __init__(self, store: MomentStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._started = clock.wall()
        self._at: float | None = None
        self._kept: float | None = None

    def answered(self) -> None:
        """A challenge was answered just now."""
        self._at = self._clock.wall()

    def report(self) -> LastAnswerReport:
        """How long ago that was."""
        now = self._clock.wall()
        since = self._started if self._at is None else self._at
        age = None if self._at is None else round(max(0.0, now - self._at), 1)
        return LastAnswerReport(age, round(max(0.0, now - since), 1))

    def alarms(self) -> tuple[Alarm, ...]:
        """Said after 45, 90 and 150 minutes without an answer."""
        report = self.report()
        minutes = report.waited_seconds / _MINUTE
        for step, name in _STEPS:
            if minutes >= step:
                since = "the start" if report.age_seconds is None else "the last answer"
                text = (
                    f"{minutes:.0f} minutes since {since}: after {_ZERO_MINUTES} without an answer the weight is zero;"
                    " check that the posted axon is reachable from outside, and that the miner is ready"
                )
                return (Alarm(name, text),)
        return ()

    async def run(self) -> None:
        """Recall the run before, then keep what changes, once a minute at most."""
        before = await self._store.load()
        if self._at is None and before is not None:
            self._at = self._kept = min(before, self._clock.wall())
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Keep it now, if it changed: also for the end of the process."""
        if self._at is not None and self._at != self._kept:
            await self._store.save(self._at)
            self._kept = self._at
