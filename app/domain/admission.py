"""Who may use the engine now (design decision 10): slots, a bounded queue, a ticket for each request."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import IntEnum
from math import ceil
from typing import Final

from app.clock import Clock
from app.domain.deadline import Deadline
from app.errors import Unavailable

_SMOOTHING: Final = 0.1
_LEAST_USEFUL_SECONDS: Final = 2.0
_SLOTS_WORTH_A_RESERVE: Final = 4


class Rank(IntEnum):
    """Who goes first: as long as a validator waits, the operator's own requests get no slot."""

    VALIDATOR = 0
    OPERATOR = 1


class _Ticket:
    __slots__ = ("granted", "owner", "rank")

    def __init__(self, owner: str, rank: Rank, granted: asyncio.Future[None]) -> None:
        self.owner = owner
        self.rank = rank
        self.granted = granted


class Admission:
    """At most `slots` requests run and at most `queue_limit` wait.

    Fair between owners (an owner is one validator's session): a free slot goes to the waiting owner who runs the
    fewest, in order of arrival among equals; a full queue makes room for an owner who waits less than the greediest
    one; and from four slots up one is kept for owners who run nothing, so that a flood in one session never shuts
    the others out (threat 2).

    The operator's own requests (rank `OPERATOR`) come after all validators': from two slots up one slot is never
    theirs, they wait until no validator does, and they leave a full queue to a validator.

    A request that can't be answered before its deadline is refused as soon as that is known: waiting for nothing
    would only take the place of one that can.
    """

    def __init__(self, slots: int, queue_limit: int, clock: Clock) -> None:
        self.slots = slots
        self.queue_limit = queue_limit
        self.running = 0
        self.answered = 0
        """Requests that held a slot and gave it back, since the start."""
        self.draining = False
        self._clock = clock
        self._reserve = 1 if slots >= _SLOTS_WORTH_A_RESERVE else 0
        self._waiting: list[_Ticket] = []
        self._running_of: Counter[str] = Counter()
        self._service_seconds = 0.0

    @property
    def queued(self) -> int:
        """Requests waiting for a slot."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return self.running + len(self._waiting)

    def drain(self) -> None:
        """Refuse whatever comes from now on; what was accepted is finished."""
        self.draining = True

    def resume(self) -> None:
        """Take new requests again after `drain`."""
        self.draining = False

    @asynccontextmanager
    async def slot(self, deadline: Deadline, owner: str, rank: Rank = Rank.VALIDATOR) -> AsyncGenerator[None]:
        """Hold a slot while the body runs. Errors: `Unavailable` (draining, full, or no time left)."""
        if self.draining:
            raise Unavailable("the miner is draining before it stops: ask another one", reason="draining")
        # Whoever waits may not run now, else it would have been handed a slot: nobody with a better claim is passed.
        if self._may_run(owner, rank):
            self._take(owner)
        else:
            await self._queue(deadline, owner, rank)
        began = self._clock.monotonic()
        try:
            yield
        finally:
            if rank is Rank.VALIDATOR:  # the operator's may take minutes, and say nothing of how long challenges take
                self._note(self._clock.monotonic() - began)
            self._leave(owner)

    def expected_wait(self, rank: Rank = Rank.VALIDATOR) -> float:
        """Seconds until a newcomer would get a slot, from how long challenges took lately."""
        if self.running < self.slots:
            return 0.0
        ahead = sum(ticket.rank <= rank for ticket in self._waiting)
        return self._service_seconds * ceil((ahead + 1) / self.slots)

    def _may_run(self, owner: str, rank: Rank) -> bool:
        free = self.slots - self.running
        if rank is Rank.OPERATOR:
            return free > min(1, self.slots - 1)
        return free > (self._reserve if self._running_of[owner] else 0)

    async def _queue(self, deadline: Deadline, owner: str, rank: Rank) -> None:
        wait = self.expected_wait(rank)
        patience = deadline.left(self._clock.monotonic()) - _LEAST_USEFUL_SECONDS
        if wait >= patience:
            raise Unavailable("no slot will be free in time", reason="no_time", retry_after=max(1, ceil(wait)))
        if len(self._waiting) >= self.queue_limit:
            self._make_room(owner, rank, wait)
        ticket = _Ticket(owner, rank, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._hand_out()
        try:
            async with asyncio.timeout(patience):
                await ticket.granted
        except TimeoutError:
            self._give_up(ticket)
            raise Unavailable("no slot became free in time", reason="no_time") from None
        except asyncio.CancelledError:
            self._give_up(ticket)
            raise

    def _make_room(self, owner: str, rank: Rank, wait: float) -> None:
        """Take the newest ticket of the lowest rank's greediest owner out of a full queue, or refuse the newcomer."""
        full = Unavailable(
            f"all {self.slots} slots are busy and {self.queue_limit} requests wait: come back later",
            reason="queue_full",
            retry_after=max(1, ceil(wait)),
        )
        lowest = max((ticket.rank for ticket in self._waiting), default=rank)
        waiting_of = Counter(ticket.owner for ticket in self._waiting if ticket.rank is lowest)
        greediest, most = waiting_of.most_common(1)[0] if waiting_of else (owner, 0)
        if rank > lowest or (rank is lowest and waiting_of[owner] + 1 >= most):
            raise full
        newest = next(ticket for ticket in reversed(self._waiting) if ticket.owner == greediest)
        self._waiting.remove(newest)
        newest.granted.set_exception(full)

    def _hand_out(self) -> None:
        """Give free slots to those who wait, fairest first."""
        while self._waiting:
            ticket = min(self._waiting, key=lambda waiting: (waiting.rank, self._running_of[waiting.owner]))
            if not self._may_run(ticket.owner, ticket.rank):
                return
            self._waiting.remove(ticket)
            if not ticket.granted.done():
                self._take(ticket.owner)
                ticket.granted.set_result(None)

    def _give_up(self, ticket: _Ticket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif not ticket.granted.cancelled() and ticket.granted.exception() is None:
            self._leave(ticket.owner)  # the slot was handed over in the same moment: pass it on

    def _take(self, owner: str) -> None:
        self.running += 1
        self._running_of[owner] += 1

    def _leave(self, owner: str) -> None:
        self.running -= 1
        self.answered += 1
        self._running_of[owner] -= 1
        if not self._running_of[owner]:
            del self._running_of[owner]
        self._hand_out()

    def _note(self, seconds: float) -> None:
        if self._service_seconds == 0.0:
            self._service_seconds = seconds
        else:
            self._service_seconds += _SMOOTHING * (seconds - self._service_seconds)
