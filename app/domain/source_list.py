"""A list of validators as one source gave it, and for how long it may be relied on (design decision 8)."""

from collections.abc import Collection
from typing import Final, Protocol

import msgspec

from app.domain.allow_list import AllowedValidator, ListSource
from app.domain.source import plain_address

VALID_SECONDS: Final = 24 * 3600.0
_CLOCK_SECONDS: Final = 600.0
_MOST_ADDRESSES: Final = 8


class ListedValidator(msgspec.Struct, frozen=True, kw_only=True):
    """One validator of a source's list. Stake is in TAO."""

    hotkey: str
    stake: float | None = None
    addresses: tuple[str, ...] = ()


class SourceList(msgspec.Struct, frozen=True, kw_only=True):
    """All validators that a source named, and when (unix seconds).

    `origin` says which subnet of which chain, or which API, it is from: a list of another origin is of no use.
    """

    source: ListSource
    origin: str
    fetched: float
    validators: tuple[ListedValidator, ...]

    def is_valid(self, now: float) -> bool:
        """Whether it is at most 24 h old; one from the future was dated by a clock that was wrong."""
        return -_CLOCK_SECONDS <= now - self.fetched < VALID_SECONDS


class ValidatorSource(Protocol):
    """Names validators: the metagraph, or the Challenge API."""

    @property
    def source(self) -> ListSource:
        """Which source it is."""
        ...

    @property
    def origin(self) -> str:
        """Which subnet of which chain, or which API."""
        ...

    async def validators(self) -> tuple[ListedValidator, ...]:
        """Ask for all validators. Errors: `ChainError`."""
        ...


class ListStore(Protocol):
    """Keeps each source's last good list over restarts."""

    async def load(self) -> tuple[SourceList, ...]:
        """All lists that are kept, however old."""
        ...

    async def save(self, kept: SourceList) -> None:
        """Keep a source's list instead of the one before."""
        ...


class Merged(msgspec.Struct, frozen=True):
    """All who may be served, by hotkey; the addresses they have published; and when this must be looked at again."""

    validators: dict[str, AllowedValidator]
    addresses: frozenset[str]
    until: float


def merge(lists: Collection[SourceList], hotkeys: Collection[str], least_stake: float, now: float) -> Merged:
    """Put together the valid lists and the operator's own hotkeys; `least_stake` is asked of the metagraph's only."""
    found: dict[str, AllowedValidator] = {
        hotkey: AllowedValidator(hotkey=hotkey, sources=("settings",)) for hotkey in hotkeys
    }
    # In one order whatever came first: the metagraph's addresses stand before the API's.
    valid = sorted((one for one in lists if one.is_valid(now)), key=lambda one: one.source, reverse=True)
    for one in valid:
        for listed in one.validators:
            if one.source == "metagraph" and (listed.stake or 0.0) < least_stake:
                continue
            found[listed.hotkey] = _with(found.get(listed.hotkey), listed, one.source)
    addresses = frozenset(address for validator in found.values() for address in validator.addresses)
    until = min((one.fetched + VALID_SECONDS for one in valid), default=float("inf"))
    return Merged(found, addresses, until)


def _with(known: AllowedValidator | None, listed: ListedValidator, source: ListSource) -> AllowedValidator:
    plain = (plain_address(address) for address in listed.addresses)
    before = known or AllowedValidator(hotkey=listed.hotkey, sources=())
    addresses = dict.fromkeys([*before.addresses, *(address for address in plain if address is not None)])
    return AllowedValidator(
        hotkey=listed.hotkey,
        sources=(*before.sources, source),
        stake=listed.stake if listed.stake is not None else before.stake,
        addresses=tuple(addresses)[:_MOST_ADDRESSES],
    )
