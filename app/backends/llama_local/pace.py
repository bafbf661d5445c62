"""How many prompt tokens may go into the next step, learnt from how long steps take."""

from typing import Final

_LEAST: Final = 16
"""A prompt always gets on by this much, however slow the machine."""
_WEIGHT: Final = 0.3


class Pace:
    """Keeps steps short.

    With nobody generating, a step lasts about `step_seconds`, so that a newcomer or a cancel is seen soon. With others
    generating, reading adds at most about as long as their own step takes: their time between tokens at most doubles.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._read_seconds = 0.002
        """Seconds a prompt token costs; starts on the slow side."""
        self._write_seconds = 0.0
        """Seconds of a step that only generates; 0 until one was seen."""

    def chunk(self, *, generating: bool) -> int:
        """Prompt tokens the next step may read."""
        seconds = self._step_seconds
        if generating and self._write_seconds:
            seconds = min(seconds, 0.8 * self._write_seconds)
        return max(_LEAST, int(seconds / self._read_seconds))

    def observe(self, *, reading: int, writing: int, seconds: float) -> None:
        """Learn from a step that read `reading` prompt tokens and wrote for `writing` requests."""
        if not reading:
            self._write_seconds += (_WEIGHT if self._write_seconds else 1.0) * (seconds - self._write_seconds)
        elif reading >= _LEAST:
            cost = max(seconds - (self._write_seconds if writing else 0.0), 0.1 * seconds) / reading
            self._read_seconds += _WEIGHT * (cost - self._read_seconds)
