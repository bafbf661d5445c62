"""Who may call, and how often (protocol, section 5; design decisions 7 and 8)."""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.allow_list import AllowList
from app.domain.rate_limit import RateLimiter
from app.domain.seasoned import SeasonedSources
from app.domain.source import limit_key
from app.errors import NotAllowed

_MOST_SOURCES: Final = 32_768
_MOST_PROVEN: Final = 8_192


class RouteLimit(msgspec.Struct, frozen=True):
    """Requests a minute: for sources a validator is known to use, and for all others."""

    known: int
    unknown: int


class Access:
    """The gates in front of a session, cheapest first; spends budgets so that floods end here."""

    def __init__(
        self,
        allow_list: AllowList,
        clock: Clock,
        limits: Mapping[str, RouteLimit],
        *,
        hotkey_per_minute: int,
        enabled: bool,
        strangers_per_minute: int = 6_000,
        published_only: bool = False,
        own_hotkey: str | None = None,
    ) -> None:
        """`own_hotkey` is the miner's: who can sign with it is the operator, trying the whole way (doctor).

        `strangers_per_minute` is what all unknown sources together may spend on a route.
        """
        self._allow_list = allow_list
        self._limits = limits
        self._hotkey_per_minute = hotkey_per_minute
        self._enabled = enabled
        self._strangers_per_minute = strangers_per_minute
        self._published_only = published_only
        self._own_hotkey = own_hotkey
        self._seasoned = SeasonedSources()
        self._sources = RateLimiter(clock, most_keys=_MOST_SOURCES)
        self._proven = RateLimiter(clock, most_keys=_MOST_PROVEN)

    def admit_source(self, route: str, address: str) -> None:
        """Spend from the source's budget for a route. Errors: `RateLimited`."""
        if not self._enabled:
            return
        limit = self._limits[route]
        if self._allow_list.knows_source(address):
            self._sources.spend(route, limit_key(address), limit.known)
            return
        key = limit_key(address)
        self._sources.spend(route, key, limit.unknown)
        if key not in self._seasoned:
            self._sources.spend(route, "all strangers", self._strangers_per_minute)

    def shook_hands(self, hotkey: str, address: str) -> None:
        """A validator proved itself from here: what strangers spend in all does not touch this source any more."""
        self._seasoned.add(hotkey, limit_key(address))

    def allows(self, hotkey: str) -> bool:
        """Whether the hotkey is on the allow-list, or the miner's own."""
        return hotkey == self._own_hotkey or self._allow_list.allows(hotkey)

    def allows_handshake(self, hotkey: str, address: str) -> bool:
        """Whether the hotkey may shake hands from an address. Errors: `NotAllowed` where only its own ones are taken.

        A validator that has published no address is taken from anywhere: there is nothing to compare with (threat 2).
        """
        if not self.allows(hotkey):
            return False
        if self._published_only and self.is_elsewhere(hotkey, address):
            raise NotAllowed(
                "this validator's handshakes are taken from its published addresses only", reason="address"
            )
        return True

    def is_home(self, hotkey: str, address: str) -> bool:
        """Whether an address is one that this validator has published."""
        return self._allow_list.is_home(hotkey, address)

    def is_elsewhere(self, hotkey: str, address: str) -> bool:
        """Whether this validator has published addresses, and this is none of them."""
        return self._allow_list.has_home(hotkey) and not self._allow_list.is_home(hotkey, address)

    def spend_hotkey(self, hotkey: str) -> None:
        """Spend from a hotkey's budget, after its signature proved it. Errors: `RateLimited`.

        Never before: otherwise anybody could use up a validator's budget by naming it (threat 7).
        """
        if self._enabled:
            self._proven.spend("hotkey", hotkey, self._hotkey_per_minute)

    def spend_session(self, session: str) -> None:
        """Spend from a session's budget, after its key opened a token. Errors: `RateLimited`.

        Each session has the whole budget of its hotkey: a relayed session that floods uses up its own (threat 2).
        """
        if self._enabled:
            self._proven.spend("session", session, self._hotkey_per_minute)

    def problem(self) -> str | None:
        """Why nobody can be served, with the remedy; None when somebody can."""
        return self._allow_list.problem()
