"""What the client does for llama.cpp's own server, which tells and reads less than vLLM does."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from app.backends.dialects import Vllm
from app.backends.openai_api import OpenAiBackend
from app.errors import BackendRejected
from tests.backends.engines import deltas_of, question, until
from tests.miner.process import StubEngine
from tests.v1.asking import TOOL

CONTEXT = 4096
OTHER = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
TOOLS = json.dumps([TOOL, OTHER]).encode()
NAMED = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(scope="module")
def llama_server() -> Iterator[StubEngine]:
    with StubEngine("--llama-cpp", "--max-model-len", str(CONTEXT)) as engine:
        yield engine


async def opened(engine: StubEngine, least_context: int = 1) -> OpenAiBackend:
    made = OpenAiBackend(Vllm(None, least_context), engine.base_url)
    await made.open()
    await until(lambda: not made.status().loading)
    return made


@pytest.fixture
async def backend(llama_server: StubEngine) -> AsyncIterator[OpenAiBackend]:
    llama_server.behave()
    made = await opened(llama_server)
    yield made
    await made.close()


async def test_its_context_is_found(backend: OpenAiBackend, llama_server: StubEngine) -> None:
    status = backend.status()
    assert (status.ready, status.context_tokens) == (True, CONTEXT)
    assert (status.forces_calls, status.forces_by_name) == (True, False)
    strict = await opened(llama_server, CONTEXT + 1)
    assert not strict.status().ready
    assert f"--ctx-size {CONTEXT + 1}" in strict.status().reason
    await strict.close()


async def test_a_template_without_tools_forces_no_call() -> None:
    with StubEngine("--llama-cpp", "--no-tools") as engine:
        backend = await opened(engine)
        assert backend.status().ready
        assert not backend.status().forces_calls
        await backend.close()


async def test_vllm_is_not_taken_for_it(engine: StubEngine) -> None:
    backend = await opened(engine)
    assert backend.status().forces_by_name
    await backend.close()


async def test_texts_are_counted_where_tokens_are_told_at_the_end_only(
    backend: OpenAiBackend, llama_server: StubEngine
) -> None:
    """`max_tokens` is not sent where the prompt may fill the context, and it must hold all the same."""
    llama_server.behave(endless=True, token_ms=5)
    async with asyncio.timeout(20):  # it would never end
        deltas = await deltas_of(backend, question("x " * CONTEXT, max_tokens=20))
    assert llama_server.stats().last_request["max_tokens"] is None
    assert deltas[-1].finish == "length"
    assert 20 < deltas[-1].completion_tokens < 60
    await until(lambda: not llama_server.stats().running)


async def test_a_name_becomes_required_with_that_tool_alone(backend: OpenAiBackend, llama_server: StubEngine) -> None:
    llama_server.behave(tool_call=True)
    choice = json.dumps(NAMED).encode()
    deltas = await deltas_of(backend, question("?", tools=TOOLS, tool_choice=choice))
    seen = llama_server.stats().last_request
    assert (seen["tool_choice"], seen["tools"]) == ("required", 1)
    assert {call.name for delta in deltas for call in delta.tool_calls if call.name} == {"clock"}
    await deltas_of(backend, question("?", tools=TOOLS, tool_choice=b'"auto"'))
    seen = llama_server.stats().last_request
    assert (seen["tool_choice"], seen["tools"]) == ("auto", 2)


async def test_a_name_among_no_tools_is_the_requests_fault(backend: OpenAiBackend) -> None:
    choice = json.dumps(NAMED).encode()
    with pytest.raises(BackendRejected):
        await deltas_of(backend, question("?", tools=json.dumps([TOOL]).encode(), tool_choice=choice))
