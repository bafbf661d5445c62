"""How many threads llama.cpp should use, and how many just now."""

import os
import time
from pathlib import Path
from typing import Final

_TOPOLOGY: Final = Path("/sys/devices/system/cpu")
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
_STAT: Final = Path("/proc/stat")
_LOADAVG: Final = Path("/proc/loadavg")
_LOOK_EVERY: Final = 0.2
_STALE: Final = 2.0
_TOLERANCE: Final = 0.5
"""The part of a core that others may use before it counts as taken."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_IDLE_COLUMNS: Final = frozenset({3, 4, 8, 9})
"""idle, iowait; and guest times, which are in user and nice already."""


def physical_cores() -> int:
    """Cores this process may use, siblings of one core counted once, and no more than a container's quota."""
    cores = {_core(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota(len(cores))))


class MachineLoad:
    """What others do with the CPUs this process may use."""

    def __init__(self) -> None:
        self.cpus = len(os.sched_getaffinity(0))

    def seconds_of_others(self) -> float:
        """CPU seconds that other processes, and other machines on the same host, have taken since the boot."""
        ours = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
        ticks = 0
        try:
            with _STAT.open() as stat:
                for line in stat:
                    name, *columns = line.split()
                    if name in ours:
                        ticks += sum(int(value) for at, value in enumerate(columns) if at not in _IDLE_COLUMNS)
                    elif not name.startswith("cpu"):
                        break
        except OSError:  # not shown here: nobody else is seen
            return 0.0
        return ticks / _TICKS - time.process_time()

    def running_others(self) -> int:
        """Threads that want a CPU at this very moment, but for the one that asks."""
        try:
            return int(_LOADAVG.read_text().split()[3].split("/")[0]) - 1
        except OSError:
            return 0


class ThreadGovernor:
    """Gives up a core that another process uses.

    llama.cpp's threads wait for each other, spinning, about a thousand times in a step. Where one of them has to
    share its core, the others spin through its time slices: with two threads on two cores that compilers use as
    well, a step was seen to take fifty times as long, and with one thread twice as long.
    """

    def __init__(self, most: int, load: MachineLoad | None = None) -> None:
        self._most = most
        self._load = load or MachineLoad()
        self._looked = float("-inf")
        self._seconds = 0.0
        self.threads = most

    def look(self, now: float) -> int:
        """The threads for the next step; looks at the machine now and then."""
        passed = now - self._looked
        if self._most == 1 or passed < _LOOK_EVERY:
            return self.threads
        seconds = self._load.seconds_of_others()
        if passed < _STALE:
            taken = (seconds - self._seconds) / passed - _TOLERANCE
        else:  # after a rest there is no recent figure: a guess, put right at the next look
            taken = float(self._load.running_others())
        self.threads = max(1, min(self._most, int(self._load.cpus - taken)))
        self._looked, self._seconds = now, seconds
        return self.threads


def _core(cpu: int) -> tuple[str, str]:
    topology = _TOPOLOGY / f"cpu{cpu}" / "topology"
    try:
        return (topology / "physical_package_id").read_text().strip(), (topology / "core_id").read_text().strip()
    except OSError:  # not shown in some containers: every CPU counts as a core then
        return "cpu", str(cpu)


def _quota(cores: int) -> int:
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores
