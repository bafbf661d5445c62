"""From an OpenAI client's request to its text: the operator's own use of the engine, behind all validators."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.admission import Admission, Rank
from app.domain.answer import AnsweredToolCall
from app.domain.answering import GenerationDefaults
from app.domain.backend import Backend, Delta, FinishReason, Generation, ToolCallDelta
from app.domain.completion_request import CompletionRequest
from app.domain.deadline import Deadline
from app.domain.draft import Draft
from app.domain.health import Health
from app.domain.journal import CompletionEnd, Journal
from app.domain.shown_text import ShownText
from app.errors import BackendRejected, BackendUnavailable, ParameterRefused, PromptTooLong, Refusal, Unavailable

_TOTAL_SECONDS: Final = 300.0
_OWNER: Final = "operator"
_LOWEST_TOP_P: Final = 0.01


class Completed(msgspec.Struct, frozen=True):
    """A whole completion."""

    text: str
    tool_calls: list[AnsweredToolCall]
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int


class Completing:
    """Writes completions, whole or as a stream.

    Being cancelled or closed (the client went away) ends the engine's work. Errors of both ways: `Unavailable`, and
    `ParameterRefused` when the engine refuses the request.
    """

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        health: Health,
        journal: Journal,
        defaults: GenerationDefaults,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._health = health
        self._journal = journal
        self._defaults = defaults
        self._clock = clock

    async def complete(self, request: CompletionRequest) -> Completed:
        """The whole completion; half tool calls and thinking are left out of it."""
        draft = Draft()
        async with aclosing(self._write(request)) as deltas:
            async for delta in deltas:
                draft.add(delta)
        calls = draft.tool_calls()
        completion_tokens = draft.completion_tokens or draft.deltas
        return Completed(draft.text(), calls, draft.finish_reason(calls), draft.prompt_tokens, completion_tokens)

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        """What is written, piece by piece and without thinking; the last one has `finish` and the token counts.

        To be closed by the reader (`aclosing`), who decides with each piece it takes how fast the engine may go on.
        """
        shown, named, written = ShownText(), set[int](), 0
        async with aclosing(self._write(request)) as deltas:
            async for delta in deltas:
                written += bool(delta.text or delta.tool_calls)
                text = shown.push(delta.text)
                calls = tuple(_identified(call, named) for call in delta.tool_calls)
                if delta.finish is not None:
                    delta.completion_tokens = delta.completion_tokens or written
                    delta.finish = _finish(delta.finish, called=bool(named))
                    text += shown.finish(cut=delta.finish == "length")
                if text or calls or delta.finish is not None:
                    delta.text, delta.tool_calls = text, calls
                    yield delta

    async def _write(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        """What the engine writes; the last delta has `finish`, whichever way it ends. One line in the journal."""
        began = self._clock.monotonic()
        end = CompletionEnd(stream=request.stream)
        try:
            async with aclosing(self._admitted(request, began, end)) as deltas:
                async for delta in deltas:
                    end.prompt_tokens = delta.prompt_tokens or end.prompt_tokens
                    end.completion_tokens = delta.completion_tokens or end.completion_tokens
                    yield delta
        except Refusal as refusal:
            end.outcome = "failed" if refusal.reason == "backend" else "refused"
            raise
        finally:
            end.seconds = round(self._clock.monotonic() - began, 3)
            self._journal.completion(end)

    async def _admitted(
        self, request: CompletionRequest, began: float, end: CompletionEnd
    ) -> AsyncGenerator[Delta, None]:
        readiness = self._health.engine_readiness()
        if not readiness.ready:
            raise Unavailable(readiness.reason, reason=readiness.cause)
        if request.forces_call and not self._backend.status().forces_calls:
            raise ParameterRefused(
                'this engine can\'t be made to call a tool: send "auto", or leave tool_choice out',
                param="tool_choice",
                code="unsupported_parameter",
            )
        clock = self._clock
        deadline = Deadline.after(began, soft_stop_seconds=_TOTAL_SECONDS, hard_cut_seconds=_TOTAL_SECONDS)
        async with (
            self._admission.slot(deadline, _OWNER, Rank.OPERATOR),
            aclosing(self._backend.generate(self._generation(request, deadline))) as deltas,
        ):
            end.queued = round(clock.monotonic() - began, 3)
            while True:
                delta = await self._next(deltas, deadline)
                if delta is None:
                    end.outcome = "cut"
                    yield Delta(finish="length", completion_tokens=end.completion_tokens)
                    return
                if request.one_call and delta.tool_calls:
                    delta.tool_calls = tuple(call for call in delta.tool_calls if call.index == 0)
                if delta.finish is not None:
                    end.outcome = "ok"
                    yield delta
                    return
                yield delta

    async def _next(self, deltas: AsyncGenerator[Delta, None], deadline: Deadline) -> Delta | None:
        """The engine's next delta; None when the time is up."""
        try:
            async with asyncio.timeout(deadline.left(self._clock.monotonic())):
                delta = await anext(deltas)
        except TimeoutError:
            return None
        except PromptTooLong as too_long:  # the code that OpenAI's own API has for it
            raise ParameterRefused(str(too_long), param="messages", code="context_length_exceeded") from None
        except BackendRejected as rejected:
            raise ParameterRefused(str(rejected), code="refused_by_engine") from None
        except (BackendUnavailable, StopAsyncIteration):
            self._health.backend_failed()
            raise Unavailable("the engine failed: come back later", reason="backend") from None
        self._health.backend_worked(self._clock.monotonic())
        return delta

    def _generation(self, request: CompletionRequest, deadline: Deadline) -> Generation:
        defaults = self._defaults
        top_p = defaults.top_p if request.top_p is None else request.top_p
        return Generation(
            messages=request.messages,
            max_tokens=request.max_tokens or defaults.max_tokens,
            temperature=defaults.temperature if request.temperature is None else request.temperature,
            top_p=max(top_p, _LOWEST_TOP_P),
            hard_cut=deadline.hard_cut,
            tools=request.tools,
            tool_choice=request.tool_choice,
            response_format=request.response_format,
            stop=request.stop,
            seed=request.seed,
        )


def _identified(call: ToolCallDelta, named: set[int]) -> ToolCallDelta:
    """The piece with an id if it is the first of its call and the engine gave none: clients need one to answer it."""
    if call.index in named:
        return call
    named.add(call.index)
    return call if call.id else msgspec.structs.replace(call, id=f"call_{call.index}")


def _finish(finish: FinishReason, *, called: bool) -> FinishReason:
    """`tool_calls` when some were made and the end is a proper one: engines say `stop` after a forced call."""
    return "tool_calls" if called and finish == "stop" else finish
