"""Engines for the tests of the clients: processes that stand in for real ones, and helpers to ask them."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from app.domain.backend import Backend, Delta, Generation
from app.domain.draft import Draft
from tests.miner.http import LOCAL
from tests.miner.process import StubEngine, fetch
from tests.stubs.ollama import Stats

OK: Final = 200


class StubOllama(StubEngine):
    """The Ollama stand-in in a process of its own; ends as `StubEngine` does."""

    MODULE = "tests.stubs.ollama"

    def __init__(self, *flags: str, model: str = "qwen2.5:7b") -> None:
        super().__init__(*flags, model=model)

    @property
    def root(self) -> str:
        """What goes into OLLAMA_BASE_URL."""
        return f"http://{LOCAL}:{self.port}"

    def act(self, **behaviour: object) -> None:
        """Behave so from the next request on."""
        status, _, body = fetch(self.control_port, "/stub", method="POST", body=json.dumps(behaviour).encode())
        assert status == OK, body

    def seen(self) -> Stats:
        """What it saw since it started."""
        return msgspec.json.decode(fetch(self.control_port, "/stub")[2], type=Stats)


def question(text: str, max_tokens: int = 1000, **fields: object) -> Generation:
    """A generation for one user message; `fields` are more of `Generation`'s."""
    messages = msgspec.json.encode([{"role": "user", "content": text}])
    plain = Generation(messages=messages, max_tokens=max_tokens, temperature=0.5, top_p=0.9, hard_cut=0.0)
    return msgspec.structs.replace(plain, **fields)


async def deltas_of(backend: Backend, generation: Generation) -> list[Delta]:
    """All that the engine writes."""
    async with aclosing(backend.generate(generation)) as deltas:
        return [delta async for delta in deltas]


async def text_of(backend: Backend, generation: Generation) -> str:
    """The text that would leave the miner."""
    draft = Draft()
    for delta in await deltas_of(backend, generation):
        draft.add(delta)
    return draft.text()


async def until(condition: Callable[[], bool], seconds: float = 30) -> float:
    """Wait for it; gives how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it does not come true"
        await asyncio.sleep(0.01)
    return time.monotonic() - began
