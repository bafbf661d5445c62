"""The time one challenge has (design decision 9): a soft stop on a sentence end, then a hard cut."""

import msgspec


class Deadline(msgspec.Struct, frozen=True):
    """Points in time on the monotonic clock, in seconds, counted from the first byte received."""

    received: float
    soft_stop: float
    hard_cut: float

    @classmethod
    def after(cls, received: float, *, soft_stop_seconds: float, hard_cut_seconds: float) -> "Deadline":
        """The deadline of a request whose first byte came at `received` (monotonic seconds)."""
        return cls(received, received + soft_stop_seconds, received + hard_cut_seconds)

    def left(self, now: float) -> float:
        """Seconds until the hard cut; never negative."""
        return max(0.0, self.hard_cut - now)
