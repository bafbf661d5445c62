"""Who writes in `just bench-engine`: the miner's backends, and one `llama_cpp.Llama` behind a lock."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import llama_cpp
import msgspec

from app.domain.backend import Backend, Generation
from app.errors import BackendUnavailable
from tests.bench.engine_figures import Written

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADING_SECONDS: Final = 300.0
LOCK_CONTEXT: Final = 2048


class Side(Protocol):
    """One that writes."""

    name: str

    async def open(self) -> None:
        """Load or connect. Errors: `BackendUnavailable`."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    async def write(self, prompt: str, tokens: int) -> Written:
        """Answer one prompt, greedily, with so many tokens."""
        ...


class BackendSide:
    """A miner's backend, asked as a challenge asks it."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    async def open(self) -> None:
        """Wait until it is ready."""
        await self._backend.open()
        until = time.monotonic() + LOADING_SECONDS
        while not (status := self._backend.status()).ready:
            if time.monotonic() > until:
                raise BackendUnavailable(f"{self.name} is not ready: {status.reason}")
            await asyncio.sleep(0.05)

    @property
    def model(self) -> str:
        """As the engine calls it."""
        return self._backend.status().model

    async def close(self) -> None:
        """Close it."""
        await self._backend.close()

    async def write(self, prompt: str, tokens: int) -> Written:
        """By `generate`."""
        messages = msgspec.json.encode([{"role": "user", "content": prompt}])
        wanted = Generation(messages=messages, max_tokens=tokens, temperature=0.0, top_p=1.0, hard_cut=float("inf"))
        pieces: list[float] = []
        written, asked = 0, time.perf_counter()
        async with aclosing(self._backend.generate(wanted)) as deltas:
            async for delta in deltas:
                if delta.text:
                    pieces.append(time.perf_counter())
                written = delta.completion_tokens or written
        return Written(asked=asked, pieces=pieces, tokens=written or len(pieces))


class LockSide:
    """What a miner without an engine of its own does: one `Llama`, one request at a time."""

    name = "lock"

    def __init__(self, model: Path, threads: int, at_once: int) -> None:
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="bench-lock")
        self._lock = Lock()
        self._model, self._threads = model, threads
        self._llama: llama_cpp.Llama | None = None

    async def open(self) -> None:
        """Load the model."""
        self._llama = await asyncio.to_thread(self._load)

    def _load(self) -> llama_cpp.Llama:
        threads = self._threads
        return llama_cpp.Llama(
            str(self._model), n_ctx=LOCK_CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
        )

    async def close(self) -> None:
        """Free the model."""
        self._pool.shutdown()
        if self._llama is not None:
            self._llama.close()

    async def write(self, prompt: str, tokens: int) -> Written:
        """In a thread of the pool, once the lock is free."""
        asked = time.perf_counter()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._write, prompt, tokens, asked)

    def _write(self, prompt: str, tokens: int, asked: float) -> Written:
        llama = self._llama
        if llama is None:
            raise BackendUnavailable("the model is not loaded")
        chat: Any = [{"role": "user", "content": prompt}]
        pieces: list[float] = []
        finish = None
        with self._lock:
            answer = llama.create_chat_completion(chat, max_tokens=tokens, temperature=0.0, stream=True)
            for chunk in cast("Iterator[Any]", answer):
                choice = chunk["choices"][0]
                if choice["delta"].get("content"):
                    pieces.append(time.perf_counter())
                finish = choice["finish_reason"] or finish
        # It doesn't count, and half a character makes no piece: at the limit there are as many as were wanted.
        return Written(asked=asked, pieces=pieces, tokens=tokens if finish == "length" else len(pieces))
