"""How many prompt tokens may go into the next step, learnt from how long steps take."""

from typing import Final

_LEAST: Final = 2
"""A prompt always gets on by this much, however slow the machine and however long the part that was read."""
_WORTH_NOTING: Final = 16
"""The time of fewer tokens says little about the time of many."""
_MANY: Final = 64
"""From so many on a prompt token beside writers costs about what it costs alone."""
_WEIGHT: Final = 0.3
_WEIGHT_UP: Final = 0.6
"""Slowing down for others is quicker than taking up speed."""
_SHARE: Final = 0.6
"""What reading may add to the step of those who write. Less than all of it: their own part grows as well while the
memory fills, by a fifth up to 8000 tokens."""
_MIXED_IN_A_ROW: Final = 15
_PATIENCE: Final = 4
"""So many times `step_seconds` the others may wait while short prompts are read: many tokens at once cost less each."""


class Pace:
    """Keeps steps short.

    With nobody generating, a step lasts about `step_seconds`, so that a newcomer or a cancel is seen soon. Beside
    others short prompts are read in a few larger steps: who waits for a first token fills a slot that could write.
    Of a long one reading adds only a part of what the others' own step takes: their time between tokens at most
    doubles. How long that is must be seen now and then, because the machine's speed changes: every sixteenth step
    nothing is read.
    """

    SHORT: Final = 512
    """Prompt tokens left to read, up to which a prompt counts as short."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._read_seconds = 0.002
        """Seconds a prompt token costs when nobody writes; starts on the slow side."""
        self._beside_seconds = 0.005
        """The same in a step in which others write: more, because few are read at once."""
        self._write_seconds = 0.0
        """Seconds of a step that only generates; 0 until one was seen."""
        self._mixed = 0

    def chunk(self, *, generating: bool, long: bool = True) -> int:
        """Tokens of long or of short prompts that the next step may read; 0 where it should only generate."""
        if generating and self._mixed >= _MIXED_IN_A_ROW:
            return 0
        if not generating or not long:
            return max(_LEAST, int((_PATIENCE if generating else 1) * self._step_seconds / self._read_seconds))
        seconds = min(self._step_seconds, _SHARE * self._write_seconds or self._step_seconds)
        return max(_LEAST, int(seconds / self._beside_seconds))

    def observe(self, *, reading: int, writing: int, seconds: float) -> None:
        """Learn from a step that read `reading` prompt tokens and wrote for `writing` requests."""
        self._mixed = self._mixed + 1 if reading and writing else 0
        if not reading:
            self._write_seconds += (_WEIGHT if self._write_seconds else 1.0) * (seconds - self._write_seconds)
        elif writing and reading < _MANY:
            cost = max(seconds - self._write_seconds, 0.1 * seconds) / reading
            weight = _WEIGHT if cost < self._beside_seconds else _WEIGHT_UP
            self._beside_seconds += weight * (cost - self._beside_seconds)
        elif reading >= _WORTH_NOTING:
            own = max(seconds - self._write_seconds, 0.1 * seconds) if writing else seconds
            self._read_seconds += _WEIGHT * (own / reading - self._read_seconds)
