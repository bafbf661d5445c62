"""Asking a backend, and loading one."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.engine import Engine
from app.backends.llama_local.options import LlamaLocalSettings, Tuning
from app.domain.backend import Delta, Generation

PATIENCE = 120.0
"""Seconds until a test gives up: the machine may be busy with other things."""

QUESTIONS = tuple(
    f"{opening} {thing}{end}"
    for opening, end in (
        ("What is", "?"),
        ("Write one sentence about", "."),
        ("Why do people like", "?"),
        ("Give three words that describe", " and say why."),
    )
    for thing in ("the sea", "a mountain", "mathematics", "bread", "the moon", "a library", "winter", "music")
)
"""32 different prompts."""


class Answer(msgspec.Struct):
    """All deltas of one generation in one."""

    text: str = ""
    deltas: list[Delta] = []

    @property
    def last(self) -> Delta:
        return self.deltas[-1]


def generation(text: str = "Hello", **changes: Any) -> Generation:  # noqa: ANN401 - any field of a Generation
    """A greedy request; everything can be changed."""
    fields: dict[str, Any] = {
        "messages": messages(text),
        "max_tokens": 16,
        "temperature": 0.0,
        "top_p": 1.0,
        "hard_cut": time.monotonic() + PATIENCE,
    }
    return Generation(**(fields | changes))


def messages(text: str) -> bytes:
    return msgspec.json.encode([{"role": "user", "content": text}])


async def ask(backend: LlamaLocalBackend, text: str = "Hello", **changes: Any) -> Answer:  # noqa: ANN401 - the same
    """The whole answer."""
    answer = Answer()
    async for delta in backend.generate(generation(text, **changes)):
        answer.deltas.append(delta)
        answer.text += delta.text
    return answer


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Wait for the condition; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def engine_of(backend: LlamaLocalBackend) -> Engine:
    engine = backend.engine
    assert engine is not None
    return engine


@asynccontextmanager
async def opened(
    settings: LlamaLocalSettings | None = None, tuning: Tuning | None = None
) -> AsyncGenerator[LlamaLocalBackend]:
    """A backend that is ready, closed at the end."""
    backend = LlamaLocalBackend(settings or LlamaLocalSettings(parallel=8), "smollm2", tuning)
    await backend.open()
    try:
        await until(lambda: not backend.status().reason.startswith("loading"))
        assert backend.status().ready, backend.status().reason
        yield backend
    finally:
        await backend.close()
