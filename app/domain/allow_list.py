"""The validators that may be served (protocol, section 5; design decision 8)."""

from typing import Literal, Protocol

import msgspec

type ListSource = Literal["metagraph", "challenge-api", "settings"]


class AllowedValidator(msgspec.Struct, frozen=True, kw_only=True):
    """A validator that may be served: who says so, its stake in TAO if known, and the addresses it has published."""

    hotkey: str
    sources: tuple[ListSource, ...]
    stake: float | None = None
    addresses: tuple[str, ...] = ()


class AllowList(Protocol):
    """Knows the allowed validators and the addresses they have published."""

    def allows(self, hotkey: str) -> bool:
        """Whether a hotkey may shake hands and send challenges."""
        ...

    def knows_source(self, address: str) -> bool:
        """Whether an address is one that some allowed validator has published."""
        ...

    def is_home(self, hotkey: str, address: str) -> bool:
        """Whether an address is the one that this very validator has published."""
        ...

    def has_home(self, hotkey: str) -> bool:
        """Whether this validator has published any address."""
        ...

    def problem(self) -> str | None:
        """Why nobody can be served, with the remedy; None when somebody can. Strangers may read it."""
        ...
