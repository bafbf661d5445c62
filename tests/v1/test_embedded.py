"""OpenAI's client and the real embedded model, end to end."""

import asyncio
import importlib.util
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.conftest import StartMiner
from tests.miner.process import MinerProcess
from tests.v1.asking import MESSAGES, TOOL, async_client, sync_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="the embedded engine is not installed"),
]
USER: list[Any] = [{"role": "user", "content": "Name a city and how many people live there."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def embedded(start_miner: StartMiner) -> MinerProcess:
    miner = start_miner(wait=False, LLM_BACKEND="llamacpp", VLLM_API_BASE="", DEFAULT_MODEL="")
    miner.wait_ready(120)
    return miner


@pytest.fixture
def client(embedded: MinerProcess) -> Iterator[openai.OpenAI]:
    with sync_client(embedded) as made:
        yield made


def test_a_completion_plain_and_streamed(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="any", messages=MESSAGES, max_tokens=16, temperature=0)
    assert plain.choices[0].message.content
    assert plain.usage is not None
    assert 1 <= plain.usage.completion_tokens <= 16
    assert plain.model == client.models.list().data[0].id == "SmolLM2-135M-Instruct"
    stream = client.chat.completions.create(
        model="any",
        messages=MESSAGES,
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason
    assert last.usage == plain.usage


def test_stop_and_seed(client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> str:  # noqa: ANN401 - the client's own parameters
        create: Any = client.chat.completions.create
        done = create(model="any", messages=USER, max_tokens=24, **fields)
        return done.choices[0].message.content or ""

    # The miner's own probes may come in between.
    same = Counter(ask(seed=-5, temperature=1) for _ in range(5))
    assert len(same) == 1, same
    assert len({ask(seed=at, temperature=1.5) for at in range(4)}) > 1
    greedy = ask(temperature=0)
    mark = greedy.split()[2]
    assert ask(temperature=0, stop=mark) == greedy.partition(mark)[0]


def test_json_schema_and_json_object_are_kept_to(client: openai.OpenAI) -> None:
    named: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    for seed in range(3):
        done = client.chat.completions.create(
            model="any", messages=USER, max_tokens=100, response_format=named, seed=seed, temperature=1
        )
        assert done.choices[0].finish_reason == "stop", done
        jsonschema.validate(json.loads(done.choices[0].message.content or ""), SCHEMA)
    done = client.chat.completions.create(
        model="any", messages=USER, max_tokens=200, response_format={"type": "json_object"}, temperature=0
    )
    if done.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(done.choices[0].message.content or ""), dict)
    else:
        assert (done.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
def test_a_required_tool_call(client: openai.OpenAI, choice: Any) -> None:  # noqa: ANN401 - a word or an object
    question: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    done = client.chat.completions.create(
        model="any", messages=question, tools=[TOOL], tool_choice=choice, max_tokens=200, temperature=0
    )
    assert done.choices[0].finish_reason == "tool_calls"
    calls: list[Any] = list(done.choices[0].message.tool_calls or ())
    assert calls
    for call in calls:
        assert call.function.name == "weather"
        jsonschema.validate(json.loads(call.function.arguments), TOOL["function"]["parameters"])
    with client.chat.completions.stream(
        model="any", messages=question, tools=[TOOL], tool_choice=choice, max_tokens=200, temperature=0
    ) as stream:
        streamed: list[Any] = list(stream.get_final_completion().choices[0].message.tool_calls or ())
    assert [call.function.arguments for call in streamed] == [call.function.arguments for call in calls]


def test_a_prompt_over_the_context_is_the_clients_fault(client: openai.OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 60_000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"\d{4,}") as refused:
            client.chat.completions.create(model="any", messages=long, stream=stream)
        assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")


async def test_leaving_frees_the_model(embedded: MinerProcess) -> None:
    story: list[Any] = [{"role": "user", "content": "Write a very long story about every number from 1 to 5000."}]
    async with async_client(embedded) as client:
        stream = await client.chat.completions.create(model="any", messages=story, stream=True, temperature=1)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        plain = asyncio.create_task(client.chat.completions.create(model="any", messages=story, temperature=1))
        await asyncio.sleep(0.7)
        plain.cancel()
        await asyncio.gather(plain, return_exceptions=True)
    await asyncio.sleep(0.5)
    before, began = embedded.cpu(), time.monotonic()
    await asyncio.sleep(1)
    used = (embedded.cpu() - before) / (time.monotonic() - began)
    assert used < 0.3, f"{used:.2f} of a processor is still in use"
