"""What goes to and comes from an OpenAI-compatible engine, as typed structs and server-sent events."""

import json
from collections.abc import Iterator
from typing import Final

import msgspec

from app.domain.backend import Delta, FinishReason, ToolCallDelta
from app.errors import BackendError, BackendRejected, BackendUnavailable

_MOST_LINE_BYTES: Final = 1024 * 1024
_DONE: Final = b"[DONE]"
_PREFIX: Final = b"data:"
ABOUT_THE_REQUEST: Final = frozenset({400, 413, 422})
"""Statuses that say that the request is at fault; others (no such model, no key, too busy) are the engine's trouble."""


class StreamOptions(msgspec.Struct):
    """Ask for token counts; with `continuous_usage_stats` (vLLM) each chunk has them, so a cut answer does too."""

    include_usage: bool
    continuous_usage_stats: bool | msgspec.UnsetType = msgspec.UNSET


class ChatRequest(msgspec.Struct, kw_only=True):
    """`POST /v1/chat/completions`. The JSON parts of a generation are copied in as they are."""

    model: str
    messages: msgspec.Raw
    max_tokens: int | msgspec.UnsetType
    temperature: float
    top_p: float
    stream: bool
    stream_options: StreamOptions
    tools: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tool_choice: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    response_format: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    stop: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    seed: int | msgspec.UnsetType = msgspec.UNSET


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _ChoiceDelta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _ChoiceDelta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_CHUNKS: Final = msgspec.json.Decoder(_Chunk)


class _Error(msgspec.Struct):
    code: int | str | None = None


class _ErrorEvent(msgspec.Struct):
    error: _Error


class EventStream:
    """Turns the bytes of one streamed answer into deltas, whatever way they are cut into reads.

    Errors: `BackendUnavailable` for what isn't the stream of a chat completion, `BackendRejected` for a refusal in it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.pieces = 0
        """How many events came so far."""
        self.texts = 0
        """How many of them brought text; each is a token at least."""
        self.done = False
        """Whether the engine has said `[DONE]`."""

    def feed(self, data: bytes) -> Delta | None:
        """All that these bytes complete, as one delta; None when they complete nothing."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MOST_LINE_BYTES:
            raise BackendUnavailable("the engine sends a line without end")
        merged: Delta | None = None
        for chunk in self._chunks(lines):
            self.pieces += 1
            merged = merged or Delta()
            self.texts += _merge(merged, chunk)
        return merged

    def _chunks(self, lines: list[bytes]) -> Iterator[_Chunk]:
        for line in lines:
            if not line.startswith(_PREFIX):
                continue
            data = line[len(_PREFIX) :].strip()
            if data == _DONE:
                self.done = True
                return
            yield self._decode(data)

    def _decode(self, data: bytes) -> _Chunk:
        try:
            return _CHUNKS.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self._decode_leniently(data)

    def _decode_leniently(self, data: bytes) -> _Chunk:
        """For lone surrogates and broken UTF-8, which are replaced: the rest of the answer is good (threat 14)."""
        try:
            plain = json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False)
            return _CHUNKS.decode(plain.encode("utf-8", "replace"))
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            raise _failure(data) from None


def _failure(data: bytes) -> BackendError:
    """What an event means that is no chunk. vLLM streams first and compiles a schema then: it refuses in an event."""
    try:
        code = msgspec.json.decode(data, type=_ErrorEvent).error.code
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        code = None
    if code in ABOUT_THE_REQUEST:
        return BackendRejected(f"the engine refuses the request (status {code})")
    return BackendUnavailable("the engine sends what is no chat completion")


def _merge(delta: Delta, chunk: _Chunk) -> bool:
    """Add the chunk; gives whether it brought text."""
    if chunk.usage is not None:
        delta.prompt_tokens = chunk.usage.prompt_tokens or delta.prompt_tokens
        delta.completion_tokens = chunk.usage.completion_tokens or delta.completion_tokens
    if not chunk.choices:
        return False
    choice = chunk.choices[0]
    if choice.delta is not None:
        delta.text += choice.delta.content or ""
        if choice.delta.tool_calls:
            delta.tool_calls += tuple(_tool_call(call) for call in choice.delta.tool_calls)
    if choice.finish_reason is not None:
        delta.finish = _finish_reason(choice.finish_reason)
    return choice.delta is not None and bool(choice.delta.content)


def _tool_call(call: _ToolCall) -> ToolCallDelta:
    if call.function is None:
        return ToolCallDelta(call.index, call.id)
    return ToolCallDelta(call.index, call.id, call.function.name, call.function.arguments or "")


def _finish_reason(reason: str) -> FinishReason:
    if reason == "length":
        return "length"
    return "tool_calls" if reason == "tool_calls" else "stop"
