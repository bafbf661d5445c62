"""The NVIDIA part: NVML through a child that may hang without harm, and Xid errors from the kernel's log."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from app.appliance.hardware.nvml_child import Answer
from app.domain.compute.hardware import Nvidia, Problem

_KERNEL_LOG: Final = Path("/dev/kmsg")
_RECORD: Final = 8192
"""Bytes of the longest record of the kernel's log."""
_MOST_RECORDS: Final = 200_000
_XID: Final = re.compile(rb"NVRM: Xid \([^)]*\): (\d+)")
_MOST_XIDS: Final = 64
_REAP_SECONDS: Final = 0.5


def ask_nvml(seconds: float, command: tuple[str, ...] | None = None) -> tuple[Nvidia, Problem | None]:
    """Ask NVML; what went wrong is told beside what was read. Never takes much longer than `seconds`."""
    child = subprocess.Popen(  # noqa: S603 - our own module
        command or (sys.executable, "-m", "app.appliance.hardware.nvml_child"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    try:
        raw, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(child)
        return Nvidia(), Problem(
            "nvidia", f"the NVIDIA driver did not answer within {seconds:g} s: it is wedged; reboot, see dmesg for Xid"
        )
    try:
        answer = msgspec.json.decode(raw, type=Answer)
    except msgspec.DecodeError:
        return Nvidia(), Problem("nvidia", f"asking the NVIDIA driver failed (exit status {child.returncode})")
    return answer.nvidia, Problem("nvidia", answer.problem) if answer.problem else None


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kill it, and wait a moment only: a process inside a wedged driver may never end."""
    child.kill()
    if child.stdout is not None:
        child.stdout.close()
    try:
        child.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        # Python would complain of a child left behind, and that is what is wanted here.
        child.returncode = -9


def read_xids(log: Path = _KERNEL_LOG) -> tuple[int, ...] | None:
    """List the Xid errors since the boot, the last ones; None where the kernel's log may not be read."""
    found: list[int] = []
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD)
            except BrokenPipeError:  # records were overwritten meanwhile: the next read goes on after them
                continue
            if not record:
                break
            found += [int(number) for number in _XID.findall(record)]
    except BlockingIOError:  # the end of the log
        pass
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return tuple(found[-_MOST_XIDS:])
