"""Slots, queue and fairness (design decision 10, threat 2)."""

import asyncio
import random

import pytest

from app.clock import SystemClock
from app.domain.admission import Admission, Rank
from app.domain.deadline import Deadline
from app.errors import Unavailable
from tests.domain.hand_clock import HandClock


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


async def _enter(admission: Admission, owner: str, rank: Rank = Rank.VALIDATOR) -> None:
    async with admission.slot(_deadline(120), owner, rank):
        await asyncio.sleep(0)


async def _hold(admission: Admission, owner: str, rank: Rank, release: asyncio.Event, order: list[str]) -> None:
    async with admission.slot(_deadline(), owner, rank):
        order.append(owner)
        await release.wait()


@pytest.mark.parametrize("slots", [1, 2, 4])
async def test_the_operator_never_takes_the_last_slot_of_two_or_more(slots: int) -> None:
    admission = Admission(slots, 10, SystemClock())
    release, order = asyncio.Event(), list[str]()
    chats = [asyncio.create_task(_hold(admission, "chat", Rank.OPERATOR, release, order)) for _ in range(slots + 1)]
    await asyncio.sleep(0)
    assert admission.running == max(1, slots - 1)
    if slots > 1:
        validator = asyncio.create_task(_hold(admission, "v", Rank.VALIDATOR, release, order))
        await asyncio.sleep(0)
        assert order[-1] == "v", "a validator need not even wait"
        chats.append(validator)
    release.set()
    await asyncio.gather(*chats)
    assert admission.in_flight == 0


async def test_a_validator_that_waits_goes_before_all_of_the_operators_requests() -> None:
    admission = Admission(1, 10, SystemClock())
    release, order = asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(_hold(admission, f"chat {at}", Rank.OPERATOR, release, order)) for at in range(3)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(_hold(admission, f"v {at}", Rank.VALIDATOR, release, order)) for at in range(2)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*tasks)
    assert order == ["chat 0", "v 0", "v 1", "chat 1", "chat 2"]


async def test_a_queue_full_of_the_operators_requests_makes_room_for_validators_only() -> None:
    admission = Admission(1, 2, SystemClock())
    release, order = asyncio.Event(), list[str]()
    chats = [asyncio.create_task(_hold(admission, f"chat {at}", Rank.OPERATOR, release, order)) for at in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await _hold(admission, "another chat", Rank.OPERATOR, release, order)
    assert refused.value.reason == "queue_full"
    validators = [asyncio.create_task(_hold(admission, f"v {at}", Rank.VALIDATOR, release, order)) for at in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await _hold(admission, "chat at last", Rank.OPERATOR, release, order)
    release.set()
    results = await asyncio.gather(*chats, *validators, return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [False, True, True, False, False]
    assert order == ["chat 0", "v 0", "v 1"]


async def test_how_long_the_operators_requests_take_says_nothing_about_challenges() -> None:
    clock = HandClock()
    admission = Admission(1, 10, clock)
    async with admission.slot(
        Deadline.after(clock.now, soft_stop_seconds=299, hard_cut_seconds=300), "c", Rank.OPERATOR
    ):
        clock.now += 250
    async with admission.slot(_deadline(), "v"):
        assert admission.expected_wait() == 0


async def test_a_newcomer_who_may_run_is_not_turned_away_by_a_full_queue_of_those_who_may_not() -> None:
    admission = Admission(4, 1, SystemClock())
    release, order = asyncio.Event(), list[str]()
    greedy = [asyncio.create_task(_hold(admission, "greedy", Rank.VALIDATOR, release, order)) for _ in range(4)]
    await asyncio.sleep(0)
    assert (admission.running, admission.queued) == (3, 1)
    modest = asyncio.create_task(_hold(admission, "modest", Rank.VALIDATOR, release, order))
    await asyncio.sleep(0)
    assert admission.running == 4
    release.set()
    await asyncio.gather(*greedy, modest)


async def test_in_a_full_queue_a_chat_leaves_before_the_greediest_validator() -> None:
    admission = Admission(1, 4, SystemClock())
    async with admission.slot(_deadline(), "busy"):
        owners = [*("greedy" for _ in range(3)), "chat"]
        ranks = [*(Rank.VALIDATOR for _ in range(3)), Rank.OPERATOR]
        tasks = [asyncio.create_task(_enter(admission, owner, rank)) for owner, rank in zip(owners, ranks, strict=True)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(_enter(admission, "modest")))
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [False, False, False, True, False]


async def test_chats_that_wait_do_not_make_a_validator_wait_longer() -> None:
    clock = HandClock()
    admission = Admission(1, 10, clock)

    def deadline() -> Deadline:
        return Deadline.after(clock.now, soft_stop_seconds=299, hard_cut_seconds=300)

    async with admission.slot(deadline(), "v"):
        clock.now += 20
    async with admission.slot(deadline(), "v"):
        chats = [asyncio.create_task(_enter(admission, "chat", Rank.OPERATOR)) for _ in range(5)]
        await asyncio.sleep(0)
        assert (admission.expected_wait(), admission.expected_wait(Rank.OPERATOR)) == (20, 120)
        for chat in chats:
            chat.cancel()
        await asyncio.gather(*chats, return_exceptions=True)


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
async def test_ranks_hold_whatever_happens(slots: int) -> None:
    """Random arrivals and leavings: a slot stays free of chats, and each chat that ends lets a waiting validator in."""
    rng = random.Random(slots)
    admission = Admission(slots, 6, SystemClock())
    chats = served = 0
    wrong: list[str] = []

    async def ask(name: int, rank: Rank) -> None:
        nonlocal chats, served
        chat = rank is Rank.OPERATOR
        async with admission.slot(_deadline(), "chat" if chat else f"v {name}", rank):
            chats += chat
            if chats > max(1, slots - 1):
                wrong.append(f"{chats} chats run")
            try:
                await asyncio.sleep(rng.uniform(0, 0.003))
            finally:
                chats -= chat
        served += 1
        if admission.running < slots and any(ticket.rank is Rank.VALIDATOR for ticket in admission._waiting):  # pyright: ignore[reportPrivateUsage]
            wrong.append("a validator waits beside a free slot")

    tasks: list[asyncio.Task[None]] = []
    for name in range(300):
        tasks.append(asyncio.create_task(ask(name, rng.choice([Rank.VALIDATOR, Rank.OPERATOR]))))
        if rng.random() < 0.2:
            rng.choice(tasks).cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0, 0.002))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert wrong == []
    assert served > 50
    assert (admission.running, admission.queued, chats) == (0, 0, 0)
