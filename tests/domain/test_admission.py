"""Slots, queue and fairness (design decision 10, threat 2)."""

import asyncio
import random

import pytest

from app.clock import SystemClock
from app.domain.admission import Admission
from app.domain.deadline import Deadline
from app.errors import Unavailable


def _deadline(seconds: float = 30.0) -> Deadline:
    return Deadline.after(SystemClock().monotonic(), soft_stop_seconds=seconds - 1, hard_cut_seconds=seconds)


async def test_never_more_than_the_slots_run_and_everybody_gets_a_turn() -> None:
    admission = Admission(2, 500, SystemClock())
    most = served = 0

    async def ask(owner: str) -> None:
        nonlocal most, served
        async with admission.slot(_deadline(), owner):
            most = max(most, admission.running)
            await asyncio.sleep(random.uniform(0, 0.003))
            served += 1

    await asyncio.gather(*(ask(f"validator {number % 5}") for number in range(200)))
    assert (most, served) == (2, 200)
    assert (admission.running, admission.queued, admission.in_flight) == (0, 0, 0)


async def test_a_full_queue_refuses_at_once_with_the_time_to_come_back() -> None:
    admission = Admission(1, 1, SystemClock())
    release = asyncio.Event()

    async def hold() -> None:
        async with admission.slot(_deadline(), "a"):
            await release.wait()

    holders = [asyncio.create_task(hold()), asyncio.create_task(hold())]
    await asyncio.sleep(0)
    assert (admission.running, admission.queued) == (1, 1)
    with pytest.raises(Unavailable) as refused:
        async with admission.slot(_deadline(), "a"):
            pass
    assert refused.value.reason == "queue_full"
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    release.set()
    await asyncio.gather(*holders)


async def test_who_cannot_be_served_in_time_is_refused_rather_than_kept() -> None:
    admission = Admission(1, 10, SystemClock())
    async with admission.slot(_deadline(), "a"):
        with pytest.raises(Unavailable) as refused:
            async with admission.slot(_deadline(2.1), "b"):
                pass
    assert refused.value.reason == "no_time"
    assert admission.in_flight == 0


async def test_waiting_ends_when_the_deadline_leaves_no_useful_time() -> None:
    admission = Admission(1, 10, SystemClock())
    async with admission.slot(_deadline(), "a"):
        began = SystemClock().monotonic()
        with pytest.raises(Unavailable):
            async with admission.slot(_deadline(2.3), "b"):
                pass
        assert SystemClock().monotonic() - began >= 0.25
        assert admission.queued == 0


async def test_someone_who_leaves_the_queue_leaves_no_trace() -> None:
    admission = Admission(1, 10, SystemClock())
    async with admission.slot(_deadline(), "a"):
        waiting = asyncio.create_task(_enter(admission, "b"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (admission.running, admission.queued) == (1, 0)
    await _enter(admission, "c")
    assert admission.in_flight == 0


async def test_a_slot_handed_to_someone_who_just_left_is_passed_on() -> None:
    admission = Admission(1, 10, SystemClock())
    async with admission.slot(_deadline(), "a"):
        first, second = (asyncio.create_task(_enter(admission, owner)) for owner in ("b", "c"))
        await asyncio.sleep(0)
    first.cancel()  # the slot is already its own, but it never woke up to see it
    await asyncio.gather(first, return_exceptions=True)
    await second
    assert admission.in_flight == 0


async def test_threat_02_a_flooding_session_leaves_the_others_their_turn() -> None:
    admission = Admission(4, 8, SystemClock())
    stop = asyncio.Event()
    refused = 0

    async def flood() -> None:
        nonlocal refused
        while not stop.is_set():
            try:
                async with admission.slot(_deadline(), "relayed"):
                    await asyncio.sleep(0.02)
            except Unavailable:
                refused += 1
                await asyncio.sleep(0.001)

    flooders = [asyncio.create_task(flood()) for _ in range(40)]
    await asyncio.sleep(0.05)
    waits: list[float] = []
    for _ in range(20):
        began = SystemClock().monotonic()
        async with admission.slot(_deadline(), "honest"):
            waits.append(SystemClock().monotonic() - began)
    stop.set()
    await asyncio.gather(*flooders)
    assert refused
    assert max(waits) < 0.02, "one slot is kept for who runs nothing"


async def test_a_full_queue_makes_room_for_who_waits_less() -> None:
    admission = Admission(1, 4, SystemClock())
    async with admission.slot(_deadline(), "greedy"):
        greedy = [asyncio.create_task(_enter(admission, "greedy")) for _ in range(4)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(_enter(admission, "modest"))
        await asyncio.sleep(0)
        assert admission.queued == 4
    results = await asyncio.gather(*greedy, modest, return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [False, False, False, True, False]


async def test_draining_refuses_the_new_and_finishes_the_accepted() -> None:
    admission = Admission(1, 4, SystemClock())
    async with admission.slot(_deadline(), "a"):
        accepted = asyncio.create_task(_enter(admission, "b"))
        await asyncio.sleep(0)
        admission.drain()
        with pytest.raises(Unavailable) as refused:
            await _enter(admission, "c")
        assert refused.value.reason == "draining"
    await accepted
    admission.resume()
    await _enter(admission, "d")
    assert admission.answered == 3


async def _enter(admission: Admission, owner: str) -> None:
    async with admission.slot(_deadline(), owner):
        await asyncio.sleep(0)
