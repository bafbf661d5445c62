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

    def problem(self) -> str | None:
        """Why nobody can be served, with the remedy; None when somebody can."""
        ...


class OpenAllowList:
    """Everybody who can sign: development mode, or ENABLE_VALIDATOR_WHITELIST=false."""

    def allows(self, hotkey: str) -> bool:
        """Yes."""
        del hotkey
        return True

    def knows_source(self, address: str) -> bool:
        """No address is known beforehand."""
        del address
        return False

    def is_home(self, hotkey: str, address: str) -> bool:
        """No address is known beforehand."""
        del hotkey, address
        return False

    def problem(self) -> str | None:
        """None: anybody can be served."""
        return None


class FixedAllowList:
    """The hotkeys named in VALIDATOR_HOTKEYS and no others; closed when there are none."""

    def __init__(self, hotkeys: frozenset[str]) -> None:
        self._hotkeys = hotkeys

    def allows(self, hotkey: str) -> bool:
        """Whether the hotkey is one of the named."""
        return hotkey in self._hotkeys

    def knows_source(self, address: str) -> bool:
        """A list of hotkeys knows no addresses."""
        del address
        return False

    def is_home(self, hotkey: str, address: str) -> bool:
        """A list of hotkeys knows no addresses."""
        del hotkey, address
        return False

    def problem(self) -> str | None:
        """Said when nobody is named."""
        if self._hotkeys:
            return None
        return (
            "no validator may be served: the allow-list is empty; name hotkeys in VALIDATOR_HOTKEYS, "
            "or set ENABLE_VALIDATOR_WHITELIST=false to serve everybody who can sign"
        )
