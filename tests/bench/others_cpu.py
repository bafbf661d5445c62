"""What other processes do with the machine's processors while something is measured."""

import os
import time
from typing import Final

import psutil

from tests.miner.process import cpu_seconds

BUSY: Final = ("user", "nice", "system", "irq", "softirq", "steal")
"""Columns of the kernel's account in which a processor was not there for us: `steal` went to other machines."""


class OthersCpu:
    """Counts from its making; this process and all below it are not others."""

    def __init__(self) -> None:
        self._cpus = os.cpu_count() or 1
        self._began = time.perf_counter()
        self._seconds = self._others()

    def seconds(self) -> float:
        """Processor seconds that others had since then."""
        return max(0.0, self._others() - self._seconds)

    def share(self) -> float:
        """The part of all processors that others had since then: 0 is a quiet machine, 1 all of it."""
        passed = time.perf_counter() - self._began
        return min(1.0, self.seconds() / (passed * self._cpus))

    def _others(self) -> float:
        return busy_seconds() - cpu_seconds(os.getpid())


def busy_seconds() -> float:
    """Processor seconds of all since the boot."""
    times = psutil.cpu_times()._asdict()
    return sum(times.get(name, 0.0) for name in BUSY)
