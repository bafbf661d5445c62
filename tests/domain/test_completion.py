"""Completions over an engine made for each test: time, thinking, tool calls, and what happens when it ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec
import pytest

from app.domain.admission import Admission
from app.domain.answering import GenerationDefaults
from app.domain.backend import BackendStatus, Delta, Generation, ToolCallDelta
from app.domain.completion import Completing
from app.domain.completion_request import CompletionRequest
from app.domain.health import Health
from app.domain.journal import Journal
from app.domain.probing import Probing
from app.errors import BackendRejected, BackendUnavailable, ParameterRefused, Unavailable
from app.metrics import Metrics
from tests.domain.hand_clock import HandClock

REQUEST = CompletionRequest(messages=b"[]")


class Engine:
    """Writes the deltas it is given; an exception among them is raised, a function called."""

    def __init__(self, clock: HandClock, *script: Delta | Exception | Callable[[], object]) -> None:
        self.clock = clock
        self.script = script
        self.closed = 0
        self.seen: list[Generation] = []
        self.ready = True

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def status(self) -> BackendStatus:
        return BackendStatus(ready=self.ready, reason="" if self.ready else "out of order", model="m")

    async def probe(self) -> None:
        """Always well."""

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        self.seen.append(generation)
        try:
            for one in self.script:
                if isinstance(one, Exception):
                    raise one
                if isinstance(one, Delta):
                    yield msgspec.structs.replace(one)
                else:
                    one()
                await asyncio.sleep(0)
        finally:
            self.closed += 1


async def _run(work: Callable[[CompletionRequest], Awaitable[object]]) -> None:
    await work(REQUEST)


class Nobody:
    """An allow-list with nobody on it."""

    def problem(self) -> str | None:
        return "nobody may call"


class Parts:
    """Completing with all that it stands on."""

    def __init__(self, *script: Delta | Exception | Callable[[], object]) -> None:
        self.clock = HandClock()
        self.engine = Engine(self.clock, *script)
        self.admission = Admission(2, 4, self.clock)
        probing = Probing(self.engine, self.clock, interval=10, timeout=8, retry=1)
        self.probing = probing
        probing._problem = None  # pyright: ignore[reportPrivateUsage] - as if it had probed
        self.metrics = Metrics()
        health = Health(self.engine, probing, self.admission, Nobody())
        defaults = GenerationDefaults(100, 0.7, 0.95)
        journal = Journal(self.metrics, self.clock)
        self.completing = Completing(self.engine, self.admission, health, journal, defaults, self.clock)

    async def stream(self, request: CompletionRequest = REQUEST) -> list[Delta]:
        async with aclosing(self.completing.stream(request)) as deltas:
            return [delta async for delta in deltas]

    def counted(self, outcome: str) -> bool:
        """Whether just one request ended, and so."""
        lines = [line for line in self.metrics.text().decode().splitlines() if "loosh_completions_total{" in line]
        return lines == [f'loosh_completions_total{{outcome="{outcome}"}} 1.0']

    def idle(self) -> bool:
        """Whether nothing is left running, and the engine was told to stop as often as to start."""
        return self.admission.in_flight == 0 and self.engine.closed == len(self.engine.seen)


def call(index: int, arguments: str = "", *, name: str | None = None, name_id: str | None = None) -> Delta:
    """A delta with a piece of a tool call."""
    return Delta(tool_calls=(ToolCallDelta(index, name_id, name, arguments),))


END = Delta(finish="stop", prompt_tokens=7, completion_tokens=3)


async def test_nobody_on_the_allow_list_is_no_reason_to_refuse_the_operator() -> None:
    parts = Parts(Delta("Hi"), END)
    completed = await parts.completing.complete(REQUEST)
    assert (completed.text, completed.finish, completed.prompt_tokens, completed.completion_tokens) == (
        "Hi",
        "stop",
        7,
        3,
    )
    assert parts.counted("ok")
    assert parts.probing._worked_at == parts.clock.now  # pyright: ignore[reportPrivateUsage]
    assert parts.idle()


async def test_not_ready_is_told_with_its_reason() -> None:
    parts = Parts()
    parts.engine.ready = False
    for work in (parts.completing.complete, parts.stream):
        with pytest.raises(Unavailable, match="out of order"):
            await _run(work)
    assert parts.engine.seen == []


async def test_five_minutes_are_the_end_whatever_the_engine_has() -> None:
    for stream in (False, True):
        parts = Parts(Delta("On and"), Delta(" on", prompt_tokens=7, completion_tokens=2))

        def wait(parts: Parts = parts) -> None:
            parts.clock.now += 301

        parts.engine.script = (*parts.engine.script, wait, *(Delta(" x") for _ in range(3)))
        if stream:
            *rest, last = await parts.stream()
            assert "".join(delta.text for delta in rest) == "On and on x"
            assert last.finish == "length"
            assert last.completion_tokens == 2
        else:
            completed = await parts.completing.complete(REQUEST)
            assert (completed.text, completed.finish) == ("On and on x", "length")
        assert parts.counted("cut")
        assert parts.idle()


async def test_an_engine_that_fails_is_never_half_an_answer() -> None:
    parts = Parts(Delta("On and"), BackendUnavailable("gone"))
    with pytest.raises(Unavailable) as failed:
        await parts.completing.complete(REQUEST)
    assert failed.value.reason == "backend"
    assert parts.probing._wake.is_set(), "the engine is looked after at once"  # pyright: ignore[reportPrivateUsage]
    assert parts.counted("failed")
    assert parts.idle()
    parts = Parts(Delta("On and"))  # ends without saying why
    with pytest.raises(Unavailable):
        await parts.stream()


async def test_what_the_engine_refuses_is_the_requests_fault() -> None:
    parts = Parts(BackendRejected("the prompt fills the context"))
    with pytest.raises(ParameterRefused, match="the prompt fills"):
        await parts.stream()
    assert parts.counted("refused")
    assert parts.idle()


async def test_closing_the_stream_stops_the_engine_and_frees_the_slot() -> None:
    parts = Parts(*(Delta("x") for _ in range(1000)))
    async with aclosing(parts.completing.stream(REQUEST)) as deltas:
        assert (await anext(deltas)).text == "x"
        assert parts.admission.running == 1
    assert parts.idle()
    assert parts.counted("gone")


async def test_being_cancelled_stops_the_engine_and_frees_the_slot() -> None:
    parts = Parts(*(Delta("x") for _ in range(100_000)))
    for work in (parts.completing.complete, parts.stream):
        task = asyncio.create_task(_run(work))
        await asyncio.sleep(0.01)
        assert parts.admission.running == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert parts.idle()


async def test_half_tool_calls_and_thinking_are_left_out_of_a_plain_completion() -> None:
    parts = Parts(
        Delta("<think>hm</think>So: "), call(0, '{"a":1}', name="f"), call(1, '{"b', name="g"), Delta(finish="length")
    )
    completed = await parts.completing.complete(REQUEST)
    assert completed.text == "So: "
    assert [one.function.name for one in completed.tool_calls] == ["f"]


async def test_a_streams_calls_get_an_id_once_and_a_proper_end() -> None:
    parts = Parts(call(0, name="f"), call(0, "{}"), call(1, "{}", name="g", name_id="mine"), END)
    *pieces, last = await parts.stream()
    assert [(piece.tool_calls[0].index, piece.tool_calls[0].id) for piece in pieces] == [
        (0, "call_0"),
        (0, None),
        (1, "mine"),
    ]
    assert last.finish == "tool_calls"
    *_, last = await Parts(call(0, '{"a', name="f"), Delta(finish="length")).stream()
    assert last.finish == "length", "half a call is not a call that was made"


async def test_one_call_is_one_call() -> None:
    script = (call(0, "{}", name="f"), call(1, "{}", name="g"), END)
    request = CompletionRequest(messages=b"[]", one_call=True)
    assert [one.function.name for one in (await Parts(*script).completing.complete(request)).tool_calls] == ["f"]
    streamed = [one.name for delta in await Parts(*script).stream(request) for one in delta.tool_calls]
    assert streamed == ["f"]
    assert len((await Parts(*script).completing.complete(REQUEST)).tool_calls) == 2


async def test_text_held_back_comes_at_the_end_and_counts_are_made_up_for() -> None:
    *pieces, last = await Parts(Delta("1 <"), Delta("t"), Delta(finish="stop")).stream()
    assert ("".join(piece.text for piece in pieces), last.text) == ("1 ", "<t")
    assert (last.finish, last.completion_tokens) == ("stop", 2)
    assert all(piece.text or piece.finish for piece in pieces), "no empty pieces"


async def test_settings_fill_what_is_not_asked_for() -> None:
    parts = Parts(END)
    await parts.completing.complete(REQUEST)
    wanted = CompletionRequest(messages=b"[]", max_tokens=5, temperature=0.0, top_p=0.0, stop=("x",), seed=1)
    await parts.completing.complete(wanted)
    plain, asked = parts.engine.seen
    assert (plain.max_tokens, plain.temperature, plain.top_p, plain.stop, plain.seed) == (100, 0.7, 0.95, (), None)
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.stop, asked.seed) == (5, 0.0, 0.01, ("x",), 1)
    assert plain.hard_cut == parts.clock.now + 300
