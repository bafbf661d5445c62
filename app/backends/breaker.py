"""A circuit breaker: an engine that fails is left alone for a while, then tried with a probe, not with a challenge."""

from typing import Final, Literal

from app.clock import Clock

_FAILURES: Final = 3
_REST_SECONDS: Final = 1.0


class Breaker:
    """Closed: the engine is used. Open: it is left alone. Half-open: its rest is over, one trial decides.

    Three failed requests in a row open it, or one failed trial; a request may fail for reasons of its own.
    """

    def __init__(self, clock: Clock, *, failures: int = _FAILURES, rest: float = _REST_SECONDS) -> None:
        """`rest` is in seconds."""
        self._clock = clock
        self._failures = failures
        self._rest = rest
        self._failed = 0
        self._opened_at: float | None = None

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """What the engine may be asked for: anything, nothing, a trial."""
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock.monotonic() - self._opened_at < self._rest else "half-open"

    def succeeded(self) -> None:
        """The engine did what it was asked for."""
        self._failed = 0
        self._opened_at = None

    def failed(self, *, trial: bool = False) -> None:
        """The engine failed a request, or a trial."""
        self._failed += 1
        if trial or self._failed >= self._failures:
            self._opened_at = self._clock.monotonic()
