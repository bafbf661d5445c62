"""Continuous batching: which tokens go into the next step, and what becomes of its scores.

Runs in the engine's thread only. Requests join and leave between steps; a step holds one token for every request that
is writing and, in what room is left, parts of the prompts that are still being read.
"""

import time
from collections import deque
from typing import Final

import msgspec

from app.backends.llama_local.bindings import Batch, Context, Model
from app.backends.llama_local.options import Tuning
from app.backends.llama_local.order import End
from app.backends.llama_local.pace import Pace
from app.backends.llama_local.sampler import Sampler
from app.backends.llama_local.sequence import Sequence
from app.backends.llama_local.threads import ThreadGovernor

_GROWTH: Final = 64
"""Cells to spare for each running request when another wants to join."""
_WORTH_SHARING: Final = 16
"""A common beginning shorter than this is read again: copying it would gain nothing."""
_EVEN_PART: Final = 32
"""Tokens of a seeded prompt in one step."""


class Counters(msgspec.Struct):
    """What the engine has done so far."""

    steps: int = 0
    aborted_steps: int = 0
    fed_tokens: int = 0
    reused_tokens: int = 0
    written_tokens: int = 0
    preempted: int = 0
    longest_step: float = 0.0


class _Slot:
    """One of the context's sequences, with the tokens in its memory."""

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.kept: list[int] = []
        self.sequence: Sequence | None = None
        self.joined = 0
        self.used = 0.0

    def common(self, tokens: list[int]) -> int:
        """How many tokens of `tokens`, from the first on, this slot has in memory."""
        low, high = 0, min(len(self.kept), len(tokens))
        while low < high:  # halving on slices: compared in C
            middle = (low + high + 1) // 2
            if self.kept[low:middle] == tokens[low:middle]:
                low = middle
            else:
                high = middle - 1
        return low


class Scheduler:
    """The requests of one context."""

    def __init__(self, model: Model, context: Context, tuning: Tuning, *, parallel: int) -> None:
        self._model = model
        self._context = context
        self._batch = Batch(tuning.batch_tokens)
        self._tuning = tuning
        self._parallel = parallel
        self._pace = Pace(tuning.step_seconds)
        self._threads = ThreadGovernor(context.threads)
        # One slot more than requests: it is the urgent ones'.
        self._slots = [_Slot(number) for number in range(parallel + 1)]
        self._waiting: deque[Sequence] = deque()
        self._joined = 0
        self._crowded = False
        self._interlude = False
        """Whether the last step was one for the urgent only."""
        self.counters = Counters()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._busy()

    @property
    def running(self) -> int:
        """Requests in a slot."""
        return len(self._busy())

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    def submit(self, sequence: Sequence) -> None:
        """Take a request in; it joins as soon as there is room."""
        self._waiting.append(sequence)

    def advance(self) -> None:
        """One step for all."""
        self._reap(time.monotonic())
        self._admit()
        if self._busy():
            self._step()

    def fail_all(self, error: str) -> None:
        """End every request, and forget all of the context."""
        for slot in self._slots:
            if slot.sequence is not None:
                slot.sequence.finish("failed", error)
            slot.sequence = None
        while self._waiting:
            self._waiting.popleft().finish("failed", error)
        self._forget_all()

    def reads(self, sequence: Sequence) -> bool:
        """Whether the request has a slot and its prompt is still being read."""
        return sequence.unread > 1 and any(slot.sequence is sequence for slot in self._slots)

    def _busy(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.sequence is not None]

    def _ordinary(self) -> list[_Slot]:
        return [slot for slot in self._busy() if slot.sequence is not None and not slot.sequence.order.urgent]

    # Joining and leaving

    def _reap(self, now: float) -> None:
        for slot in self._slots:
            if slot.sequence is not None and (end := slot.sequence.overdue(now)):
                self._leave(slot, end)
        if any(sequence.overdue(now) for sequence in self._waiting):
            waiting, self._waiting = self._waiting, deque()
            for sequence in waiting:
                if end := sequence.overdue(now):
                    sequence.finish(end)
                else:
                    self._waiting.append(sequence)

    def _admit(self) -> None:
        if self._crowded and self._busy():  # what just had to leave must not come back before the others got on
            return
        full = False
        for sequence in tuple(self._waiting):
            if full and not sequence.order.urgent:  # nobody overtakes but the urgent
                continue
            if self._has_room(sequence):
                self._waiting.remove(sequence)
                self._join(sequence)
            else:
                full = True

    def _has_room(self, sequence: Sequence) -> bool:
        busy = self._busy()
        if len(busy) == len(self._slots):
            return False
        if sequence.order.urgent or not busy:
            return True
        if sum(not slot.sequence.order.urgent for slot in busy if slot.sequence) >= self._parallel:
            return False
        wanted = sum(len(slot.sequence.tokens) + _GROWTH for slot in busy if slot.sequence)
        return not self._tuning.shared_cells or wanted + len(sequence.tokens) + _GROWTH <= self._context.cells

    def _join(self, sequence: Sequence) -> None:
        if sequence.order.sampling.seed is not None and not self._ordinary():
            # Where its cells lie changes how attention rounds: a seed promises the same text, so the same place.
            self._forget_all()
            for slot in self._busy():
                self._restart(slot)
        slot, common = self._choose(sequence)
        donor = self._donor(sequence, slot, common)
        if donor is not None:
            common = min(donor.common(sequence.tokens), len(sequence.tokens) - 1)
            self._context.forget(slot.number, 0)
            self._context.share(donor.number, slot.number, common)
        elif not self._context.forget(slot.number, common):
            self._context.forget(slot.number, 0)
            common = 0
        slot.kept = sequence.tokens[:common]
        slot.sequence = sequence
        self._joined += 1
        slot.joined = self._joined
        sequence.fed = common
        if sequence.sampler is None:
            sequence.sampler = Sampler(self._model, sequence.order.sampling)
        self.counters.reused_tokens += common

    def _choose(self, sequence: Sequence) -> tuple[_Slot, int]:
        """The free slot with the longest common beginning; without one, that which was free longest."""
        free = [slot for slot in self._slots if slot.sequence is None]
        last_but_one = len(sequence.tokens) - 1  # the last token is fed in any case: its scores are wanted
        common, slot = max(((self._common(slot, sequence), slot) for slot in free), key=lambda pair: pair[0])
        if common < _WORTH_SHARING:
            return min(free, key=lambda slot: (bool(slot.kept) and sequence.order.urgent, slot.used)), 0
        return slot, min(common, last_but_one)

    def _donor(self, sequence: Sequence, target: _Slot, common: int) -> _Slot | None:
        """Another slot, busy or not, that knows more of the prompt; its cells can be shared without a copy."""
        if not self._tuning.shared_cells:
            return None
        others = [slot for slot in self._slots if slot is not target]
        best, donor = max(((self._common(slot, sequence), slot) for slot in others), key=lambda pair: pair[0])
        return donor if best >= common + _WORTH_SHARING else None

    def _common(self, slot: _Slot, sequence: Sequence) -> int:
        # A seed promises the same text again, and only the same steps round the same way: no reuse there. The urgent
        # leave no trace, see `_turn`.
        order = sequence.order
        reuse = self._tuning.prefix_reuse and order.sampling.seed is None and not order.urgent
        return slot.common(sequence.tokens) if reuse else 0

    def _leave(self, slot: _Slot, end: End) -> None:
        sequence, slot.sequence, slot.used = slot.sequence, None, time.monotonic()
        if sequence is not None:
            sequence.finish(end)
        if not self._tuning.prefix_reuse or (sequence is not None and sequence.order.urgent):
            self._drop(slot)
        idle = sorted((slot for slot in self._slots if slot.sequence is None), key=lambda slot: -slot.used)
        total = 0
        for kept in idle:
            total += len(kept.kept)
            if total > self._tuning.idle_cells:
                self._drop(kept)

    def _forget_all(self) -> None:
        for slot in self._slots:
            slot.kept = []
        self._context.clear()

    def _drop(self, slot: _Slot) -> None:
        self._context.forget(slot.number, 0)
        slot.kept = []

    # A step

    def _step(self) -> None:
        fed, reading, writing = self._compose()
        began = time.monotonic()
        self._context.use_threads(self._threads.look(began))
        outcome = self._context.decode(self._batch)
        seconds = time.monotonic() - began
        if outcome == "no_space":
            self._make_room()
            return
        if outcome == "aborted":
            self.counters.aborted_steps += 1
            self._context.clear_abort()
            self._undo(fed)
            return
        self._crowded = False
        self._pace.observe(reading=reading, writing=writing, seconds=seconds)
        self.counters.steps += 1
        self.counters.fed_tokens += self._batch.size
        self.counters.longest_step = max(self.counters.longest_step, seconds)
        for slot, tokens, last in fed:
            self._take(slot, tokens, last)

    def _compose(self) -> tuple[list[tuple[_Slot, list[int], int]], int, int]:
        """Fill the batch. Returns what each slot is fed with its index in the batch, and the counts of both kinds."""
        self._batch.clear()
        busy = self._turn()
        writers = [(slot, sequence) for slot, sequence in busy if sequence.unread == 1]
        readers = sorted(((s, q) for s, q in busy if q.unread > 1), key=lambda pair: pair[1].unread)
        if readers and not self._tuning.mixed_chunks:
            writers, readers = [], readers[:1]
        fed = [self._feed(slot, sequence, 1) for slot, sequence in writers]
        alone = len(busy) == 1
        for long in (False, True):
            group = [pair for pair in readers if (pair[1].unread > Pace.SHORT) is long]
            room = self._batch.capacity - self._batch.size
            if self._tuning.mixed_chunks:
                room = min(room, self._pace.chunk(generating=bool(writers), long=long))
            fed += self._read(group, room, alone=alone)
        return fed, self._batch.size - len(writers), len(writers)

    def _read(
        self, readers: list[tuple[_Slot, Sequence]], room: int, *, alone: bool
    ) -> list[tuple[_Slot, list[int], int]]:
        """Feed prompts, the shortest first: it writes soonest. Of long ones each gets its part of the room."""
        fed: list[tuple[_Slot, list[int], int]] = []
        for waiting, (slot, sequence) in zip(range(len(readers), 0, -1), readers, strict=True):
            fair = room if sequence.unread <= Pace.SHORT else -(-room // waiting)
            part = min(sequence.unread, fair)
            if alone and (sequence.order.urgent or sequence.order.sampling.seed is not None):
                part = self._even_part(sequence)
            if part > 0:
                fed.append(self._feed(slot, sequence, part))
                room = max(0, room - part)
        return fed

    def _turn(self) -> list[tuple[_Slot, Sequence]]:
        """Whose tokens go into this step.

        An urgent request has steps of its own, by turns with the others'. The probe, which writes one token, comes and
        goes in a single one: when it has gone the memory is as before. So a seeded request that is alone otherwise
        is not disturbed: a token that is computed beside another one rounds differently.
        """
        busy = [(slot, slot.sequence) for slot in self._slots if slot.sequence is not None]
        urgent = [pair for pair in busy if pair[1].order.urgent]
        ordinary = [pair for pair in busy if not pair[1].order.urgent]
        self._interlude = bool(urgent) and not (self._interlude and ordinary)
        return urgent if self._interlude else ordinary

    def _even_part(self, sequence: Sequence) -> int:
        """Read a seeded prompt that is alone in parts that do not hang on how fast the machine is: those round alike.

        An urgent one is short, and read at once.
        """
        most = self._batch.capacity if sequence.order.urgent else _EVEN_PART
        return min(sequence.unread, most, self._batch.capacity - self._batch.size)

    def _feed(self, slot: _Slot, sequence: Sequence, count: int) -> tuple[_Slot, list[int], int]:
        tokens = sequence.tokens[sequence.fed : sequence.fed + count]
        index = self._batch.add(slot.number, sequence.fed, tokens, scored=count == sequence.unread)
        return slot, tokens, index

    def _take(self, slot: _Slot, tokens: list[int], last: int) -> None:
        """The step is done: remember what is in memory, and pick the next token where the prompt's end is reached."""
        sequence = slot.sequence
        if sequence is None or sequence.sampler is None:
            return
        sequence.fed += len(tokens)
        slot.kept.extend(tokens)
        if sequence.unread:
            return
        token = sequence.sampler.pick(self._context.logits(last))
        if token is None:
            self._leave(slot, "stop")
            return
        self.counters.written_tokens += 1
        end = sequence.write(token, self._model.piece(token), last=self._model.ends(token))
        if end is not None:
            self._leave(slot, end)

    def _undo(self, fed: list[tuple[_Slot, list[int], int]]) -> None:
        """An aborted step may have left a part of itself in memory."""
        for slot, _, _ in fed:
            if slot.sequence is not None and not self._context.forget(slot.number, slot.sequence.fed):
                self._restart(slot)

    def _restart(self, slot: _Slot) -> None:
        """Let a request be read again from its beginning."""
        self._drop(slot)
        if slot.sequence is not None:
            slot.sequence.fed = 0

    def _make_room(self) -> None:
        """The pool is full: give up what finished requests left, else let the youngest request wait and start over."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.kept]
        if idle:
            self._drop(min(idle, key=lambda slot: slot.used))
            return
        busy = [(slot, slot.sequence) for slot in self._slots if slot.sequence is not None]
        if len(busy) == 1:
            self._leave(busy[0][0], "length")
            return
        patient = [pair for pair in busy if not pair[1].order.urgent]
        slot, sequence = max(patient if len(patient) > 1 else busy, key=lambda pair: pair[0].joined)
        self._restart(slot)
        slot.sequence = None
        self._waiting.appendleft(sequence)
        self._crowded = True
        self.counters.preempted += 1
