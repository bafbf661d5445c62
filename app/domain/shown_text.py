"""A stream's text as it may be shown: what the model thinks is taken out while it comes (design decision 9)."""

from typing import Final

_OPENS: Final = "<think>"
_CLOSES: Final = "</think>"


class ShownText:
    """Takes thinking out of a text that comes in pieces; holds back only what may be the beginning of a tag.

    All pieces together are what `Draft.text` gives for the whole text, but where a text closes thinking that it never
    opened: what came before has then gone out already.
    """

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._after_thinking = False

    def push(self, text: str) -> str:
        """Take the next piece in; gives what can be shown now."""
        self._held += text
        shown: list[str] = []
        while self._step(shown):
            pass
        return "".join(shown)

    def finish(self, *, cut: bool) -> str:
        """What was held back and turned out to be no tag; thinking that was never closed stays unseen.

        Where the text was cut and not ended by the model, half a tag stays unseen too.
        """
        held, self._held = self._held, ""
        return "" if self._thinking or cut else held

    def _step(self, shown: list[str]) -> bool:
        """Go on to behind the next tag; False when none is left."""
        if self._after_thinking:
            self._held = self._held.lstrip()
            self._after_thinking = not self._held
        tag = _CLOSES if self._thinking else _OPENS
        before, found, after = self._held.partition(tag)
        if not found:
            kept = _tail_of(before, tag)
            said, self._held = before[: len(before) - kept], before[len(before) - kept :]
        else:
            said, self._held = before, after
        if not self._thinking and said:
            shown.append(said)
        if found:
            self._after_thinking = self._thinking
            self._thinking = not self._thinking
        return bool(found)


def without_half_tag(text: str) -> str:
    """Give a text that was cut without what may be the beginning of thinking at its end."""
    return text[: len(text) - _tail_of(text, _OPENS)]


def _tail_of(text: str, tag: str) -> int:
    """How many characters at the text's end may be the beginning of `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
