"""What `serve` tells whoever watches it: the composition calls, a screen (or a test) shows."""

from typing import Protocol

import msgspec


class StartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when the listeners are about to open."""

    api_url: str
    admin_url: str
    hotkey: str
    """The miner's ss58 address."""
    netuid: int
    network: str
    development: bool
    backend: str
    model: str
    warnings: tuple[str, ...] = ()


class ServeScreen(Protocol):
    """Called on the event loop; must come back at once and never raise."""

    def starting(self, facts: StartFacts) -> None:
        """Show that settings and identity are good and the engine starts to load."""
        ...

    def ready(self, seconds: float, model: str) -> None:
        """Show that challenges are answered from now on, `seconds` after the start or after the last `not_ready`."""
        ...

    def not_ready(self, reason: str) -> None:
        """Show that validators are told to skip this miner, and why."""
        ...

    def draining(self, in_flight: int) -> None:
        """Show that a stop was asked for: new challenges are refused, these are finished."""
        ...

    def stopped(self, answered: int) -> None:
        """Show that all is closed, and the challenges answered since the start."""
        ...
