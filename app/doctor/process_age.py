"""How long ago this process was started, Python's own start included."""

import os
import time
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/self/stat")
_START_FIELD: Final = 19
"""Of those after the name (proc_pid_stat(5), field 22): clock ticks from the boot to the start."""


def process_age() -> float:
    """Give it in seconds; 0.0 where the kernel does not tell."""
    try:
        # The name may hold anything, parentheses too.
        fields = _STAT.read_text("ascii", "replace").rpartition(")")[2].split()
        started = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
