"""Ollama: its model, the context it really serves, and what its OpenAI route makes of a request."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing

import psutil
import pytest

from app.backends.dialects import Ollama
from app.backends.openai_api import OpenAiBackend
from app.errors import BackendUnavailable, PromptTooLong
from tests.backends.engines import StubOllama, deltas_of, question, text_of, until

LEAST = 16384
TOOLS = b'[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]'

type Connect = Callable[..., Awaitable[OpenAiBackend]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`await connect(server, model=...)` gives a backend that knows whether it is ready."""
    async with AsyncExitStack() as stack:

        async def make(
            server: StubOllama,
            model: str | None = None,
            *,
            least: int = LEAST,
            load_seconds: float = 20,
            settled: bool = True,
            address: str = "",
        ) -> OpenAiBackend:
            backend = OpenAiBackend(Ollama(model, least, load_seconds), address or server.root)
            await backend.open()
            stack.push_async_callback(backend.close)
            if settled:
                await until(lambda: not backend.status().loading)
            return backend

        yield make


@pytest.mark.parametrize("wanted", ["llama3.2", "llama3.2:latest", "qwen2.5:7b"])
async def test_the_model_is_found_with_and_without_its_tag(connect: Connect, wanted: str) -> None:
    with StubOllama("--model", "llama3.2", "--context", str(LEAST)) as server:
        backend = await connect(server, wanted)
        assert backend.status().ready, backend.status().reason
        assert backend.status().model.removesuffix(":latest") == wanted.removesuffix(":latest")
        assert backend.status().context_tokens == LEAST


async def test_a_model_that_is_not_there_is_named_with_those_that_are(connect: Connect) -> None:
    with StubOllama("--model", "llama3.2") as server:
        reason = (await connect(server, "qwen2.5:14b")).status().reason
    assert reason == (
        "model qwen2.5:14b not found, Ollama has qwen2.5:7b, llama3.2:latest: set DEFAULT_MODEL to one of them"
    )


@pytest.mark.parametrize(
    ("wanted", "says"), [("qwen2.5:14b", "model qwen2.5:14b not found"), (None, "DEFAULT_MODEL is not set")]
)
async def test_an_engine_without_models_is_told(connect: Connect, wanted: str | None, says: str) -> None:
    with StubOllama("--empty") as server:
        reason = (await connect(server, wanted)).status().reason
    assert reason == f"{says}, Ollama has no model at all: give it one"


async def test_the_address_may_end_with_v1(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server, address=server.root + "/v1/")
        assert await text_of(backend, question("hello")) == "hello"


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        ((), "set OLLAMA_CONTEXT_LENGTH=16384 or more"),
        (("--context", "16383"), "a context of 16383 tokens"),
        (("--context", "32768", "--num-ctx", "2048"), "its Modelfile sets num_ctx, make that 16384 or more"),
        (("--context", "32768", "--model-context", "8192"), "the model itself has 8192: choose another"),
        (("--context", "32768", "--old"), "update it"),
    ],
)
async def test_a_context_that_would_cut_prompts_is_not_ready(
    connect: Connect, flags: tuple[str, ...], remedy: str
) -> None:
    with StubOllama(*flags) as server:
        status = (await connect(server)).status()
        assert not status.ready
        assert remedy in status.reason
        assert server.seen().loads == 1, "it was loaded to look, and once is enough"


async def test_a_lower_least_context_can_be_chosen(connect: Connect) -> None:
    with StubOllama() as server:
        assert (await connect(server, least=4096)).status().ready


async def test_loading_is_waited_for_and_not_given_up(connect: Connect) -> None:
    """Longer than a probe would wait: hanging up would make Ollama give up loading and begin it again and again."""
    with StubOllama("--context", str(LEAST), "--load-ms", "1500") as server:
        backend = await connect(server, settled=False)
        await until(lambda: "loads" in backend.status().reason)
        assert backend.status().loading
        await until(lambda: backend.status().ready)
        seen = server.seen()
        assert (seen.loads, seen.loads_given_up) == (1, 0)


async def test_loading_that_takes_too_long_says_which_setting(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST), "--load-ms", "60000") as server:
        backend = await connect(server, load_seconds=0.2, settled=False)
        await until(lambda: "raise OLLAMA_TIMEOUT" in backend.status().reason, 3)


async def test_a_loaded_model_stays_although_ollama_would_unload_it(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST), "--keep-alive", "0s") as server:
        backend = await connect(server)
        for _ in range(3):
            assert await text_of(backend, question("hello")) == "hello"
        assert server.seen().loads == 1


async def test_parameters_reach_ollama(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        wanted = question("one two STOP three", 77, temperature=0.0, seed=7, stop=("STOP",), response_format=b'{"a":1}')
        assert await text_of(backend, wanted) == "one two "
        sent = server.seen().requests[-1]
        assert sent == {
            "model": "qwen2.5:7b",
            "max_tokens": 77,
            "temperature": 0.0,
            "top_p": 0.9,
            "seed": 7,
            "stop": ["STOP"],
            "response_format": {"a": 1},
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def test_usage_and_the_end_are_told(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        end = (await deltas_of(backend, question("x" * 400)))[-1]
        assert (end.finish, end.prompt_tokens, end.completion_tokens) == ("stop", 101, 100)
        end = (await deltas_of(backend, question("x" * 400, 10)))[-1]
        assert (end.finish, end.completion_tokens) == ("length", 10)


async def test_max_tokens_is_always_sent_and_leaves_room(connect: Connect) -> None:
    """Without it Ollama writes without end, and past its context it forgets the beginning."""
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        for length, wanted, sent in ((100, 12288, 12288), (40_000, 12288, 6380), (100_000, 12288, 4096)):
            server.act(text="short")
            await text_of(backend, question("x" * length, wanted))
            assert server.seen().requests[-1]["max_tokens"] == pytest.approx(sent, abs=20)


async def test_a_tool_call_comes_whole_and_none_means_none(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        server.act(tool_call=True)
        deltas = await deltas_of(backend, question("weather?", tools=TOOLS))
        assert [(call.name, call.arguments) for delta in deltas for call in delta.tool_calls] == [
            ("weather", '{"city":"Oslo"}')
        ]
        assert deltas[-1].finish == "tool_calls"
        deltas = await deltas_of(backend, question("weather?", tools=TOOLS, tool_choice=b'"none"'))
        assert not any(delta.tool_calls for delta in deltas)
        assert "tools" not in server.seen().requests[-1]


async def test_thinking_is_no_text(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        server.act(reasoning="what could it be", text="this")
        assert await text_of(backend, question("?")) == "this"
        await backend.probe()


async def test_a_refused_prompt_is_the_prompts_fault(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        server.act(refuse_too_long=True)
        with pytest.raises(PromptTooLong, match="16384 tokens"):
            await text_of(backend, question("x" * 4 * LEAST))
        assert len(server.seen().requests) == 1, "asking again without max_tokens would ask for an endless answer"


@pytest.mark.parametrize("letter", ["x", "中", '"'])
async def test_a_prompt_that_ollama_would_surely_cut_is_refused(connect: Connect, letter: str) -> None:
    """Eight characters a token are more than any text has; how JSON spells a character does not count."""
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        server.act(text="cut, maybe")
        fits = json.dumps([{"role": "user", "content": letter * 8 * LEAST}]).encode()
        assert await text_of(backend, question("", messages=fits)) == "cut, maybe"
        parts = [{"type": "text", "text": letter * 4 * LEAST}, {"type": "text", "text": letter * 4 * LEAST + "."}]
        too_long = json.dumps([{"role": "user", "content": parts}]).encode()
        with pytest.raises(PromptTooLong, match="16384 tokens"):
            await text_of(backend, question("", messages=too_long))
        assert len(server.seen().requests) == 1


async def test_the_end_of_the_body_is_awaited_to_keep_the_connection(connect: Connect) -> None:
    """It comes a moment after `[DONE]`."""
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        seen: set[int] = set()
        for _ in range(5):
            await text_of(backend, question("?"))
            connections = psutil.Process().net_connections("tcp4")
            seen |= {one.laddr.port for one in connections if one.raddr and one.raddr.port == server.port}
        assert len(seen) == 1


async def test_threat_21_an_answer_without_end_is_ended(connect: Connect) -> None:
    many = str(1_000_000)
    with StubOllama("--context", many, "--model-context", many) as server:
        backend = await connect(server)
        server.act(endless=True)
        with pytest.raises(BackendUnavailable, match="without end"):
            await deltas_of(backend, question("on", 900_000))


async def test_closing_the_answer_ends_ollamas_work(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        backend = await connect(server)
        server.act(endless=True, token_ms=10)
        async with aclosing(backend.generate(question("on", 10_000))) as deltas:
            await anext(deltas)
            assert server.seen().running == 1
        await until(lambda: server.seen().running == 0, 0.5)


async def test_a_restart_with_a_smaller_context_is_noticed(connect: Connect) -> None:
    with StubOllama("--context", str(LEAST)) as server:
        port = server.port
        backend = await connect(server)
    with pytest.raises(Exception, match="Ollama"):
        await text_of(backend, question("hello"))
    await until(lambda: "can't be reached" in backend.status().reason)
    with StubOllama("--port", str(port)):
        await until(lambda: "OLLAMA_CONTEXT_LENGTH" in backend.status().reason)
        await asyncio.sleep(0)
