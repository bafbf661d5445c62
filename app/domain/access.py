"""Who may call, and how often (protocol, section 5; design decisions 7 and 8)."""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.allow_list import AllowList
from app.domain.rate_limit import RateLimiter
from app.domain.source import limit_key

_MOST_SOURCES: Final = 32_768
_MOST_PROVEN: Final = 8_192
_ALL_STRANGERS_PER_MINUTE: Final = 6_000


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
        own_hotkey: str | None = None,
    ) -> None:
        """`own_hotkey` is the miner's: who can sign with it is the operator, trying the whole way (doctor)."""
        self._allow_list = allow_list
        self._limits = limits
        self._hotkey_per_minute = hotkey_per_minute
        self._enabled = enabled
        self._own_hotkey = own_hotkey
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
        self._sources.spend(route, limit_key(address), limit.unknown)
        self._sources.spend(route, "all strangers", _ALL_STRANGERS_PER_MINUTE)

    def allows(self, hotkey: str) -> bool:
        """Whether the hotkey is on the allow-list, or the miner's own."""
        return hotkey == self._own_hotkey or self._allow_list.allows(hotkey)

    def is_home(self, hotkey: str, address: str) -> bool:
        """Whether an address is the one that this validator has published."""
        return self._allow_list.is_home(hotkey, address)

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
