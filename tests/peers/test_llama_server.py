"""A whole miner on llama.cpp's own server: real weights behind an OpenAI-compatible API that others wrote."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import jsonschema
import openai
import pytest

from app.backends.dialects import Vllm
from app.backends.openai_api import OpenAiBackend
from app.errors import PromptTooLong
from tests.backends.engines import deltas_of, question, until
from tests.conftest import StartMiner
from tests.miner.http import Closed
from tests.miner.process import OK, MinerProcess, fetch
from tests.miner.validator import Validator, challenge
from tests.peers.llama_server import MODEL, LlamaServer, missing
from tests.v1.asking import TOOL, sync_client

WHY_NOT: Final = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it is there")]

SLOTS: Final = 2
STEPS: Final = ("--batch-size", "128")
"""It reads a prompt in small steps, between which it can be asked how it is."""
CONTEXT: Final = 2048
AT_ONCE: Final = 2.0
DOWN: Final = 30.0
BACK: Final = 15.0
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
OTHER: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "maxLength": 20}},
            "required": ["zone"],
        },
    },
}
TOOLS_TEMPLATE: Final = ("--chat-template-file", str(Path(__file__).with_name("hermes.jinja")))
"""The model's own template knows no tools; this one has the same marks, and tools in Hermes' way."""
STORY: Final = "Write a very long story about the sea and all who live on it."


def examples() -> list[dict[str, Any]]:
    """A talk in which the weather was asked for by calls, and is to be once more."""
    talk: list[dict[str, Any]] = []
    for city in ("Rome", "Bonn", "Lima"):
        call = {"name": "weather", "arguments": json.dumps({"city": city})}
        calls = [{"id": city, "type": "function", "function": call}]
        talk += [{"role": "user", "content": f"{city}?"}, {"role": "assistant", "content": None, "tool_calls": calls}]
        talk.append({"role": "tool", "tool_call_id": city, "content": "rain"})
    return [*talk, {"role": "user", "content": "Oslo?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with LlamaServer(
        tmp_path_factory.mktemp("llama"), *STEPS, *TOOLS_TEMPLATE, slots=SLOTS, context=CONTEXT
    ) as started:
        yield started


@pytest.fixture(scope="module")
def served(start_miner: StartMiner, server: LlamaServer) -> MinerProcess:
    """A miner that finds out by itself what it is connected to."""
    return start_miner(
        VLLM_API_BASE=server.base_url, DEFAULT_MODEL="", MIN_CONTEXT_TOKENS=1024, MAX_CONCURRENT_REQUESTS=SLOTS
    )


@pytest.fixture
async def asker(served: MinerProcess) -> AsyncIterator[Validator]:
    async with await served.validator() as made:
        await made.shake()
        yield made


@pytest.fixture
def client(served: MinerProcess) -> Iterator[openai.OpenAI]:
    with sync_client(served) as made:
        yield made


async def test_an_encrypted_challenge_is_answered(served: MinerProcess, asker: Validator) -> None:
    answer = await asker.ask("What is the capital of France?", max_tokens=24, temperature=0.0)
    assert "Paris" in answer["response_text"]
    assert 1 <= answer["usage"]["completion_tokens"] <= 24
    assert answer["usage"]["prompt_tokens"] > 20
    assert answer["finish_reason"] in {"stop", "length"}
    seen = json.loads(fetch(served.admin_port, "/health")[2])["backend"]
    assert (seen["model"], seen["context_tokens"]) == (MODEL, CONTEXT)


async def test_a_context_that_is_too_small_is_told_with_its_own_option(server: LlamaServer) -> None:
    backend = OpenAiBackend(Vllm(None, 16384), server.base_url)
    await backend.open()
    await until(lambda: not backend.status().loading)
    assert f"context of {CONTEXT} tokens" in backend.status().reason
    assert "--ctx-size 16384" in backend.status().reason
    await backend.close()


def test_a_stream_comes_in_pieces(client: openai.OpenAI) -> None:
    create: Any = client.chat.completions.create
    asked: dict[str, Any] = {"model": "any", "max_tokens": 32, "temperature": 0}
    asked["messages"] = [{"role": "user", "content": "Tell me about the moon."}]
    plain = create(**asked)
    *chunks, last = list(create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.split()[:3] == plain.choices[0].message.content.split()[:3]
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 8
    assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason == "length"
    assert last.usage.completion_tokens == plain.usage.completion_tokens == 32


def test_stop_and_seed(client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> str:  # noqa: ANN401 - the client's own parameters
        create: Any = client.chat.completions.create
        messages = [{"role": "user", "content": "Name a city and how many people live there."}]
        return create(model="any", messages=messages, max_tokens=24, **fields).choices[0].message.content or ""

    greedy = ask(temperature=0, seed=1)
    assert ask(temperature=0, seed=1) == greedy
    mark = greedy.split()[2]
    assert ask(temperature=0, stop=mark).strip() == greedy.partition(mark)[0].strip()
    seeded = [ask(seed=7, temperature=1) for _ in range(4)]
    assert max(seeded.count(text) for text in seeded) >= 3, seeded
    assert len({ask(seed=at, temperature=1.5) for at in range(4)}) > 1


def test_a_json_schema_is_kept_to(client: openai.OpenAI) -> None:
    named: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    messages: list[Any] = [{"role": "user", "content": "Name a city and how many people live there."}]
    done = client.chat.completions.create(
        model="any", messages=messages, max_tokens=200, response_format=named, temperature=1, seed=1
    )
    assert done.choices[0].finish_reason == "stop", done
    jsonschema.validate(json.loads(done.choices[0].message.content or ""), SCHEMA)


def test_a_json_object_is_one(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Name a city as JSON."}]
    kind: Any = {"type": "json_object"}
    done = client.chat.completions.create(
        model="any", messages=messages, max_tokens=60, response_format=kind, temperature=0
    ).choices[0]
    text = done.message.content or ""
    assert text.lstrip().startswith("{")
    if done.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_on_v1(client: openai.OpenAI, *, stream: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "word " * 3000}]
    create: Any = client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match=f"{CONTEXT} tokens") as refused:
        create(model="any", messages=messages, stream=stream)
    assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")


@pytest.mark.parametrize("name", ["weather", "clock"])
def test_a_named_call_is_the_named_one(client: openai.OpenAI, name: str) -> None:
    """By itself this server takes a name for "auto", and all examples call the weather."""
    create: Any = client.chat.completions.create
    tools = {tool["function"]["name"]: tool for tool in (TOOL, OTHER)}
    named = {"type": "function", "function": {"name": name}}
    asked: dict[str, Any] = {"model": "any", "messages": examples(), "tools": list(tools.values())}
    done = create(**asked, tool_choice=named, max_tokens=200, temperature=0).choices[0]
    assert done.finish_reason == "tool_calls", done
    for call in done.message.tool_calls:
        assert call.function.name == name
        jsonschema.validate(json.loads(call.function.arguments), tools[name]["function"]["parameters"])


async def test_a_required_tool_call_through_a_challenge(asker: Validator) -> None:
    answer = await asker.ask(
        "", messages=examples(), tools=[TOOL], tool_choice="required", max_tokens=200, temperature=0.0
    )
    assert answer["finish_reason"] == "tool_calls", answer
    for call in answer["tool_calls"]:
        assert call["function"]["name"] == "weather"
        jsonschema.validate(json.loads(call["function"]["arguments"]), TOOL["function"]["parameters"])


def test_tools_that_need_not_be_called(client: openai.OpenAI) -> None:
    """`auto` writes text or whole calls; `none` writes text."""
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    for choice in ("auto", "none"):
        create: Any = client.chat.completions.create
        done = create(
            model="any", messages=messages, tools=[TOOL], tool_choice=choice, max_tokens=100, temperature=0
        ).choices[0]
        calls: list[Any] = done.message.tool_calls or []
        assert calls or done.message.content
        assert not calls or choice == "auto"
        for call in calls:
            assert isinstance(json.loads(call.function.arguments), dict)


async def test_hanging_up_frees_the_slot(served: MinerProcess, asker: Validator, server: LlamaServer) -> None:
    """While it reads a prompt this server looks at nobody, whoever hangs up."""
    async with await served.validator(hotkey=asker.hotkey) as gone:
        gone.session = asker.session
        sent = asyncio.create_task(gone.send(challenge(STORY)))
        await asyncio.to_thread(server.wait_busy)
        gone.close()
        with pytest.raises(Closed):
            await sent
    await asyncio.to_thread(server.wait_idle)


async def test_a_prompt_over_the_context_is_refused_with_the_number(asker: Validator) -> None:
    for wanted in (64, 12288):
        reply = await asker.send(challenge("word " * 3000, max_tokens=wanted))
        assert reply.status == 422, reply.body[:300]
        assert str(CONTEXT) in reply.detail


async def test_max_tokens_holds_where_the_prompt_may_fill_the_context(server: LlamaServer) -> None:
    """It is not sent then, and this server counts the tokens at the end only."""
    backend = OpenAiBackend(Vllm(None, 256), server.base_url)
    await backend.open()
    await until(lambda: backend.status().ready)
    filler = " " * (2 * CONTEXT)  # many bytes in few tokens
    deltas = await deltas_of(backend, question(f"Hello.{filler}{STORY}", max_tokens=24, temperature=0.0))
    assert deltas[-1].finish == "length"
    assert 24 <= deltas[-1].completion_tokens <= 24 + SLOTS
    await asyncio.to_thread(server.wait_idle)
    with pytest.raises(PromptTooLong):
        await deltas_of(backend, question("word " * 3000, max_tokens=24))
    await backend.close()


async def test_kill_9_and_its_return(start_miner: StartMiner, tmp_path_factory: pytest.TempPathFactory) -> None:
    """While it writes: the text so far; while it reads a prompt: a 503; both at once. All is well when it is back."""
    folder = tmp_path_factory.mktemp("killed")
    with ExitStack() as stack:
        server = stack.enter_context(LlamaServer(folder, *STEPS, slots=SLOTS, context=CONTEXT))
        miner = start_miner(VLLM_API_BASE=server.base_url, DEFAULT_MODEL="", MIN_CONTEXT_TOKENS=1024)
        create: Any = stack.enter_context(sync_client(miner)).chat.completions.create
        with pytest.raises(openai.BadRequestError) as refused:
            create(model="any", messages=examples(), tools=[TOOL], tool_choice="required")
        assert refused.value.param == "tool_choice", "the model's own template knows no tools"
        for prompt, status in ((STORY, 200), (STORY + " word" * 1500, 503)):
            async with await miner.validator() as asker:
                await asker.shake()
                sent = asyncio.create_task(asker.send(challenge(prompt, max_tokens=1000, temperature=0.0)))
                await asyncio.to_thread(server.wait_busy)
                if status == OK:
                    await asyncio.to_thread(server.wait_written, 16)
                killed = time.monotonic()
                server.kill()
                reply = await sent
                taken = time.monotonic() - killed
                assert (reply.status, taken < AT_ONCE) == (status, True), (reply, taken)
                if status == OK:
                    answer = asker.opened(reply)
                    assert answer["response_text"].strip()
                    assert answer["finish_reason"] == "length"
                down = time.monotonic()
                while json.loads((await asyncio.to_thread(fetch, miner.port, "/availability"))[2])["available"]:
                    assert time.monotonic() < down + DOWN
                    await asyncio.sleep(0.05)
                again = LlamaServer(folder, *STEPS, slots=SLOTS, context=CONTEXT, port=server.port)
                server = stack.enter_context(again)
                await asyncio.to_thread(again.wait_ready)
                await asyncio.to_thread(miner.wait_ready, BACK)
                assert (await asker.ask("Well again?", max_tokens=8))["response_text"].strip()
                print(f"\nkill -9: {status} after {taken:.2f} s")  # noqa: T201
        miner.stop()
