"""From challenge to answer: admission, the engine, the deadline, and the best text there is when the time is up."""

import asyncio
from contextlib import aclosing
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.admission import Admission
from app.domain.answer import Answer, AnswerMetadata, Usage
from app.domain.backend import Backend, Generation
from app.domain.challenge import Challenge, given
from app.domain.deadline import Deadline
from app.domain.draft import Draft
from app.domain.health import Health
from app.domain.timing import INFERENCE_STAGE, RESPONSE_STAGE, stage, with_stages
from app.domain.token_rate import TokenRate
from app.errors import BackendRejected, BackendUnavailable, ContentRefused, Unavailable

_HIGHEST_TEMPERATURE: Final = 2.0
_LOWEST_TOP_P: Final = 0.01


class GenerationDefaults(msgspec.Struct, frozen=True):
    """What a challenge leaves open."""

    max_tokens: int
    temperature: float
    top_p: float


class Answered(msgspec.Struct, frozen=True):
    """An answer with what the log and the metrics want to know of it. Times are seconds."""

    answer: Answer
    cut: bool
    seconds: float
    queued_seconds: float
    first_token_seconds: float | None
    deltas: int


class Answering:
    """Answers challenges within their deadline, or refuses them with the reason."""

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        health: Health,
        rate: TokenRate,
        defaults: GenerationDefaults,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._health = health
        self._rate = rate
        self._defaults = defaults
        self._clock = clock

    async def answer(self, challenge: Challenge, deadline: Deadline, owner: str) -> Answered:
        """The answer, whole or cut, for `owner` (a session). Errors: `Unavailable`, `ContentRefused`.

        Being cancelled (the validator went away) ends the engine's work.
        """
        readiness = self._health.readiness()
        if not readiness.ready:
            raise Unavailable(readiness.told_to_strangers(), reason=readiness.cause)
        clock = self._clock
        async with self._admission.slot(deadline, owner):
            started, wall_started, at_once = clock.monotonic(), clock.wall(), self._admission.running
            draft = Draft()
            generation = self._generation(challenge, deadline, started, at_once)
            first_token = await self._write(generation, draft, deadline)
            ended = clock.monotonic()
        if first_token is not None:
            self._rate.observe(draft.completion_tokens or draft.deltas, ended - first_token, at_once)
        answer = self._finish(challenge, draft, deadline, wall_started, ended)
        return Answered(
            answer=answer,
            cut=not draft.finished,
            seconds=ended - deadline.received,
            queued_seconds=started - deadline.received,
            first_token_seconds=None if first_token is None else first_token - deadline.received,
            deltas=draft.deltas,
        )

    def _generation(self, challenge: Challenge, deadline: Deadline, now: float, at_once: int) -> Generation:
        defaults = self._defaults
        temperature = defaults.temperature if challenge.temperature is None else challenge.temperature
        top_p = defaults.top_p if challenge.top_p is None else challenge.top_p
        max_tokens = int(challenge.max_tokens or defaults.max_tokens)
        affordable = self._rate.affordable(deadline.left(now), at_once)
        return Generation(
            messages=bytes(challenge.messages),
            max_tokens=max_tokens if affordable is None else min(max_tokens, affordable),
            temperature=min(temperature, _HIGHEST_TEMPERATURE),
            top_p=min(max(top_p, _LOWEST_TOP_P), 1.0),
            hard_cut=deadline.hard_cut,
            gather_until=deadline.soft_stop,
            tools=given(challenge.tools),
            tool_choice=given(challenge.tool_choice),
        )

    async def _write(self, generation: Generation, draft: Draft, deadline: Deadline) -> float | None:
        """Fill the draft until the engine is done or the time is up; gives when the first token came."""
        clock = self._clock
        first_token: float | None = None
        try:
            async with (
                asyncio.timeout(deadline.left(clock.monotonic())),
                aclosing(self._backend.generate(generation)) as deltas,
            ):
                async for delta in deltas:
                    draft.add(delta)
                    now = clock.monotonic()
                    self._health.backend_worked(now)
                    if first_token is None and draft.deltas:
                        first_token = now
                    if draft.finished or (now >= deadline.soft_stop and draft.ends_sentence()):
                        break
        except TimeoutError:
            pass  # the hard cut: the draft holds what there is
        except BackendRejected as rejected:
            raise ContentRefused(str(rejected), reason="backend_rejected") from None
        except BackendUnavailable:
            self._health.backend_failed()
            if not draft.deltas:
                raise Unavailable("the engine failed: come back later", reason="backend") from None
        return first_token

    def _finish(
        self, challenge: Challenge, draft: Draft, deadline: Deadline, wall_started: float, ended: float
    ) -> Answer:
        text, calls = draft.text(), draft.tool_calls()
        if not text.strip() and not calls:
            raise Unavailable("the engine wrote nothing that could be sent", reason="empty")
        return Answer(
            response_text=text,
            response_time_ms=round((ended - deadline.received) * 1000),
            tool_calls=calls or None,
            finish_reason=draft.finish_reason(calls),
            usage=self._usage(draft),
            correlation_id=challenge.correlation_id,
            metadata=self._metadata(challenge, wall_started),
        )

    def _usage(self, draft: Draft) -> Usage:
        completion_tokens = draft.completion_tokens or draft.deltas
        return Usage(draft.prompt_tokens, completion_tokens, draft.prompt_tokens + completion_tokens)

    def _metadata(self, challenge: Challenge, wall_started: float) -> AnswerMetadata | msgspec.UnsetType:
        if challenge.metadata is None or challenge.metadata.timing_data is None:
            return msgspec.UNSET
        written, sent = self._clock.wall(), self._clock.wall()
        inference = stage(INFERENCE_STAGE, wall_started, written)
        response = stage(RESPONSE_STAGE, written, sent)
        return AnswerMetadata(with_stages(challenge.metadata.timing_data, inference, response))
