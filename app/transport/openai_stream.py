"""A completion as server-sent events: one event for each piece, at the pace of the reader."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from app.domain.answer import Usage
from app.domain.backend import Delta, ToolCallDelta
from app.errors import Refusal
from app.transport.body import ClientGone, PlainRequest
from app.transport.disconnect import while_connected
from app.transport.failures import report_bug
from app.transport.openai_errors import envelope
from app.transport.openai_schemas import Chunk, ChunkChoice, DeltaPiece, FunctionPiece, Identity, ToolCallPiece

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_DONE: Final = b"data: [DONE]\n\n"
# A reader that takes nothing for so long is cut off: it holds a slot.
_SEND_SECONDS: Final = 20.0


class Events:
    """Turns deltas into events; each is whole, and all have the same identity."""

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self._identity = identity
        self._usage: msgspec.UnsetType | None = None if include_usage else msgspec.UNSET
        self._encoder = msgspec.json.Encoder()

    def opening(self) -> bytes:
        """The first event: who speaks."""
        return self._chunk(ChunkChoice(delta=DeltaPiece(role="assistant", content="", refusal=None)))

    def piece(self, delta: Delta) -> bytes:
        """What is new, and at the end why it ends, the counts if they were asked for, and the mark of the end."""
        parts: list[bytes] = []
        if delta.text:
            parts.append(self._chunk(ChunkChoice(delta=DeltaPiece(content=delta.text))))
        if delta.tool_calls:
            calls = [_call(call) for call in delta.tool_calls]
            parts.append(self._chunk(ChunkChoice(delta=DeltaPiece(tool_calls=calls))))
        if delta.finish is not None:
            parts.append(self._chunk(ChunkChoice(delta=DeltaPiece(), finish_reason=delta.finish)))
            if self._usage is None:
                total = delta.prompt_tokens + delta.completion_tokens
                parts.append(self._chunk(usage=Usage(delta.prompt_tokens, delta.completion_tokens, total)))
            parts.append(_DONE)
        return b"".join(parts)

    def failure(self, refusal: Refusal) -> bytes:
        """The last event of a stream that can't go on."""
        return self._event(envelope(refusal.status, refusal.detail, refusal))

    def _chunk(self, choice: ChunkChoice | None = None, usage: Usage | None = None) -> bytes:
        identity = self._identity
        return self._event(
            Chunk(
                id=identity.id,
                created=identity.created,
                model=identity.model,
                system_fingerprint=identity.system_fingerprint,
                choices=() if choice is None else (choice,),
                usage=self._usage if usage is None else usage,
            )
        )

    def _event(self, body: object) -> bytes:
        return b"data: " + self._encoder.encode(body) + b"\n\n"


class StreamedCompletion(Response[bytes]):
    """The response that reads `deltas` and sends them as they come."""

    def __init__(self, request: PlainRequest, deltas: AsyncGenerator[Delta, None], events: Events) -> None:
        super().__init__(b"")
        self._sending = _Sending(request, deltas, events)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:  # noqa: ANN401 - a dozen parameters of which none counts here
        """The response as Litestar calls it."""
        return self._sending


class _Sending(ASGIResponse):
    """Everything happens in here, the waiting for a slot too: an end of any kind closes what was opened."""

    def __init__(self, request: PlainRequest, deltas: AsyncGenerator[Delta, None], events: Events) -> None:
        super().__init__()
        self._request = request
        self._deltas = deltas
        self._events = events
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all. Refusals before the first event go up, and get a status of their own."""
        del scope, receive
        try:
            await while_connected(self._request, self._run(send))
        except (ClientGone, TimeoutError):
            if not self._started:
                raise
        finally:
            error = sys.exception()
            if self._started and isinstance(error, Exception):
                report_bug(error)  # nobody above can answer it any more

    async def _run(self, send: Send) -> None:
        events = self._events
        async with aclosing(self._deltas) as deltas:
            delta = await anext(deltas)
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await _body(send, events.opening())
            try:
                await _body(send, events.piece(delta))
                async for following in deltas:
                    await _body(send, events.piece(following))
            except Refusal as refusal:
                await _body(send, events.failure(refusal))
        await _body(send, b"", more=False)


async def _body(send: Send, data: bytes, *, more: bool = True) -> None:
    """Send so much, once the reader has taken enough of what came before. Errors: `TimeoutError`."""
    async with asyncio.timeout(_SEND_SECONDS):
        await send({"type": "http.response.body", "body": data, "more_body": more})


def _call(call: ToolCallDelta) -> ToolCallPiece:
    function = FunctionPiece(name=call.name or msgspec.UNSET, arguments=call.arguments)
    first = call.id is not None
    return ToolCallPiece(
        index=call.index, id=call.id or msgspec.UNSET, function=function, type="function" if first else msgspec.UNSET
    )
