"""How many threads llama.cpp should use."""

import os
from pathlib import Path
from typing import Final

_TOPOLOGY: Final = Path("/sys/devices/system/cpu")
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """Cores this process may use, siblings of one core counted once, and no more than a container's quota."""
    allowed = os.sched_getaffinity(0)
    cores = {_core(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(len(cores))))


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
