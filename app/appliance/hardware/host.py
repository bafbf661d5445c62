"""The host: processors, RAM, the disk for weights, the operating system, all read from the kernel's files."""

import os
import platform
import re
from pathlib import Path
from typing import Final, Literal

from app.domain.compute.hardware import Disk, Memory, Os, Processor

_KIB: Final = 1024
_ISA: Final = frozenset(
    {
        *("avx", "avx2", "avx512_bf16", "avx512_vnni", "avx512bw", "avx512f", "avx_vnni", "amx_bf16", "amx_int8"),
        *("f16c", "fma", "asimd", "asimddp", "bf16", "i8mm", "sve"),
    }
)
_UNLIMITED: Final = "max"


def read_cpu(root: Path = Path("/")) -> Processor:
    """Read the processors. Errors: `OSError`, `ValueError`."""
    text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    nodes = [path for path in (root / "sys/devices/system/node").glob("node*") if path.name[4:].isdecimal()]
    return Processor(
        model=model[1].strip() if model else "",
        architecture=platform.machine(),
        cores=_cores(root),
        threads=max(1, len(os.sched_getaffinity(0))),
        isa=tuple(sorted(_ISA.intersection(flags[1].split()))) if flags else (),
        numa_nodes=len(nodes) or None,
    )


def _cores(root: Path) -> int | None:
    """Count physical cores: threads that share one name the same siblings."""
    siblings = {
        path.read_text().strip()
        for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    }
    return len(siblings) or None


def read_memory(root: Path = Path("/")) -> Memory:
    """Read RAM and swap, and the container's limit, if it is less. Errors: `OSError`, `ValueError`, `KeyError`."""
    sizes = {
        name: int(size) * _KIB
        for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    }
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    limit = _limit(root)
    if limit is not None and limit < total:
        total, available = limit, min(available, limit)
    return Memory(total=total, available=available, swap=sizes["SwapTotal"])


def _limit(root: Path) -> int | None:
    """Read the least memory.max of this process's cgroup and those above it."""
    groups = root / "sys/fs/cgroup"
    limits: list[int] = []
    try:
        own = re.search(r"^0::/(.*)$", (root / "proc/self/cgroup").read_text(), re.MULTILINE)
        place = groups / (own[1] if own else "")
        for folder in (place, *place.parents):
            file = folder / "memory.max"
            if not folder.is_relative_to(groups):
                break
            if file.is_file() and (text := file.read_text().strip()) != _UNLIMITED:
                limits.append(int(text))
    except (OSError, ValueError):
        return None
    return min(limits, default=None)


def read_disk(folder: Path, root: Path = Path("/")) -> Disk:
    """Read the file system that `folder` is on, or will be. Errors: `OSError`."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    status = os.statvfs(there)
    return Disk(
        path=str(folder),
        total=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        kind=_kind(there.stat().st_dev, root),
    )


def _kind(device: int, root: Path) -> Literal["ssd", "disk"] | None:
    block = root / "sys/dev/block" / f"{os.major(device)}:{os.minor(device)}"
    for folder in (block, block / ".."):  # a partition's queue is that of its disk
        try:
            return "disk" if (folder / "queue/rotational").read_text().strip() == "1" else "ssd"
        except OSError:
            continue
    return None


def read_os(root: Path = Path("/")) -> Os:
    """Read the operating system's name. Errors: `OSError`."""
    release = platform.freedesktop_os_release() if root == Path("/") else {}
    return Os(
        id=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        name=release.get("PRETTY_NAME", ""),
        kernel=platform.release(),
    )
