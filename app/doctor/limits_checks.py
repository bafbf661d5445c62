"""What the kernel lets the miner and its engine have: open files, processes, locked and shared memory."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.doctor.asked_command import output_of
from app.doctor.check import Check, Verdict, ok, skipped, warning
from app.domain.compute.fit import GIB

_LEAST_FILES: Final = 4096
_LEAST_TASKS: Final = 512
"""The miner has some 30 threads; vLLM and its compiler start hundreds."""
_LEAST_LOCKED: Final = GIB
"""systemd's default is 8 MiB; pinned buffers and NCCL take more, and fail with words about CUDA."""
_LEAST_SHARED: Final = 8 * GIB
_MINER: Final = "loosh-miner"
_LINE: Final = re.compile(r"^Max ([a-z ]+?) {2,}(\d+|unlimited) ", re.MULTILINE)


class LimitsChecks:
    """Looks at the units' processes where they run, else at this one; `engine` is LLM_BACKEND."""

    def __init__(self, engine: str, root: Path = Path("/")) -> None:
        self._engine = engine
        self._root = root

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(code="open-files", section="limits", title="How many files may be open", look=self._open_files),
            Check(code="processes", section="limits", title="How many threads may be started", look=self._processes),
            Check(code="memory-lock", section="limits", title="vLLM may lock memory", look=self._memory_lock),
            Check(code="shared-memory", section="limits", title="vLLM has shared memory", look=self._shared_memory),
        )

    async def _open_files(self) -> Verdict:
        pid, whose = await self._process(_MINER)
        limits = self._limits(pid)
        if "open files" not in limits:
            return skipped("can't be told")
        most = limits["open files"]
        if most is not None and most < _LEAST_FILES:
            return warning(
                f"{most} for {whose}, so about {most // 2} connections",
                f"ulimit -n {_LEAST_FILES}, or LimitNOFILE={_LEAST_FILES} in the unit",
            )
        return ok(f"{'unlimited' if most is None else most} for {whose}")

    async def _processes(self) -> Verdict:
        pid, whose = await self._process(_MINER)
        # The user's limit does not hold for root; the control group's holds for all.
        own = None if pid is None and os.geteuid() == 0 else self._limits(pid).get("processes")
        room = [each for each in (own, self._room_in_group(pid)) if each is not None]
        if not room:
            return ok(f"unlimited for {whose}")
        if min(room) < _LEAST_TASKS:
            return warning(
                f"{min(room)} more for {whose}", f"ulimit -u {8 * _LEAST_TASKS}, or TasksMax=infinity in the unit"
            )
        return ok(f"{min(room)} for {whose}")

    async def _memory_lock(self) -> Verdict:
        if self._engine != "vllm":
            return skipped("only vLLM locks memory")
        pid, _ = await self._process(self._engine)
        if pid is None:
            return skipped("no unit vllm runs here")
        limits = self._limits(pid)
        if "locked memory" not in limits:
            return skipped("can't be told")
        most = limits["locked memory"]
        if most is not None and most < _LEAST_LOCKED:
            return warning(
                f"{most // 1024} KiB for the unit vllm", "LimitMEMLOCK=infinity in it (`loosh-miner engine render`)"
            )
        return ok("enough for the unit vllm")

    async def _shared_memory(self) -> Verdict:
        if self._engine != "vllm":
            return skipped("only vLLM's processes share memory")
        try:
            status = os.statvfs(self._root / "dev/shm")
        except OSError:
            return skipped("there is no /dev/shm")
        total = status.f_blocks * status.f_frsize
        if total < _LEAST_SHARED:
            return warning(
                f"{total / GIB:.1f} GiB at /dev/shm: vLLM over several GPUs wants {_LEAST_SHARED // GIB}",
                f"mount -o remount,size={_LEAST_SHARED // GIB}G /dev/shm, and a line in /etc/fstab; in a container"
                f" --shm-size={_LEAST_SHARED // GIB}g",
            )
        return ok(f"{total / GIB:.1f} GiB at /dev/shm")

    async def _process(self, unit: str) -> tuple[int | None, str]:
        """Find the unit's process; None is this one. Either is said in words, too."""
        said = await output_of("systemctl", "show", f"{unit}.service", "--property=MainPID", "--value")
        if said.isdecimal() and int(said):
            return int(said), f"the unit {unit}"
        return None, "this shell; a unit has its own"

    def _limits(self, pid: int | None) -> Mapping[str, int | None]:
        """Give the soft limits by the kernel's names; None is unlimited, what is missing could not be read."""
        try:
            text = self._file(pid, "limits").read_text("ascii", "replace")
        except OSError:
            return {}
        return {name: None if most == "unlimited" else int(most) for name, most in _LINE.findall(text)}

    def _room_in_group(self, pid: int | None) -> int | None:
        """Give how many tasks the control groups still take, the tightest of them; None: any number."""
        groups = self._root / "sys/fs/cgroup"
        try:
            own = re.search(r"^0::/(.*)$", self._file(pid, "cgroup").read_text("utf-8", "replace"), re.MULTILINE)
            place = groups / (own[1] if own else "")
            room = [
                int(most) - int((folder / "pids.current").read_text())
                for folder in (place, *place.parents)
                if folder.is_relative_to(groups) and (most := _read(folder / "pids.max")).isdecimal()
            ]
        except (OSError, ValueError):
            return None
        return max(0, min(room)) if room else None

    def _file(self, pid: int | None, name: str) -> Path:
        return self._root / "proc" / ("self" if pid is None else str(pid)) / name


def _read(file: Path) -> str:
    return file.read_text("ascii").strip() if file.is_file() else ""
