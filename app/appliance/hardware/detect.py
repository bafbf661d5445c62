"""Detection: all probes at once, each with its own time-out, so that one that hangs costs nothing but its answer."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from app.appliance.hardware.host import read_cpu, read_disk, read_memory, read_os
from app.appliance.hardware.nvidia import ask_nvml, read_xids
from app.domain.compute.hardware import Hardware, Problem

PROBE_SECONDS: Final = 4.0
_SLACK_SECONDS: Final = 0.75
"""NVIDIA's probe ends its child after `PROBE_SECONDS`, which takes a moment."""

type _Probe = Literal["nvidia", "cpu", "memory", "disk", "os"]


class _Running[T]:
    """One probe in a thread that nobody has to wait for."""

    def __init__(self, name: _Probe, look: Callable[[], T]) -> None:
        self.name: _Probe = name
        self._look = look
        self._found: T | None = None
        self._problem = ""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"probe-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._look()
        except (OSError, ValueError, KeyError) as error:
            self._problem = str(error) or type(error).__name__

    def result(self, seconds: float, problems: list[Problem]) -> T | None:
        """What it found in so many seconds from its start; why not goes to `problems`."""
        self._thread.join(max(0.0, self._began + seconds - time.monotonic()))
        if self._thread.is_alive():
            problems.append(Problem(self.name, f"did not answer within {seconds:g} s"))
            return None
        if self._problem:
            problems.append(Problem(self.name, f"could not be read ({self._problem})"))
        return self._found


def detect(models: Path, seconds: float = PROBE_SECONDS) -> Hardware:
    """Look at this machine; `models` is where weights will lie. Takes a little over `seconds` at worst."""
    problems: list[Problem] = []
    nvidia = _Running("nvidia", lambda: ask_nvml(seconds))
    xids = _Running("nvidia", read_xids)
    cpu, memory = _Running("cpu", read_cpu), _Running("memory", read_memory)
    disk, system = _Running("disk", lambda: read_disk(models)), _Running("os", read_os)
    hardware = Hardware(
        cpu=cpu.result(seconds, problems),
        memory=memory.result(seconds, problems),
        disk=disk.result(seconds, problems),
        os=system.result(seconds, problems),
    )
    found = nvidia.result(seconds + _SLACK_SECONDS, problems)
    if found is None:
        return msgspec.structs.replace(hardware, problems=tuple(problems))
    driver, problem = found
    if problem is not None:
        problems.append(problem)
    if driver.gpus:
        driver = msgspec.structs.replace(driver, xids=xids.result(seconds, problems))
    return msgspec.structs.replace(hardware, nvidia=driver, problems=tuple(problems))
