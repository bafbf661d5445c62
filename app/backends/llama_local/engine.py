"""A loaded model at work: what other threads may ask of it, and the loop of the thread that does the work."""

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from app.backends.llama_local.bindings import Context, ContextShape, Model, ModelFacts, can_use_gpu, load_library
from app.backends.llama_local.options import LlamaLocalSettings, Tuning
from app.backends.llama_local.order import Order, Piece
from app.backends.llama_local.scheduler import Counters, Scheduler
from app.backends.llama_local.sequence import Sequence
from app.backends.llama_local.threads import physical_cores
from app.errors import BackendUnavailable

_log = structlog.get_logger(__name__)
_FAILURES_IN_A_ROW: Final = 3
_LEAST_CONTEXT: Final = 2048
_CELL_BUDGET: Final = 512 * 1024 * 1024
"""Memory for the context where the operator did not say how much: fits beside a browser on a small laptop."""
_MEMORY_PART: Final = 0.75
_CLOSING: Final = "the miner is stopping"


class Engine:
    """Made, run and freed in one thread; `submit`, `cancel`, `stop` and the properties are for the others."""

    def __init__(
        self, path: Path, settings: LlamaLocalSettings, tuning: Tuning, *, go_on: Callable[[float], bool]
    ) -> None:
        """Load; takes seconds to minutes. `go_on` is told the share loaded, and ends the loading by answering no."""
        load_library()
        self.path: Final = path
        self.model: Final = Model(path, gpu_layers=settings.gpu_layers, go_on=go_on)
        try:
            self.context_tokens, shape = _shape(self.model.facts(), settings, tuning)
            self._context = Context(self.model, shape)
        except BackendUnavailable:
            self.model.close()
            raise
        self._scheduler = Scheduler(self.model, self._context, tuning, parallel=settings.parallel)
        self._inbox: deque[Sequence] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._failed_steps = 0
        self._failed_at = 0
        self.broken = ""
        """Why nothing can be asked of the engine any more; empty while it works."""

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        return self._scheduler.counters

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return self._scheduler.running

    @property
    def active(self) -> int:
        """Requests that are worked on or wait inside the engine."""
        return self.running + self._scheduler.waiting + len(self._inbox)

    def submit(self, order: Order, emit: Callable[[Piece], None]) -> Sequence:
        """Start writing. `emit` is called in the engine's thread; its last piece, and only that, has an `end`."""
        sequence = Sequence(order, emit)
        with self._wake:
            if not self._stopping:
                self._inbox.append(sequence)
                self._wake.notify()
                return sequence
        sequence.finish("failed", _CLOSING)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """Stop working on it before the next step, and at once while its prompt makes the step in flight long."""
        if sequence.end is not None:
            return
        sequence.cancel()
        if self._scheduler.reads(sequence):
            self._context.abort()

    def stop(self) -> None:
        """Let `run` return soon, also out of the middle of a step."""
        with self._wake:
            self._stopping = True
            self._context.abort()
            self._wake.notify()

    def run(self) -> None:
        """Work until `stop`."""
        while self._take_in():
            self._scheduler.advance()

    def recover(self, error: Exception) -> None:
        """A step failed, by llama.cpp or by a bug: its requests hear of it, the next ones start from nothing."""
        steps = self.counters.steps
        self._failed_steps = self._failed_steps + 1 if steps == self._failed_at else 1
        self._failed_at = steps
        _log.error("engine step failed", error=repr(error), in_a_row=self._failed_steps)
        if self._failed_steps >= _FAILURES_IN_A_ROW:
            self.broken = f"the engine fails again and again ({error}): restart the miner"
        self._scheduler.fail_all("the engine failed in the middle of its work")

    def free(self) -> None:
        """End what is left and give the memory back."""
        with self._wake:
            self._stopping = True
            while self._inbox:
                self._scheduler.submit(self._inbox.popleft())
        self._scheduler.fail_all(_CLOSING)
        self._context.close()
        self.model.close()

    def _take_in(self) -> bool:
        """Wait for work; false when it is time to go."""
        with self._wake:
            while not self._stopping and not self._inbox and self._scheduler.idle:
                self._wake.wait()
            while self._inbox:
                self._scheduler.submit(self._inbox.popleft())
            return not self._stopping


def _shape(facts: ModelFacts, settings: LlamaLocalSettings, tuning: Tuning) -> tuple[int, ContextShape]:
    context_tokens, cells = sizes(facts, settings, tuning)
    wanted, memory = cells * facts.cell_bytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > _MEMORY_PART * memory and not (can_use_gpu() and settings.gpu_layers):
        # Linux would hand the memory out, and kill the miner once it is touched.
        raise BackendUnavailable(
            f"a context of {cells} tokens takes {wanted >> 20} MB, this machine has {memory >> 20} MB: "
            "lower LLAMA_CONTEXT or LLAMA_PARALLEL"
        )
    return context_tokens, ContextShape(
        cells=cells,
        sequences=settings.parallel + 1,
        batch_tokens=tuning.batch_tokens,
        threads=settings.threads or physical_cores(),
        shared_cells=tuning.shared_cells,
        flash_attention=tuning.flash_attention,
    )


def sizes(facts: ModelFacts, settings: LlamaLocalSettings, tuning: Tuning) -> tuple[int, int]:
    """One request's context, and the cells of them all.

    Cells are shared by all sequences (`kv_unified`). An equal part for each would either cut a request's context to
    a fraction, or hold `parallel` whole contexts in memory (1.5 GB for eight of SmolLM2's 8192, all touched at the
    start); and llama.cpp splits a step over parts that are not neighbours. With one pool every request may use the
    model's whole context, a common beginning is held once, and memory is bounded: when the pool is full the youngest
    request waits and is read again later. The price is that attention passes over the others' cells; flash attention
    skips them.
    """
    affordable = _CELL_BUDGET // max(1, facts.cell_bytes)
    context = settings.context_tokens or max(_LEAST_CONTEXT, min(facts.context_tokens, affordable))
    if not tuning.shared_cells:
        return context, context * (settings.parallel + 1)
    return context, tuning.cells or max(context, min(context * settings.parallel, affordable)) + tuning.batch_tokens
