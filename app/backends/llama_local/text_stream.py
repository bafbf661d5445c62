"""Bytes of tokens become text: whole characters only, and never anything of a stop string."""

import codecs


class TextStream:
    """Decodes a token at a time; what may be the start of a stop string is held back until it is known."""

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """The text that can be shown after `piece`; `stopped` turns true when a stop string is complete."""
        text = self._held + self._decoder.decode(piece)
        if not self._stop:
            return text
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        hold = max(_overlap(text, stop) for stop in self._stop)
        cut = len(text) - hold
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back, once no more comes. Bytes of a character that never became whole are dropped."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with (short of all of it)."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
