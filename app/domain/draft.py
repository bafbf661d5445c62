"""The text as it grows, and what of it may leave the miner when the time is up (design decision 9)."""

import re
from typing import Final

import msgspec

from app.domain.answer import AnsweredToolCall, CalledFunction
from app.domain.backend import Delta, FinishReason
from app.domain.shown_text import without_half_tag

_CLOSED_THINKING: Final = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_OPENING: Final = "<think>"
_CLOSING: Final = "</think>"
_SENTENCE_END: Final = re.compile(r"[.!?。！？][\"'”’)\]]*\s*$|\n\s*$")  # noqa: RUF001 - full-width marks end sentences too


class _PartialCall:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []


class Draft:
    """Collects an engine's deltas; gives at any moment the best answer there is so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._calls: dict[int, _PartialCall] = {}
        self._finish: FinishReason | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.deltas = 0

    def add(self, delta: Delta) -> None:
        """Take in what the engine wrote since the last time."""
        if delta.text:
            self._pieces.append(delta.text)
        if delta.text or delta.tool_calls:
            self.deltas += 1
        for piece in delta.tool_calls:
            call = self._calls.setdefault(piece.index, _PartialCall())
            call.id = piece.id or call.id
            call.name += piece.name or ""
            call.arguments.append(piece.arguments)
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.completion_tokens = delta.completion_tokens or self.completion_tokens
        self._finish = delta.finish or self._finish

    @property
    def finished(self) -> bool:
        """Whether the engine itself said that this is the end."""
        return self._finish is not None

    def text(self) -> str:
        """What may be shown: closed thinking is taken out, and so is what was never closed, or half opened at a cut."""
        text = "".join(self._pieces)
        if self._finish in {None, "length"}:
            text = without_half_tag(text)
        if _OPENING in text:
            text = _CLOSED_THINKING.sub("", text)
            text = text.partition(_OPENING)[0]
        # A template can open the thinking in the prompt: the text then begins inside it and only closes it.
        _, closed, after = text.rpartition(_CLOSING)
        return after.lstrip() if closed else text

    def ends_sentence(self) -> bool:
        """Whether stopping here leaves whole sentences and no tool call half-written."""
        if self._calls or not self._pieces:
            return False
        tail = self._pieces[-1] if len(self._pieces[-1]) > 8 else "".join(self._pieces[-8:])  # noqa: PLR2004 - a few pieces are tail enough
        if _SENTENCE_END.search(tail) is None:
            return False
        text = self.text()
        return bool(text.strip()) and _SENTENCE_END.search(text) is not None

    def tool_calls(self) -> list[AnsweredToolCall]:
        """The calls that are whole: named, and with arguments that are valid JSON."""
        whole: list[AnsweredToolCall] = []
        for index, call in sorted(self._calls.items()):
            arguments = "".join(call.arguments) or "{}"
            if call.name and _is_json(arguments):
                whole.append(AnsweredToolCall(call.id or f"call_{index}", CalledFunction(call.name, arguments)))
        return whole

    def finish_reason(self, calls: list[AnsweredToolCall]) -> FinishReason:
        """`tool_calls` when there are any, `length` when cut, else the engine's own word."""
        if calls:
            return "tool_calls"
        if self._finish is None or self._finish == "tool_calls":
            return "length"  # cut, or all that the engine called was half a call
        return self._finish


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
