"""`loosh-miner engine`: what the chosen engine is started with."""

from pathlib import Path
from typing import Any

import click
from rich_click import RichCommand, RichGroup

from app.cli.common import emit, env_file_option, load_settings, warn
from app.cli.machine_options import asked, choice_options

_FORMATS = ("env", "systemd", "compose", "nix", "json", "miner")


@click.group(cls=RichGroup)
def engine() -> None:
    """Set up the engine that writes the answers."""


@engine.command(cls=RichCommand)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="env", show_default=True)
@click.option("--model", metavar="ID", help="Over DEFAULT_MODEL.")
@click.option(
    "--listen", metavar="ADDRESS/BITS", help="vLLM's address instead of loopback, with the network that may ask."
)
@choice_options
@env_file_option
def render(*, form: str, env_file: Path | None, listen: str | None, **options: Any) -> None:  # noqa: ANN401 - typed in asked
    """Write what the engine for this machine is started with; `miner` gives the lines for the miner's .env.

    Exit codes: 0 done, 2 wrong settings or files, 3 nothing fits this machine (each reason on stderr).
    """
    from app.appliance.compute.rendering import FORMATS  # noqa: PLC0415 - keeps --help quick
    from app.appliance.compute.selection import select, start_of  # noqa: PLC0415 - same

    loaded = load_settings(env_file)
    warn(*loaded.warnings)
    selection = select(loaded, asked(**options))
    start = start_of(loaded, selection, listen)
    warn(*(note.text for note in start.profile.notes))
    emit(FORMATS[form](start))
