"""Finding tool calls in what the model writes, while it writes."""

import secrets
from typing import Any, Final

import msgspec

from app.domain.backend import ToolCallDelta

CALL_OPENS: Final = "<tool_call>"
CALL_CLOSES: Final = "</tool_call>"
_ID_BYTES: Final = 12


class _Written(msgspec.Struct):
    """A call as models write it; some say `parameters`, some write the arguments as a text."""

    name: str
    arguments: dict[str, Any] | str | None = None
    parameters: dict[str, Any] | str | None = None


_WRITTEN: Final = msgspec.json.Decoder(_Written)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


class ToolCallReader:
    """Splits the text into what is said and what is called.

    A call comes out whole or not at all: one that the end cuts off is dropped, and one that can't be read, or names
    no tool there is, stays what it is, text.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held = ""
        self.calls = 0

    def push(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Take the next text in; returns what can be shown, and the calls that are complete."""
        if not self._names:
            return text, ()
        self._held += text
        shown: list[str] = []
        calls: list[ToolCallDelta] = []
        while (opens := self._held.find(CALL_OPENS)) >= 0:
            closes = self._held.find(CALL_CLOSES, opens)
            shown.append(self._held[:opens].rstrip())
            if closes < 0:
                self._held = self._held[opens:]
                break
            end = closes + len(CALL_CLOSES)
            call = self._read(self._held[opens + len(CALL_OPENS) : closes])
            if call is None:
                shown.append(self._held[opens:end])
            else:
                calls.append(call)
            self._held = self._held[end:]
        else:
            shown.append(self._release())
        said = "".join(shown)
        return (said if not self.calls else said.strip()), tuple(calls)

    def finish(self) -> str:
        """What is left at the end, but for the beginning of a call."""
        held, self._held = self._held, ""
        return "" if held.startswith(CALL_OPENS) or self.calls else held

    def _release(self) -> str:
        """All of what is held but what may be the beginning of a call, and the space before it."""
        text = self._held
        hold = next((size for size in range(len(CALL_OPENS) - 1, 0, -1) if text.endswith(CALL_OPENS[:size])), 0)
        said = text[: len(text) - hold].rstrip()
        self._held = text[len(said) :]
        return said

    def _read(self, inside: str) -> ToolCallDelta | None:
        try:
            written = _WRITTEN.decode(inside.strip())
            arguments = written.arguments if written.arguments is not None else written.parameters
            if isinstance(arguments, str):
                arguments = _OBJECT.decode(arguments)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        if written.name not in self._names:
            return None
        call = ToolCallDelta(
            index=self.calls,
            id=f"call_{secrets.token_hex(_ID_BYTES)}",
            name=written.name,
            arguments=msgspec.json.encode(arguments or {}).decode(),
        )
        self.calls += 1
        return call
