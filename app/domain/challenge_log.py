"""The log of challenges: numbers, fixed words and hotkeys, never content (threat 18); batched, off every request's way.

A request only appends a record in memory. What is new goes to the store every few seconds. A store that can't take it
costs nothing but memory, and not much of that: the oldest records go first, and how many is said.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from app.clock import Clock
from app.metrics import Outcome

KEPT_DAYS: Final = 30
_DAY_SECONDS: Final = 86_400.0
_FLUSH_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 15.0
_PRUNE_SECONDS: Final = 3600.0
MOST_WAITING: Final = 10_000
_BATCH: Final = 2_000


class ChallengeRecord(msgspec.Struct, frozen=True, gc=False):
    """One challenge that came to its end; times are in seconds, `at` is unix time."""

    at: float
    hotkey: str
    outcome: Outcome
    reason: str = ""
    """Why it was refused or failed, a fixed word of `app.errors`; empty for an answer."""
    seconds: float | None = None
    """From the first byte to the answer; None where there was none."""
    queued: float | None = None
    first_token: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChallengeStore(Protocol):
    """Keeps records over restarts."""

    async def append(self, records: Sequence[ChallengeRecord]) -> bool:
        """Keep them; False when that can't be done now. The same record twice is kept once."""
        ...

    async def prune(self, before: float) -> None:
        """Forget what is older than a unix time, and what is too much."""
        ...

    async def since(self, at: float) -> Sequence[ChallengeRecord]:
        """What is kept since a unix time, in order of time; empty when nothing can be read."""
        ...


type Listener = Callable[[Sequence[ChallengeRecord]], None]


class ChallengeLog:
    """Takes records from the journal; `listener` is shown them in batches, those of earlier runs first."""

    def __init__(self, store: ChallengeStore, clock: Clock, listener: Listener, *, recall_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._listener = listener
        self._recall_seconds = recall_seconds
        self._fresh: list[ChallengeRecord] = []
        self._waiting: deque[ChallengeRecord] = deque()
        self._lost = 0
        self._log = structlog.get_logger("app.state")
        self.add = self._fresh.append
        """Take a record: one append, the only thing that happens on a request's way."""

    @property
    def lost(self) -> int:
        """Records that were let go because nothing could be kept for too long; since the start."""
        return self._lost

    def look(self) -> None:
        """Show the listener what came since the last look."""
        if not self._fresh:
            return
        new = self._fresh.copy()
        self._fresh.clear()
        self._listener(new)
        self._waiting.extend(new)
        over = len(self._waiting) - MOST_WAITING
        if over > 0:
            if not self._lost:
                self._log.warning("the log of challenges loses its oldest: nothing can be kept", waiting=MOST_WAITING)
            self._lost += over
            for _ in range(over):
                self._waiting.popleft()

    async def run(self) -> None:
        """Recall the last hours, then keep what comes, and forget what is old once an hour."""
        self._listener(await self._store.since(self._clock.wall() - self._recall_seconds))
        prune_at = self._clock.monotonic()
        while True:
            kept = await self.keep()
            if kept and self._clock.monotonic() >= prune_at:
                await self._store.prune(self._clock.wall() - KEPT_DAYS * _DAY_SECONDS)
                prune_at = self._clock.monotonic() + _PRUNE_SECONDS
            await asyncio.sleep(_FLUSH_SECONDS if kept else _RETRY_SECONDS)

    async def keep(self) -> bool:
        """Keep all that waits, now; also for the end of the process. False when it can't be kept."""
        self.look()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if not await self._store.append(batch):
                self._waiting.extendleft(reversed(batch))
                return False
        return True
