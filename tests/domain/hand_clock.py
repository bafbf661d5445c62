"""A clock that a test moves by hand."""


class HandClock:
    """Both readings are the same number, in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now
