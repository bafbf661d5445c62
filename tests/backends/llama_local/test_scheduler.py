"""The scheduler against a model of llama.cpp's memory: an answer follows from its own tokens, whatever happens."""

import time
from typing import override

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backends.llama_local.bindings import Batch, Context, Model, Outcome
from app.backends.llama_local.options import Tuning
from app.backends.llama_local.order import Order, Piece, Sampling
from app.backends.llama_local.scheduler import Scheduler
from app.backends.llama_local.sequence import Sequence

VOCABULARY = 23
END = 0


def following(tokens: list[int]) -> int:
    """The token this 'model' writes next: every token before it matters, and its place."""
    total = 7
    for token in tokens:
        total = (total * 31 + token + 1) % 10_007
    return total % VOCABULARY


def answer_to(prompt: list[int], most: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) - len(prompt) < most:
        tokens.append(following(tokens))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


class Vocabulary(Model):
    """Tokens without a file."""

    def __init__(self) -> None:
        pass

    @override
    def piece(self, token: int) -> bytes:
        return b"%d " % token

    @override
    def ends(self, token: int) -> bool:
        return token == END


class Memory(Context):
    """Holds what was fed as llama.cpp does, in cells that sequences may share, and complains where llama.cpp would."""

    def __init__(self, cells: int, outcomes: list[Outcome]) -> None:
        self.cells = cells
        self.threads = 1
        self.kept: dict[int, list[tuple[int, object]]] = {}
        self.outcomes = outcomes
        self.scored: dict[int, list[int]] = {}
        self.scores_made = 0

    @override
    def use_threads(self, threads: int) -> None:
        pass

    @override
    def clear_abort(self) -> None:
        pass

    @override
    def clear(self) -> None:
        self.kept.clear()

    @override
    def forget(self, sequence: int, start: int) -> bool:
        del self.kept.setdefault(sequence, [])[start:]
        return True

    @override
    def share(self, source: int, target: int, end: int) -> None:
        assert not self.kept.get(target)
        assert len(self.kept[source]) >= end
        self.kept[target] = self.kept[source][:end]

    @override
    def decode(self, batch: Batch) -> Outcome:
        native = batch.native()
        fed = [
            (int(native.seq_id[at][0]), int(native.pos[at]), int(native.token[at]), bool(native.logits[at]))
            for at in range(native.n_tokens)
        ]
        assert fed, "an empty step"
        if len({id(cell) for cells in self.kept.values() for _, cell in cells}) + len(fed) > self.cells:
            return "no_space"
        outcome = self.outcomes.pop() if self.outcomes else "ok"
        self.scored = {}
        for at, (sequence, position, token, scored) in enumerate(fed):
            if outcome == "aborted" and at >= len(fed) // 2:
                break
            cells = self.kept.setdefault(sequence, [])
            assert position == len(cells), "a sequence's tokens must follow each other"
            cells.append((token, object()))
            if scored:
                self.scores_made += 1
                self.scored[at] = [token for token, _ in cells]
        return outcome

    @override
    def logits(self, index: int) -> npt.NDArray[np.float32]:
        scores = np.zeros(VOCABULARY, np.float32)
        scores[following(self.scored[index])] = 1
        return scores


BEGINNINGS: tuple[list[int], ...] = ([], [5] * 20, [5] * 20 + [9] * 25)
TAIL = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12)
PROMPTS = st.tuples(st.sampled_from(BEGINNINGS), TAIL).map(lambda parts: [*parts[0], *parts[1]])


class Plan(Order, frozen=True, kw_only=True):
    """An order, with the steps at which it comes and is cancelled."""

    comes: int
    cancelled: int | None = None


PLANS = st.lists(
    st.builds(
        Plan,
        prompt=PROMPTS,
        max_tokens=st.integers(1, 12),
        urgent=st.sampled_from([False, False, False, True]),
        sampling=st.sampled_from([Sampling(), Sampling(seed=1)]),
        comes=st.integers(0, 12),
        cancelled=st.none() | st.integers(0, 20),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    plans=PLANS,
    outcomes=st.lists(st.sampled_from(["ok", "ok", "aborted"]), max_size=12),
    spare=st.integers(0, 120),
    parallel=st.integers(1, 3),
    tuning=st.builds(
        Tuning,
        prefix_reuse=st.booleans(),
        mixed_chunks=st.booleans(),
        idle_cells=st.sampled_from([0, 30, 4096]),
        batch_tokens=st.sampled_from([16, 64]),
    ),
)
def test_every_answer_follows_from_its_own_tokens(
    plans: list[Plan], outcomes: list[Outcome], spare: int, parallel: int, tuning: Tuning
) -> None:
    """With reuse, mixing, aborts, cancels and a pool too small for all."""
    memory = Memory(max(len(plan.prompt) + plan.max_tokens for plan in plans) + spare, outcomes)
    scheduler = Scheduler(Vocabulary(), memory, tuning, parallel=parallel)
    sequences: list[tuple[Plan, Sequence, list[Piece]]] = []
    waiting = list(plans)
    for step in range(500):
        for plan in [plan for plan in waiting if plan.comes <= step]:
            pieces: list[Piece] = []
            sequences.append((plan, Sequence(plan, pieces.append), pieces))
            scheduler.submit(sequences[-1][1])
            waiting.remove(plan)
        for plan, sequence, _ in sequences:
            if plan.cancelled == step:
                sequence.cancel()
        scheduler.advance()
        if not waiting and scheduler.idle:
            break
    assert scheduler.idle, "it never came to an end"
    assert len(sequences) == len(plans)
    for plan, sequence, pieces in sequences:
        written, wanted = sequence.tokens[len(plan.prompt) :], answer_to(plan.prompt, plan.max_tokens)
        assert [piece.end for piece in pieces].count(None) == len(pieces) - 1
        assert pieces[-1].end == sequence.end
        assert written == wanted[: len(written)]
        if sequence.end == "stop":
            assert written[-1] == END
        elif sequence.end == "length":
            assert written == wanted
        else:
            assert sequence.cancelled


def test_a_common_beginning_is_read_once() -> None:
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(), parallel=3)
    beginning = [5] * 40
    for last in (1, 2, 3):
        scheduler.submit(Sequence(Order(prompt=[*beginning, last], max_tokens=3), lambda _: None))
        scheduler.advance()
        scheduler.advance()
    while not scheduler.idle:
        scheduler.advance()
    assert scheduler.counters.reused_tokens == 80


def run(scheduler: Scheduler, orders: list[Order]) -> None:
    for order in orders:
        scheduler.submit(Sequence(order, lambda _: None))
    for _ in range(500):
        if scheduler.idle:
            return
        scheduler.advance()
    raise AssertionError("it never came to an end")


def test_scores_are_made_only_where_a_token_is_picked() -> None:
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(batch_tokens=16), parallel=2)
    run(scheduler, [Order(prompt=[3] * 50 + [last], max_tokens=4) for last in (1, 2)])
    assert memory.scores_made == scheduler.counters.written_tokens


def test_finished_requests_keep_no_more_than_they_may() -> None:
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(idle_cells=60), parallel=4)
    run(scheduler, [Order(prompt=[first] * 40, max_tokens=2) for first in (1, 2, 3, 4)])
    assert 0 < sum(len(cells) for cells in memory.kept.values()) <= 60


def test_who_had_to_leave_comes_back_when_the_other_is_cancelled() -> None:
    memory = Memory(150, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(prefix_reuse=False), parallel=2)
    stays = Sequence(Order(prompt=[15] * 5, max_tokens=100), lambda _: None)
    leaves = Sequence(Order(prompt=[8] * 6, max_tokens=100), lambda _: None)
    for sequence in (stays, leaves):
        assert len(answer_to(sequence.order.prompt, 100)) == 100, "it ends too soon to fill the memory"
        scheduler.submit(sequence)
    while not scheduler.counters.preempted:
        scheduler.advance()
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    stays.cancel()
    run(scheduler, [])
    assert (stays.end, leaves.end) == ("cancelled", "length")


def test_a_seeded_prompt_is_read_in_the_same_parts_however_fast_the_machine() -> None:
    def steps(seed: int | None, step_seconds: float) -> int:
        scheduler = Scheduler(Vocabulary(), Memory(500, []), Tuning(step_seconds=step_seconds), parallel=1)
        run(scheduler, [Order(prompt=[4] * 100, max_tokens=1, sampling=Sampling(seed=seed))])
        return scheduler.counters.steps

    assert steps(1, 0.001) == steps(1, 60) == 4
    assert steps(None, 0.001) > steps(None, 60) == 1


def test_a_seeded_request_that_is_alone_starts_with_an_empty_memory() -> None:
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(), parallel=2)
    run(scheduler, [Order(prompt=[first] * 40, max_tokens=2) for first in (1, 2)])
    assert sum(len(cells) for cells in memory.kept.values()) > 60
    scheduler.submit(Sequence(Order(prompt=[1] * 10, max_tokens=9, sampling=Sampling(seed=1)), lambda _: None))
    scheduler.advance()
    assert sum(len(cells) for cells in memory.kept.values()) == 10


def test_a_probe_leaves_a_seeded_request_undisturbed() -> None:
    """It has a step of its own, whole, and what it leaves in memory is gone before the other's next step."""
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(step_seconds=0.001), parallel=2)
    steps: list[dict[int, int]] = []
    decode = memory.decode

    def watch(batch: Batch) -> Outcome:
        native = batch.native()
        fed = [int(native.seq_id[at][0]) for at in range(native.n_tokens)]
        steps.append({number: fed.count(number) for number in fed})
        assert len({number for number, cells in memory.kept.items() if cells} | set(fed)) <= 2
        return decode(batch)

    memory.decode = watch
    seeded = Sequence(Order(prompt=[1] * 40, max_tokens=30, sampling=Sampling(seed=1)), lambda _: None)
    scheduler.submit(seeded)
    for at in range(20):
        if at in {1, 8}:
            scheduler.submit(Sequence(Order(prompt=[2] * 35, max_tokens=1, urgent=True), lambda _: None))
        scheduler.advance()
    assert all(len(step) == 1 for step in steps), steps
    assert [list(step.values()) for step in steps].count([35]) == 2, steps
    assert [next(iter(step.values())) for step in steps if 0 in step][:3] == [32, 8, 1]
    assert sum(len(cells) for cells in memory.kept.values()) == seeded.fed


def test_a_seeded_request_starts_from_nothing_beside_a_probe_too() -> None:
    memory = Memory(500, ["aborted", "ok"])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(), parallel=2)
    run(scheduler, [Order(prompt=[3] * 40, max_tokens=2)])
    probe = Sequence(Order(prompt=[2] * 35, max_tokens=2, urgent=True), lambda _: None)
    scheduler.submit(probe)
    scheduler.advance()
    assert scheduler.running == 1
    seeded = Sequence(Order(prompt=[1] * 20, max_tokens=2, sampling=Sampling(seed=1)), lambda _: None)
    scheduler.submit(seeded)
    run(scheduler, [])
    for sequence in (probe, seeded):
        wanted = answer_to(sequence.order.prompt, 2)
        assert sequence.tokens[len(sequence.order.prompt) :] == wanted


def test_overdue_orders_end_without_a_step() -> None:
    memory = Memory(500, [])
    scheduler = Scheduler(Vocabulary(), memory, Tuning(), parallel=1)
    pieces: list[Piece] = []
    scheduler.submit(Sequence(Order(prompt=[1], max_tokens=9, hard_cut=time.monotonic() - 1), pieces.append))
    scheduler.advance()
    assert [piece.end for piece in pieces] == ["length"]
    assert scheduler.counters.steps == 0
