"""An answer that nobody watches is read in fewer pieces than it is written in; one that is watched, piece by piece."""

import time
from collections.abc import AsyncIterator

import pytest

from app.backends.dialects import Vllm
from app.backends.openai_api import OpenAiBackend
from tests.backends.engines import deltas_of, question, until
from tests.miner.process import StubEngine

CHUNKS = 200


@pytest.fixture
async def backend(engine: StubEngine) -> AsyncIterator[OpenAiBackend]:
    """A client of the stub, which has been found."""
    made = OpenAiBackend(Vllm(engine.model, 1), engine.base_url)
    await made.open()
    await until(lambda: made.status().ready)
    yield made
    await made.close()


async def test_pieces_gather_and_none_is_lost(backend: OpenAiBackend, engine: StubEngine) -> None:
    engine.behave(chunks=CHUNKS, token_ms=2, text="word " * CHUNKS)
    gathered = await deltas_of(backend, question("?", 5000, gather_until=time.monotonic() + 60))
    watched = await deltas_of(backend, question("?", 5000))
    for deltas in gathered, watched:
        assert "".join(delta.text for delta in deltas) == "word " * CHUNKS
        assert deltas[-1].finish == "stop"
    assert len(gathered) < CHUNKS * 0.6
    assert len(gathered) < len(watched)


async def test_an_answer_in_one_piece_does_not_wait(backend: OpenAiBackend, engine: StubEngine) -> None:
    engine.behave(chunks=1)
    wanted = question("?", 5000, gather_until=time.monotonic() + 60)
    for _ in range(3):
        assert [bool(delta.text) for delta in await deltas_of(backend, wanted)] == [True, False]
