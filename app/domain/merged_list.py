"""The allow-list in use: what the sources last said, put together, and swapped whole (design decision 8)."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

from app.clock import Clock
from app.domain.allow_list import AllowedValidator, ListSource
from app.domain.source import plain_address
from app.domain.source_list import Merged, SourceList, merge

SOURCE_NAMES: Final[Mapping[ListSource, str]] = MappingProxyType(
    {"metagraph": "the metagraph", "challenge-api": "the Challenge API", "settings": "VALIDATOR_HOTKEYS"}
)


class MergedAllowList:
    """Fails closed: a list that is older than 24 h counts no more, and without anybody on it nobody is served.

    `sources` are those that are asked; with `everybody` any hotkey is served, and the lists only tell addresses.
    `removed` is called with the hotkeys that were allowed and are so no longer.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        sources: Collection[ListSource] = (),
        hotkeys: Collection[str] = (),
        least_stake: float = 0.0,
        everybody: bool = False,
        removed: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        self._clock = clock
        self._sources = sources
        self._hotkeys = hotkeys
        self._least_stake = least_stake
        self._everybody = everybody
        self._removed = removed
        self._lists: dict[ListSource, SourceList] = {}
        self._failures: dict[ListSource, str] = {}
        self._merged = merge((), hotkeys, least_stake, clock.wall())

    def replace(self, fresh: SourceList) -> None:
        """Take a source's list instead of the one it gave before."""
        self._lists[fresh.source] = fresh
        self._failures.pop(fresh.source, None)
        self._merge()

    def failed(self, source: ListSource, code: str) -> None:
        """A source could not be asked; its last list stays. `code` is a fixed word."""
        self._failures[source] = code

    def list_of(self, source: ListSource) -> SourceList | None:
        """A source's last good list, valid or not."""
        return self._lists.get(source)

    def validators(self) -> tuple[AllowedValidator, ...]:
        """All who are named, the highest stake first."""
        named = self._current().validators.values()
        return tuple(sorted(named, key=lambda one: (-(one.stake or 0.0), one.hotkey)))

    def allows(self, hotkey: str) -> bool:
        """Whether a hotkey may shake hands and send challenges."""
        return self._everybody or hotkey in self._current().validators

    def knows_source(self, address: str) -> bool:
        """Whether an address is one that some allowed validator has published."""
        addresses = self._current().addresses
        return address in addresses or (":" in address and plain_address(address) in addresses)

    def is_home(self, hotkey: str, address: str) -> bool:
        """Whether an address is one that this very validator has published."""
        validator = self._current().validators.get(hotkey)
        return validator is not None and plain_address(address) in validator.addresses

    def has_home(self, hotkey: str) -> bool:
        """Whether this validator has published any address."""
        validator = self._current().validators.get(hotkey)
        return validator is not None and bool(validator.addresses)

    def problem(self) -> str | None:
        """Why nobody can be served, with the remedy; None when somebody can. Strangers may read it."""
        if self._everybody or self._current().validators:
            return None
        remedy = (
            "name hotkeys in VALIDATOR_HOTKEYS, or set ENABLE_VALIDATOR_WHITELIST=false to serve everybody who can sign"
        )
        if not self._sources:
            return f"no validator may be served: the allow-list is empty; {remedy}"
        if any(source not in self._failures and source not in self._lists for source in self._sources):
            return "no validator may be served yet: the allow-list is being read from the chain and the Challenge API"
        states = "; ".join(f"{SOURCE_NAMES[source]}: {self._state(source)}" for source in self._sources)
        return f"no validator may be served: the allow-list is empty ({states}); see the miner's log, or {remedy}"

    def _state(self, source: ListSource) -> str:
        kept = self._lists.get(source)
        old = "its last list is over 24 h old, " if kept is not None and not kept.is_valid(self._clock.wall()) else ""
        return old + self._failures.get(source, "names nobody who may be served")

    def _current(self) -> Merged:
        if self._clock.wall() >= self._merged.until:
            self._merge()
        return self._merged

    def _merge(self) -> None:
        before = self._merged.validators.keys()
        self._merged = merge(self._lists.values(), self._hotkeys, self._least_stake, self._clock.wall())
        gone = before - self._merged.validators.keys()
        if gone and self._removed is not None and not self._everybody:
            self._removed(gone)
