"""What `doctor` does once its arguments are read."""

import asyncio
import os
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any, Final

from app.appliance.hardware.recordings import read_recording
from app.cli.common import load_settings
from app.composition_doctor import build_doctor, build_doctor_without_settings
from app.doctor.check import SECTIONS, Report
from app.doctor.examination import seconds_left
from app.doctor.process_age import process_age
from app.errors import SettingsError
from app.settings import load

_LET_GO_SECONDS: Final = 0.3


def run_doctor(only: Collection[str], recording: str | None, lock: Path | None, env_file: Path | None) -> Report:
    """Examine; settings that can't be read are a finding like others.

    Threads that hang (a wedged driver, a silent resolver, a dead network file system) may still be there when it comes
    back, and Python waits for them at its end: the caller ends the process by `os._exit`.

    Errors: `SettingsError` for a wrong `only`, `ComputeFileError` for a recording that is none.
    """
    if recording is not None:
        read_recording(recording)
    try:
        doctor = build_doctor(load_settings(env_file), recording, lock)
    except SettingsError as error:
        defaults = load({name: os.environ[name] for name in ("HOME",) if name in os.environ}, None)
        doctor = build_doctor_without_settings(defaults, recording, error.problems)
    return _unwaited(doctor.examine(only, seconds_left(process_age())))


def _unwaited[T](work: Coroutine[Any, Any, T]) -> T:
    """Do it in a loop of its own, as `asyncio.run`, but wait for no thread and hardly for what is left to be ended."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_alone(work))
    finally:
        loop.close()


async def _alone[T](work: Coroutine[Any, Any, T]) -> T:
    """Cancel what it leaves behind: that kills the children which nobody waits for any more."""
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            ended, _ = await asyncio.wait(left, timeout=_LET_GO_SECONDS)
            for task in ended:
                if not task.cancelled():
                    task.exception()  # seen: asyncio would complain of it on stderr


def list_checks() -> str:
    """Name all checks, as the table in docs/doctor.md; no settings are read."""
    doctor = build_doctor(load({}, None), None)
    lines = ["| code | section | what is looked at |", "|---|---|---|"]
    checks = sorted(doctor.catalogue(), key=lambda check: SECTIONS.index(check.section))
    lines += [f"| `{check.code}` | {check.section} | {check.title} |" for check in checks]
    return "\n".join(lines)
