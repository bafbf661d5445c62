"""What several commands share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from app.settings import LoadedSettings

ENV_FILE: Final = Path(".env")


def env_file_option[F: Callable[..., Any]](command: F) -> F:
    """Give a command `--env-file`."""
    return click.option(
        "--env-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read settings from this file; .env in the current directory otherwise, if there is one.",
    )(command)


def load_settings(env_file: Path | None) -> "LoadedSettings":
    """Read this process's settings. Errors: `SettingsError`."""
    from app.settings import load  # noqa: PLC0415 - keeps --help quick

    if env_file is None and ENV_FILE.is_file():
        env_file = ENV_FILE
    return load(os.environ, env_file)


def warn(*lines: str) -> None:
    """Tell the operator something on stderr."""
    for line in lines:
        sys.stderr.write(f"warning: {line}\n")


def emit(text: str) -> None:
    """Write data, whole, before anything else is said."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def emit_json(value: object) -> None:
    """Write data as one JSON object or array."""
    import msgspec  # noqa: PLC0415 - keeps --help quick

    emit(msgspec.json.format(msgspec.json.encode(value)).decode())
