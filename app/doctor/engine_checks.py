"""The engine: reachable, the right model, enough context, and how much it writes in the time of one answer."""

import asyncio
import time
from contextlib import aclosing
from typing import Final

import msgspec

from app.doctor.check import Check, Verdict, failed, ok, parted, skipped, warning
from app.doctor.running_miner import RunningMiner
from app.domain.backend import Backend, BackendStatus, Generation
from app.errors import BackendError

_LOOK_SECONDS: Final = 3.0
_SEE_STATUS_SECONDS: Final = 0.05
_WRITE_SECONDS: Final = 3.0
_SLACK_SECONDS: Final = 1.0
_WRITE_TOKENS: Final = 256
_LEAST_MEASURED: Final = 8
_FEW_TOKENS: Final = 500
_PROMPT: Final = b'[{"role":"user","content":"Tell a long story about the sea."}]'


class _Written(msgspec.Struct, frozen=True):
    """How the engine wrote: seconds to the first token, then tokens in seconds."""

    first_seconds: float
    tokens: int
    seconds: float


class EngineChecks:
    """Asks an engine of its own kind directly; the one in the miner's process is asked through the miner.

    `backend` is None for the embedded engine. `answer_seconds` is the time one answer has.
    """

    def __init__(self, backend: Backend | None, running: RunningMiner, *, answer_seconds: float, unit: str) -> None:
        self._backend = backend
        self._running = running
        self._answer_seconds = answer_seconds
        self._unit = unit
        self._looking: asyncio.Task[BackendStatus | None] | None = None
        self._writing: asyncio.Task[_Written] | None = None

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        seconds = _LOOK_SECONDS + _WRITE_SECONDS + _SLACK_SECONDS
        return (
            Check(
                code="engine-model",
                section="engine",
                title="The engine answers, and has the model",
                look=self._model,
                seconds=seconds,
            ),
            Check(
                code="engine-context",
                section="engine",
                title="It serves enough context",
                look=self._context,
                seconds=seconds,
            ),
            Check(
                code="engine-token",
                section="engine",
                title="It writes a token when asked",
                look=self._token,
                seconds=seconds,
            ),
            Check(
                code="engine-speed",
                section="engine",
                title="How much it writes in the time of one answer",
                look=self._speed,
                seconds=seconds,
            ),
        )

    async def close(self) -> None:
        """Let go of the engine."""
        if self._backend is not None and self._looking is not None:
            await self._backend.close()

    async def _model(self) -> Verdict:
        status = await self._status()
        if status is None:
            return skipped("the engine runs inside the miner, and no miner runs")
        if status.loading and self._backend is not None:
            return failed(f"{status.reason}: nothing certain within {_LOOK_SECONDS:g} s", self._restart())
        if not status.ready:
            return parted(status.reason)
        where = f" at {status.address}" if status.address else ", in the miner's process"
        if status.standing_by:
            return ok(f"{status.model}{where}; standing by: {', '.join(status.standing_by)}")
        return ok(f"{status.model}{where}")

    async def _context(self) -> Verdict:
        status = await self._status()
        if status is None or not status.ready:
            return skipped("no engine to ask")
        if not status.context_tokens:
            return warning("the engine does not tell its context", "compare its own settings with MIN_CONTEXT_TOKENS")
        return ok(f"{status.context_tokens} tokens for prompt and answer")

    async def _token(self) -> Verdict:
        if self._backend is None:
            return await self._token_inside()
        status = await self._status()
        if status is None or not status.ready:
            return skipped("no engine to ask")
        try:
            written = await self._written(self._backend)
        except BackendError as error:
            return failed(str(error), self._restart())
        if not written.tokens:
            return failed(f"none within {_WRITE_SECONDS:g} s", self._restart())
        return ok(f"the first after {written.first_seconds:.2f} s")

    async def _token_inside(self) -> Verdict:
        health = (await self._running.seen()).health
        if health is None:
            return skipped("the engine runs inside the miner, and no miner runs")
        if health.probe_seconds is None:
            return failed("no probe of the engine was good yet", "look at the miner's log")
        return ok(f"the last probe took {health.probe_seconds:.2f} s")

    async def _speed(self) -> Verdict:
        if self._backend is None:
            return skipped("told by the self-challenge")
        status = await self._status()
        if status is None or not status.ready:
            return skipped("no engine to ask")
        try:
            written = await self._written(self._backend)
        except BackendError:
            return skipped("it writes nothing")
        if written.tokens < _LEAST_MEASURED:
            return warning(f"only {written.tokens} tokens in {_WRITE_SECONDS:g} s", self._restart())
        return speed(written.tokens / max(written.seconds, 1e-3), self._answer_seconds)

    async def _status(self) -> BackendStatus | None:
        """Give the engine's status, as soon as it is certain; None when nobody can tell."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> BackendStatus | None:
        if self._backend is None:
            health = (await self._running.seen()).health
            return None if health is None else health.backend
        await self._backend.open()
        end = time.monotonic() + _LOOK_SECONDS
        while self._backend.status().loading and time.monotonic() < end:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_SEE_STATUS_SECONDS)
        return self._backend.status()

    async def _written(self, backend: Backend) -> _Written:
        if self._writing is None:
            self._writing = asyncio.create_task(_write(backend))
        return await asyncio.shield(self._writing)

    def _restart(self) -> str:
        return f"look at its log (journalctl -u {self._unit}), restart it if wedged"


def speed(tokens_per_second: float, answer_seconds: float) -> Verdict:
    """Say what a speed means for an answer; the longer answer earns more (hardware facts, section 1)."""
    tokens = int(tokens_per_second * answer_seconds)
    said = f"{tokens_per_second:.0f} tokens/s: in {answer_seconds:g} s this box writes about {tokens} tokens"
    if tokens < _FEW_TOKENS:
        return warning(said, "`loosh-miner models` names models that fit this machine; a GPU earns more")
    return ok(said)


async def _write(backend: Backend) -> _Written:
    """Let it write for `_WRITE_SECONDS`. Errors: `BackendError`."""
    started = time.perf_counter()
    generation = Generation(
        messages=_PROMPT,
        max_tokens=_WRITE_TOKENS,
        temperature=0.7,
        top_p=0.95,
        hard_cut=time.monotonic() + _WRITE_SECONDS,
    )
    first = last = 0.0
    tokens = pieces = 0
    try:
        async with asyncio.timeout(_WRITE_SECONDS), aclosing(backend.generate(generation)) as deltas:
            async for delta in deltas:
                if delta.text:
                    last = time.perf_counter() - started
                    first = first or last
                    pieces += 1
                tokens = delta.completion_tokens or tokens
    except TimeoutError:
        pass  # what was written so far is the measure
    return _Written(first, max(tokens, pieces), last - first)
