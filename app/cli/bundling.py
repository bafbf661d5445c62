"""What `support-bundle` does once its arguments are read."""

import asyncio
import http.client
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

import msgspec

from app.appliance.compute.selection import Asked, look
from app.chain.wallet import hotkey_path
from app.cli.common import load_settings
from app.composition_doctor import build_doctor
from app.doctor.bundle import write_bundle
from app.errors import MinerError
from app.secret import Secret
from app.settings import LoadedSettings
from app.settings_docs import as_objects

_LOG_BYTES: Final = 2 * 1024 * 1024
_LOG_LINES: Final = "5000"
_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 4 * 1024 * 1024
_UNITS: Final = ("loosh-miner", "vllm", "ollama")


def make_bundle(output: Path, env_file: Path | None) -> tuple[int, list[str]]:
    """Collect and write; gives the size in bytes and what could not be had. Errors: `SettingsError`."""
    loaded = load_settings(env_file)
    parts: dict[str, bytes] = {}
    missing: list[str] = []
    for name, collect in _collectors(loaded):
        try:
            parts[name] = collect()
        except (MinerError, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
            missing.append(f"{name}: {error}")
    parts["missing.txt"] = "\n".join(missing).encode()
    return write_bundle(output, parts, [*_secrets(loaded)]), missing


def _collectors(loaded: LoadedSettings) -> Iterator[tuple[str, Callable[[], bytes]]]:
    settings = loaded.settings
    yield "doctor.json", lambda: _json(asyncio.run(build_doctor(loaded, None).examine(())))
    yield "settings.json", lambda: _json({"settings": as_objects(loaded), "warnings": loaded.warnings})
    yield "versions.json", _versions
    yield "hardware.json", lambda: _json(look(loaded, Asked()))
    yield "health.json", lambda: _ask(settings.admin_port, "/health")
    yield "metrics.txt", lambda: _ask(settings.admin_port, "/metrics")
    if settings.log_file is not None:
        file = settings.log_file
        yield "log.txt", lambda: _end_of(file)
    for unit in _UNITS:
        yield f"journal-{unit}.txt", lambda unit=unit: _journal(unit)


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str))


def _versions() -> bytes:
    found = {dist.name: dist.version for dist in importlib.metadata.distributions()}
    return _json({"python": platform.python_version(), "platform": platform.platform(), **dict(sorted(found.items()))})


def _ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(_ANSWER_BYTES)
    finally:
        connection.close()


def _end_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _LOG_BYTES))
        return opened.read(_LOG_BYTES)


def _journal(unit: str) -> bytes:
    """Give the unit's last lines. Engines can log prompts, so of theirs only what systemd itself says is taken."""
    command = ["journalctl", "--no-pager", "--lines", _LOG_LINES, "--output", "short-iso"]
    own = ("--unit", unit) if unit == _UNITS[0] else ("_PID=1", f"UNIT={unit}.service")
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [*command, *own], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True
    )
    return done.stdout[-_LOG_BYTES:]


def _secrets(loaded: LoadedSettings) -> Iterator[Secret[str]]:
    """Give every secret that this process can know."""
    settings = loaded.settings
    for field in settings.__struct_fields__:
        value = getattr(settings, field)
        if isinstance(value, Secret):
            yield Secret(str(cast("Secret[str]", value).reveal()))
    for file in (settings.state_dir / "admin-token", settings.hotkey_password_file):
        text = _text(file)
        if text:
            yield Secret(text)
    try:
        key = msgspec.json.decode(_text(hotkey_path(settings)) or "{}", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError):
        return
    for name in ("secretSeed", "secretPhrase", "privateKey"):
        if isinstance(value := key.get(name), str):
            yield Secret(value)


def _text(file: Path | None) -> str:
    try:
        return file.read_text("utf-8").strip() if file is not None else ""
    except (OSError, UnicodeError):
        return ""
