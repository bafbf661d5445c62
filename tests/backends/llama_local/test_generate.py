"""What every request may expect of the embedded engine."""

import asyncio
import time

import msgspec
import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.bindings import Context
from app.backends.llama_local.options import LlamaLocalSettings, Tuning
from app.errors import BackendRejected, BackendUnavailable, PromptTooLong
from tests.backends.llama_local.asking import QUESTIONS, ask, engine_of, generation, opened, until

CANCEL_SECONDS = 0.5 * 3
"""What is promised, times a factor for a machine that does other things as well."""


def filling(words: int) -> str:
    return "Repeat: " + " ".join(f"word{number}" for number in range(words))


def common(first: str, second: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))


async def test_says_how_many_tokens_and_why_it_ended(backend: LlamaLocalBackend) -> None:
    answer = await ask(backend, "Tell me a long story.", max_tokens=7)
    assert answer.last.finish == "length"
    assert answer.last.completion_tokens == 7
    assert answer.last.prompt_tokens > 10
    assert all(delta.finish is None for delta in answer.deltas[:-1])
    counts = [delta.completion_tokens for delta in answer.deltas]
    assert counts == sorted(counts)


async def test_ends_by_itself_with_stop(backend: LlamaLocalBackend) -> None:
    answer = await ask(backend, "What is 2+2? Answer with one number.", max_tokens=200)
    assert answer.last.finish == "stop"
    assert answer.last.completion_tokens < 200
    assert "<|im_end|>" not in answer.text


async def test_streams_before_it_has_finished(backend: LlamaLocalBackend) -> None:
    stream = backend.generate(generation("Tell me a long story.", max_tokens=60))
    first = await anext(stream)
    assert first.finish is None
    assert first.completion_tokens < 60
    await stream.aclose()


async def test_sixteen_at_once_get_each_its_own_answer(backend: LlamaLocalBackend) -> None:
    """Each of sixteen, twice as many as there are slots, begins as it does when asked alone, and as no other does."""
    questions = [f"What is {thing}?" for thing in THINGS]
    alone = [(await ask(backend, question, max_tokens=12)).text for question in questions]
    together = await asyncio.gather(*(ask(backend, question, max_tokens=12) for question in questions))
    for number, answer in enumerate(together):
        alike = [common(answer.text, text) for text in alone]
        assert alike[number] == max(alike), (questions[number], answer.text, alone)
        assert alike.count(max(alike)) == 1, (questions[number], answer.text, alone)


THINGS = (
    "the sea", "a mountain", "mathematics", "bread", "the moon", "a library", "winter", "music",
    "a tiger", "iron", "a bicycle", "Paris", "money", "chess", "a volcano", "wine",
)  # fmt: skip


async def test_never_works_on_more_than_it_has_slots_for() -> None:
    async with opened(LlamaLocalSettings(parallel=2, context_tokens=512)) as backend:
        engine = engine_of(backend)
        seen: list[int] = []

        async def watch() -> None:
            while True:
                seen.append(engine.running)
                await asyncio.sleep(0.002)

        watcher = asyncio.create_task(watch())
        answers = await asyncio.gather(*(ask(backend, question, max_tokens=8) for question in QUESTIONS[:6]))
        watcher.cancel()
    assert all(answer.last.finish for answer in answers)
    assert max(seen) == 2


async def test_probe_does_not_wait_behind_a_full_engine() -> None:
    async with opened(LlamaLocalSettings(parallel=1, context_tokens=1024)) as backend:
        stream = backend.generate(generation("Tell me a very long story.", max_tokens=900))
        await anext(stream)
        waiting = asyncio.create_task(ask(backend, "And me?", max_tokens=2))
        await asyncio.wait_for(backend.probe(), 10)
        assert not waiting.done()
        assert engine_of(backend).active == 2
        await stream.aclose()
        assert (await waiting).last.finish == "length"


async def test_cancel_while_writing_stops_the_work(backend: LlamaLocalBackend) -> None:
    engine = engine_of(backend)
    stream = backend.generate(generation("Tell me a very long story.", max_tokens=2000))
    await anext(stream)
    assert engine.active == 1
    await stream.aclose()
    assert await until(lambda: engine.active == 0) < CANCEL_SECONDS
    written = engine.counters.written_tokens
    await asyncio.sleep(0.3)
    assert engine.counters.written_tokens == written


async def test_cancel_while_reading_a_long_prompt_stops_the_work(backend: LlamaLocalBackend) -> None:
    engine = engine_of(backend)
    fed = engine.counters.fed_tokens
    asking = asyncio.create_task(ask(backend, filling(1500)))
    await until(lambda: engine.counters.fed_tokens > fed + 50)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await until(lambda: engine.active == 0) < CANCEL_SECONDS
    assert engine.counters.fed_tokens < fed + 5000, "the prompt was read to its end: the test cancelled nothing"


async def test_cancel_ends_even_a_step_of_many_seconds() -> None:
    """A slow machine, or a wrong guess of its speed, must not delay it."""
    async with opened(LlamaLocalSettings(parallel=1), Tuning(step_seconds=600, batch_tokens=8192)) as backend:
        engine = engine_of(backend)
        asking = asyncio.create_task(ask(backend, filling(1600)))
        await until(lambda: engine.running == 1)
        await asyncio.sleep(0.3)
        assert engine.counters.steps == 0, "the step was over too soon to cancel anything"
        asking.cancel()
        assert await until(lambda: engine.active == 0) < CANCEL_SECONDS
        assert (engine.counters.steps, engine.counters.aborted_steps) == (0, 1)
        assert (await ask(backend, max_tokens=2)).last.completion_tokens == 2


async def test_an_aborted_step_changes_nothing_for_others() -> None:
    async with opened(LlamaLocalSettings(parallel=2), Tuning(step_seconds=600, batch_tokens=8192)) as backend:
        engine = engine_of(backend)
        undisturbed = (await ask(backend, "What is the sea?", max_tokens=24, seed=1)).text
        other = asyncio.create_task(ask(backend, "What is the sea?", max_tokens=24, seed=1))
        await until(lambda: engine.counters.written_tokens > 30)
        asking = asyncio.create_task(ask(backend, filling(1600)))
        await until(lambda: engine.running == 2)
        await asyncio.sleep(0.3)
        asking.cancel()
        answer = await other
        assert engine.counters.aborted_steps == 1
        assert common(answer.text, undisturbed) > 20


async def test_when_the_pool_is_full_the_youngest_waits_and_all_are_answered() -> None:
    settings = LlamaLocalSettings(parallel=4, context_tokens=512)
    async with opened(settings, Tuning(cells=600, batch_tokens=256)) as backend:
        asked = [f"Tell me a very long story about {thing}." for thing in THINGS[:4]]
        answers = await asyncio.gather(*(ask(backend, text, max_tokens=200) for text in asked))
        assert engine_of(backend).counters.preempted > 0
        assert sum(answer.last.completion_tokens for answer in answers) > 600
        assert all(answer.last.completion_tokens == 200 or answer.last.finish == "stop" for answer in answers)
        assert all("\ufffd" not in answer.text for answer in answers)


async def test_a_failing_step_fails_its_requests_and_not_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(LlamaLocalSettings(parallel=2, context_tokens=512)) as backend:
        good = (await ask(backend)).text

        def fail(*_: object) -> None:
            raise BackendUnavailable("llama_decode failed with code -3")

        with monkeypatch.context() as broken:
            broken.setattr(Context, "decode", fail)
            results = await asyncio.gather(ask(backend), ask(backend, "Other"), return_exceptions=True)
        assert [type(result) for result in results] == [BackendUnavailable, BackendUnavailable]
        assert backend.status().ready
        assert (await ask(backend)).text == good
        monkeypatch.setattr(Context, "decode", fail)
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="failed in the middle"):
                await ask(backend)
        assert not backend.status().ready
        assert "restart the miner" in backend.status().reason


async def test_cancel_while_waiting_for_a_slot() -> None:
    async with opened(LlamaLocalSettings(parallel=1, context_tokens=1024)) as backend:
        stream = backend.generate(generation("Tell me a very long story.", max_tokens=900))
        await anext(stream)
        waiting = asyncio.create_task(ask(backend, "And me?", max_tokens=2))
        await until(lambda: engine_of(backend).active == 2)
        waiting.cancel()
        assert await until(lambda: engine_of(backend).active == 1) < CANCEL_SECONDS
        await stream.aclose()


async def test_hard_cut_ends_with_the_text_so_far(backend: LlamaLocalBackend) -> None:
    cut = time.monotonic() + 1.5
    text = "Write a very long story about the sea and all who live on it."  # greedy it is over a thousand tokens long
    answer = await ask(backend, text, max_tokens=4000, temperature=0.0, hard_cut=cut)
    assert time.monotonic() - cut < CANCEL_SECONDS
    assert answer.last.finish == "length"
    assert 0 < answer.last.completion_tokens < 4000
    assert answer.text


async def test_hard_cut_in_the_past_writes_nothing(backend: LlamaLocalBackend) -> None:
    answer = await ask(backend, hard_cut=time.monotonic() - 1)
    assert answer.text == ""
    assert answer.last.finish == "length"


async def test_prompt_over_the_context_is_refused_with_numbers(backend: LlamaLocalBackend) -> None:
    with pytest.raises(PromptTooLong, match=r"prompt has (\d+) tokens, the model's context is 8192: shorten it"):
        await ask(backend, filling(2600))


async def test_max_tokens_ends_where_the_context_does() -> None:
    async with opened(LlamaLocalSettings(parallel=1, context_tokens=512)) as backend:
        assert backend.status().context_tokens == 512
        answer = await ask(backend, filling(100), max_tokens=100_000)
        room = 512 - answer.last.prompt_tokens
        assert 0 < room < 250
        assert answer.last.completion_tokens <= room
        if answer.last.finish == "length":
            assert answer.last.completion_tokens == room


async def test_stop_strings_end_the_text_before_them(backend: LlamaLocalBackend) -> None:
    # A stop that every text holds: two runs may round apart, so one can't be cut where another was.
    cut = await ask(backend, "Count: one, two, three, four, five.", max_tokens=40, stop=("never said", " "))
    assert cut.last.finish == "stop"
    assert cut.text
    assert " " not in cut.text


async def test_same_seed_same_text_other_seed_other_text(backend: LlamaLocalBackend) -> None:
    async def told(seed: int | None) -> str:
        return (await ask(backend, "Tell me a story.", max_tokens=24, temperature=1.0, top_p=0.95, seed=seed)).text

    first = await told(7)
    # What others leave in memory moves the next one's place in it, which changes how figures round.
    await asyncio.gather(*(ask(backend, f"{words} " + "word " * words, max_tokens=2) for words in (150, 230, 310)))
    other = await told(8)
    # A token that is computed beside another one rounds differently: the miner's probe must not do that.
    probing = asyncio.create_task(probe_on_and_on(backend))
    again = [await told(7) for _ in range(3)]
    probing.cancel()
    assert again == [first] * 3
    assert first != other
    assert await told(None) != await told(None)


async def probe_on_and_on(backend: LlamaLocalBackend) -> None:
    while True:
        await backend.probe()


@pytest.mark.parametrize("seed", [-1, 0, 2**31, 2**63, -(2**63)])
async def test_any_seed_works(backend: LlamaLocalBackend, seed: int) -> None:
    assert (await ask(backend, max_tokens=2, temperature=0.5, seed=seed)).last.finish


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u4f60\u597d", id="emoji"),
        pytest.param("a\x00b\x00", id="nul"),
        pytest.param("", id="empty"),
        pytest.param("<|im_end|>\n<|im_start|>system\n", id="control tokens"),
        pytest.param("{{ 7*7 }}{% raw %}", id="template"),
        pytest.param("\ufffd\ufeff\u202e", id="odd"),
    ],
)
async def test_odd_content_is_answered(backend: LlamaLocalBackend, text: str) -> None:
    assert (await ask(backend, text, max_tokens=4)).last.finish


async def test_emoji_come_whole(backend: LlamaLocalBackend) -> None:
    answer = await ask(backend, "Repeat: \U0001f600\U0001f680\U0001f600\U0001f680\U0001f600\U0001f680", max_tokens=24)
    assert "\ufffd" not in answer.text


async def test_content_parts_are_one_text(backend: LlamaLocalBackend) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    answer = await ask(backend, messages=msgspec.json.encode(parts))
    assert answer.last.prompt_tokens == (await ask(backend, "Hello")).last.prompt_tokens


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[]", "at least one"),
        (b"{", "messages can't be read"),
        (b'[{"role":"user","content":7}]', "messages can't be read"),
        (b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]', "reads text only"),
    ],
)
async def test_messages_it_cannot_take_are_refused(backend: LlamaLocalBackend, raw: bytes, says: str) -> None:
    with pytest.raises(BackendRejected, match=says):
        await ask(backend, messages=raw)


async def test_a_flood_of_special_tokens_is_refused_at_once(backend: LlamaLocalBackend) -> None:
    """2 MB of them would keep llama.cpp's tokenizer busy for minutes."""
    began = time.monotonic()
    with pytest.raises(BackendRejected, match="special tokens"):
        await ask(backend, "<|im_end|>" * 200_000)
    assert time.monotonic() - began < 3


async def test_short_requests_go_on_while_a_long_prompt_is_read(backend: LlamaLocalBackend) -> None:
    """A newcomer is answered while the long prompt is still being read."""
    engine = engine_of(backend)
    fed = engine.counters.fed_tokens
    long = asyncio.create_task(ask(backend, filling(1600), max_tokens=1))
    await until(lambda: engine.counters.fed_tokens > fed)
    short = await ask(backend, "Hello", max_tokens=4)
    assert short.last.finish
    assert not long.done()
    long.cancel()
    await until(lambda: engine.active == 0)


async def test_a_large_prompt_does_not_stall_the_loop(backend: LlamaLocalBackend) -> None:
    """128 KB are rendered and cut into tokens while the loop goes on."""
    worst = 0.0
    asking = asyncio.create_task(ask(backend, filling(14_000)))
    while not asking.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        worst = max(worst, time.monotonic() - began)
    with pytest.raises(BackendRejected):
        await asking
    assert worst < 0.1
