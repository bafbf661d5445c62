"""Keeps the allow-list fresh: each source in a loop of its own, so that a slow one holds nobody up."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from app.clock import Clock
from app.domain.alarms import Alarm
from app.domain.allow_list import ListSource
from app.domain.merged_list import SOURCE_NAMES, MergedAllowList
from app.domain.source_list import VALID_SECONDS, ListedValidator, ListStore, SourceList, ValidatorSource
from app.errors import ChainError

TIMEOUT_SECONDS: Final = 90.0
_FIRST_RETRY_SECONDS: Final = 5.0
_JITTER: Final = 0.1
_OLD_SECONDS: Final = 3600.0
_HOUR: Final = 3600.0


class RefreshReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one source does; times are in seconds. `failing`: why the last attempt failed, empty when it did not."""

    source: ListSource
    validators: int
    age_seconds: float | None
    valid: bool
    failures: int
    """Since the start."""
    failing: str = ""
    remedy: str = ""


class ListRefreshes:
    """All sources side by side, begun with what the run before kept."""

    def __init__(self, refreshes: Sequence["ListRefresh"], store: ListStore) -> None:
        self._refreshes = refreshes
        self._store = store

    async def run(self) -> None:
        """Refresh for ever; without any source there is nothing to do, for as long."""
        kept = await self._store.load() if self._refreshes else ()
        async with asyncio.TaskGroup() as group:
            for refresh in self._refreshes:
                refresh.recall(kept)
                group.create_task(refresh.run())
            group.create_task(asyncio.Event().wait())


class ListRefresh:
    """One source's loop: every `interval` seconds with some jitter, after failures sooner, backing off."""

    def __init__(
        self,
        source: ValidatorSource,
        allow_list: MergedAllowList,
        store: ListStore,
        clock: Clock,
        *,
        interval: float,
        chance: Callable[[], float],
        failed: Callable[[ListSource], None],
    ) -> None:
        self.source: ListSource = source.source
        self._from = source
        self._allow_list = allow_list
        self._store = store
        self._clock = clock
        self._interval = interval
        self._chance = chance
        self._count_failure = failed
        self._failures = 0
        self._in_a_row = 0
        self._error: ChainError | None = None
        self._log = structlog.get_logger("app.allow_list")

    def recall(self, kept: Sequence[SourceList]) -> None:
        """Begin with the list of the run before, if it is of the same chain or API and not too old."""
        for one in kept:
            if one.source == self.source and one.origin == self._from.origin and one.is_valid(self._clock.wall()):
                self._allow_list.replace(one)
                age = round(self._clock.wall() - one.fetched)
                self._log.info(
                    "allow-list from disk", source=self.source, validators=len(one.validators), age_seconds=age
                )

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(self.pause())

    def pause(self) -> float:
        """Seconds until the next attempt."""
        plain = self._interval
        if self._in_a_row:
            plain = min(plain, _FIRST_RETRY_SECONDS * 2 ** min(self._in_a_row - 1, 10))
        return plain * (1 + _JITTER * (2 * self._chance() - 1))

    async def refresh(self) -> None:
        """Ask once. Whatever goes wrong, the last good list stays until its 24 h are over."""
        try:
            validators = await self._ask()
        except ChainError as error:
            self._note(error)
            return
        if self._in_a_row:
            self._log.info("allow-list is read again", source=self.source)
        self._in_a_row, self._error = 0, None
        fresh = SourceList(
            source=self.source, origin=self._from.origin, fetched=self._clock.wall(), validators=validators
        )
        before = self._allow_list.list_of(self.source)
        self._allow_list.replace(fresh)
        if before is None or before.validators != validators:
            self._log.info("allow-list changed", source=self.source, validators=len(validators))
        await self._store.save(fresh)

    async def _ask(self) -> tuple[ListedValidator, ...]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                validators = await self._from.validators()
        except TimeoutError:
            raise ChainError(
                f"{SOURCE_NAMES[self.source]} did not answer within {TIMEOUT_SECONDS:g} s",
                remedy="check this machine's network; the miner asks again by itself",
                code="timeout",
            ) from None
        if not validators:
            # An empty answer is more likely a fault of the source than the end of all validators: it never wipes a
            # good list, which then ends with its own 24 h.
            raise ChainError(
                f"{SOURCE_NAMES[self.source]} names no validator",
                remedy="check NETUID, SUBTENSOR_NETWORK and CHALLENGE_API_URL; the miner asks again by itself",
                code="empty",
            )
        return validators

    def _note(self, error: ChainError) -> None:
        self._failures += 1
        self._in_a_row += 1
        self._count_failure(self.source)
        self._allow_list.failed(self.source, error.code)
        if self._error is None or self._error.code != error.code:
            self._log.warning(
                "allow-list can't be read", source=self.source, cause=error.cause, remedy=error.remedy, code=error.code
            )
        self._error = error

    def age(self) -> float | None:
        """Seconds since the last good answer; None without one."""
        kept = self._allow_list.list_of(self.source)
        return None if kept is None else max(0.0, self._clock.wall() - kept.fetched)

    def report(self) -> RefreshReport:
        """How this source does."""
        kept, age = self._allow_list.list_of(self.source), self.age()
        return RefreshReport(
            source=self.source,
            validators=0 if kept is None else len(kept.validators),
            age_seconds=None if age is None else round(age, 1),
            valid=kept is not None and kept.is_valid(self._clock.wall()),
            failures=self._failures,
            failing="" if self._error is None else self._error.cause,
            remedy="" if self._error is None else self._error.remedy,
        )

    def alarms(self) -> tuple[Alarm, ...]:
        """Said when the list grows old, and when it is empty."""
        found: list[Alarm] = []
        name, age = SOURCE_NAMES[self.source], self.age()
        if self._error is not None and self._error.code == "empty":
            found.append(Alarm(f"empty:{self.source}", f"{self._error}"))
        if age is not None and age > _OLD_SECONDS:
            left = max(0.0, VALID_SECONDS - age) / _HOUR
            why = f": {self._error}" if self._error is not None else ""
            found.append(
                Alarm(
                    f"old:{self.source}", f"the list of {name} is {age / _HOUR:.0f} h old, it ends in {left:.0f} h{why}"
                )
            )
        return tuple(found)
