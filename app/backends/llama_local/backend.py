"""The embedded engine behind the `Backend` protocol: asyncio on this side, the engine's thread on the other."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from app.backends.llama_local.mailbox import Mailbox
from app.backends.llama_local.options import LlamaLocalSettings, Tuning
from app.backends.llama_local.order import Order, Piece
from app.backends.llama_local.tool_calls import ToolCallReader
from app.backends.llama_local.worker import Loaded, Worker
from app.domain.backend import BackendStatus, Delta, FinishReason, Generation
from app.errors import BackendUnavailable

if TYPE_CHECKING:
    from app.backends.llama_local.engine import Engine

_PROMPT_THREADS: Final = 2
_PROBE: Final = Generation(
    messages=b'[{"role":"user","content":"Hi"}]', max_tokens=1, temperature=0.0, top_p=1.0, hard_cut=float("inf")
)


class LlamaLocalBackend:
    """llama.cpp in this process (implements `Backend`)."""

    def __init__(self, settings: LlamaLocalSettings, model_name: str, tuning: Tuning | None = None) -> None:
        self._settings = settings
        self._name = model_name
        self._tuning = tuning or Tuning()
        self._worker: Worker | None = None
        self._prompts: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Start loading; comes back at once."""
        if self._worker is None:
            self._prompts = ThreadPoolExecutor(_PROMPT_THREADS, thread_name_prefix="llama-prompt")
            self._worker = Worker(self._settings, self._tuning)
            self._worker.start()

    async def close(self) -> None:
        """End what runs, and the thread; comes back when the memory is free."""
        worker, prompts = self._worker, self._prompts
        self._worker = self._prompts = None
        if worker is None or prompts is None:
            return
        worker.stop()
        await asyncio.get_running_loop().run_in_executor(prompts, worker.join)
        prompts.shutdown(wait=False)

    @property
    def engine(self) -> "Engine | None":
        """The engine once it is loaded, for metrics; requests go through `generate`."""
        loaded = self._worker.loaded if self._worker is not None else None
        return loaded.engine if loaded is not None else None

    def status(self) -> BackendStatus:
        """The engine's state; never waits."""
        reason = self._reason()
        context = self.engine.context_tokens if self.engine is not None else 0
        loading = self._worker is not None and self.engine is None and not self._worker.failure
        return BackendStatus(ready=not reason, reason=reason, loading=loading, model=self._name, context_tokens=context)

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Stream the text; the last delta has `finish` set."""
        stream = self._write(generation, urgent=False)
        try:
            async for delta in stream:
                yield delta
        finally:
            await stream.aclose()

    async def probe(self) -> None:
        """Write one token for real, past the requests that wait; raises when the engine can't."""
        async for _ in self._write(_PROBE, urgent=True):
            pass

    async def _write(self, generation: Generation, *, urgent: bool) -> AsyncGenerator[Delta, None]:
        loaded, prompts = self._loaded()
        loop = asyncio.get_running_loop()
        order = await loop.run_in_executor(prompts, partial(loaded.writer.order, generation, urgent=urgent))
        mailbox = Mailbox(loop)
        sequence = loaded.engine.submit(order, mailbox.put)
        try:
            reader = ToolCallReader(order.tools)
            done = False
            while not done:
                pieces = await mailbox.take()
                done = bool(pieces) and pieces[-1].end is not None
                if pieces:
                    yield _delta(order, reader, pieces)
        finally:
            loaded.engine.cancel(sequence)

    def _loaded(self) -> tuple[Loaded, ThreadPoolExecutor]:
        reason = self._reason()
        if reason or self._worker is None or self._worker.loaded is None or self._prompts is None:
            raise BackendUnavailable(reason)
        return self._worker.loaded, self._prompts

    def _reason(self) -> str:
        """Why nothing can be written now; empty when it can."""
        if self._worker is None:
            return "not started"
        if self._worker.failure:
            return self._worker.failure
        if self._worker.loaded is None:
            return f"loading {self._name} ({self._worker.share:.0%})"
        return self._worker.loaded.engine.broken


def _delta(order: Order, reader: ToolCallReader, pieces: list[Piece]) -> Delta:
    """All that came since the last look, as one."""
    last = pieces[-1]
    if last.end in {"failed", "cancelled"}:
        raise BackendUnavailable(last.error or "the work was cancelled")
    text, calls = reader.push("".join(piece.text for piece in pieces))
    finish: FinishReason | None = None
    if last.end is not None:
        text += reader.finish()
        finish = "tool_calls" if reader.calls else "length" if last.end == "length" else "stop"
    return Delta(text, calls, finish, prompt_tokens=len(order.prompt), completion_tokens=last.completion_tokens)
