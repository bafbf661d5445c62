"""What `doctor` does once its arguments are read."""

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from app.appliance.hardware.recordings import read_recording
from app.cli.common import load_settings
from app.composition_doctor import build_doctor, build_doctor_without_settings
from app.doctor.check import SECTIONS, Report
from app.errors import SettingsError
from app.settings import load


def run_doctor(only: Collection[str], recording: str | None, env_file: Path | None) -> Report:
    """Examine; settings that can't be read are a finding like others.

    Errors: `SettingsError` for a wrong `only`, `ComputeFileError` for a recording that is none.
    """
    if recording is not None:
        read_recording(recording)
    try:
        doctor = build_doctor(load_settings(env_file), recording)
    except SettingsError as error:
        defaults = load({name: os.environ[name] for name in ("HOME",) if name in os.environ}, None)
        doctor = build_doctor_without_settings(defaults, recording, error.problems)
    return asyncio.run(doctor.examine(only))


def list_checks() -> str:
    """Name all checks, as the table in docs/doctor.md; no settings are read."""
    doctor = build_doctor(load({}, None), None)
    lines = ["| code | section | what is looked at |", "|---|---|---|"]
    checks = sorted(doctor.catalogue(), key=lambda check: SECTIONS.index(check.section))
    lines += [f"| `{check.code}` | {check.section} | {check.title} |" for check in checks]
    return "\n".join(lines)
