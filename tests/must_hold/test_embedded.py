"""The real embedded model, end to end: nothing but the miner's own process."""

import asyncio
import importlib.util
import re
import time
from collections.abc import AsyncIterator

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Closed
from tests.miner.process import MinerProcess
from tests.miner.validator import Validator, challenge

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="the embedded engine is not installed"),
]


@pytest.fixture(scope="module")
def embedded(start_miner: StartMiner) -> MinerProcess:
    miner = start_miner(
        wait=False,
        LLM_BACKEND="llamacpp",
        VLLM_API_BASE="",
        DEFAULT_MODEL="",
        ANSWER_SOFT_STOP_SECONDS=12,
        ANSWER_HARD_CUT_SECONDS=15,
    )
    seen = [next(miner.polls(20))]
    started = time.monotonic()
    miner.wait_ready(120)
    print(f"\nembedded: first {seen[0]}, ready {time.monotonic() - started:.1f} s later")  # noqa: T201
    return miner


@pytest.fixture
async def asker(embedded: MinerProcess) -> AsyncIterator[Validator]:
    async with await embedded.validator() as made:
        yield made


async def test_a_real_model_answers_an_encrypted_challenge(asker: Validator) -> None:
    timing: dict[str, object] = {
        "correlation_id": "c",
        "request_start_timestamp": 1.0,
        "request_start_datetime": "x",
        "stages": [],
    }
    answer = await asker.ask(
        "What is the capital of France?",
        max_tokens=24,
        temperature=0.0,
        correlation_id="c",
        metadata={"timing_data": timing},
    )
    print(f"\n{answer}")  # noqa: T201
    assert answer["response_text"].strip()
    assert answer["finish_reason"] in {"stop", "length"}
    assert 1 <= answer["usage"]["completion_tokens"] <= 24
    assert answer["usage"]["prompt_tokens"] > 5
    assert answer["correlation_id"] == "c"
    stages = answer["metadata"]["timing_data"]["stages"]
    assert [stage["stage_name"] for stage in stages] == ["miner_inference", "miner_response"]
    assert all(stage["elapsed_ms"] is not None and stage["end_timestamp"] for stage in stages)


async def test_the_same_question_twice_at_temperature_0(asker: Validator) -> None:
    texts = {(await asker.ask("Count to five.", max_tokens=16, temperature=0.0))["response_text"] for _ in range(2)}
    assert len(texts) == 1


async def test_a_long_text_is_cut_in_time(asker: Validator) -> None:
    started = time.monotonic()
    answer = await asker.ask(
        "Write a very long story about every number from 1 to 5000.", max_tokens=12288, temperature=1.0
    )
    assert time.monotonic() - started < 17
    assert answer["finish_reason"] in {"length", "stop"}
    assert answer["response_text"].strip()


async def test_a_prompt_over_the_context_is_refused_with_the_numbers(asker: Validator) -> None:
    reply = await asker.send(challenge("word " * 60_000))
    assert reply.status == 422
    assert len(re.findall(r"\d{4,}", reply.detail)) == 2, reply.detail
    assert reply.seconds < 5


async def test_hanging_up_frees_the_model(embedded: MinerProcess, asker: Validator) -> None:
    """Also while it still reads a long prompt: the next answer comes soon, and the processor is idle again."""
    await asker.shake()
    for text in ("Tell me everything about rivers.", "word " * 5_000):
        async with await embedded.validator(hotkey=asker.hotkey) as gone:
            gone.session = asker.session
            sent = asyncio.create_task(gone.send(challenge(text)))
            await asyncio.sleep(0.7)
            gone.close()
            with pytest.raises(Closed):
                await sent
        await asyncio.sleep(0.6)
        before = embedded.cpu()
        await asyncio.sleep(1)
        used = embedded.cpu() - before
        assert used < 0.3, f"{used:.2f} s of processor time in a second after the validator hung up"
    assert (await asker.ask("Still there?", max_tokens=8))["response_text"].strip()
