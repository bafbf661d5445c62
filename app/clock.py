"""Time, passed in wherever a rule depends on it, so that a test can be anywhere in time."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time, both in seconds."""

    def wall(self) -> float:
        """Unix seconds: what timestamps on the wire are compared with."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: what durations and deadlines are measured with."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump; the same scale as asyncio's `loop.time()`."""
        return time.monotonic()
