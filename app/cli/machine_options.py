"""Options of the commands that look at the machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from app.appliance.compute.selection import Asked


def hardware_option[F: Callable[..., Any]](command: F) -> F:
    """Give a command `--hardware`."""
    return click.option(
        "--hardware",
        metavar="FILE.json",
        help="A recorded machine instead of this one: a file, or a shipped one's name, as h100 or 2xa100-80.",
    )(command)


def lock_option[F: Callable[..., Any]](command: F) -> F:
    """Give a command `--lock`."""
    return click.option(
        "--lock",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The lock of weights; models.lock.json in STATE_DIR otherwise.",
    )(command)


def choice_options[F: Callable[..., Any]](command: F) -> F:
    """Give a command `--hardware`, and what can be said over the settings."""
    command = click.option("--prefer", type=click.Choice(["speed", "quality"]), help="Over MODEL_PREFERENCE.")(command)
    command = click.option("--backend", type=click.Choice(["vllm", "ollama", "llamacpp"]), help="Over LLM_BACKEND.")(
        command
    )
    return hardware_option(lock_option(command))


def asked(
    hardware: str | None,
    backend: Any,  # noqa: ANN401 - checked by click
    prefer: Any,  # noqa: ANN401 - same
    lock: Path | None,
    model: str | None = None,
) -> "Asked":
    """Put the options together."""
    from app.appliance.compute.selection import Asked  # noqa: PLC0415 - keeps --help quick

    return Asked(hardware=hardware, backend=backend, prefer=prefer, lock=lock, model=model)
