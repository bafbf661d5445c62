"""`loosh-miner hardware`: what the miner sees of the machine."""

from pathlib import Path
from typing import Any

import click
from rich_click import RichCommand

from app.cli.common import emit, emit_json, env_file_option, load_settings
from app.cli.machine_options import hardware_option


@click.command(cls=RichCommand)
@hardware_option
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="All of it; this is what --hardware reads elsewhere.")
def hardware(*, env_file: Path | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - typed in Asked
    """Show GPUs, processors, RAM, disk and system as the choice of a model sees them."""
    from app.appliance.compute.listing import machine  # noqa: PLC0415 - keeps --help quick
    from app.appliance.compute.selection import Asked, look  # noqa: PLC0415 - same

    found = look(load_settings(env_file), Asked(**options))
    if as_json:
        emit_json(found)
        return
    problems = [f"{problem.probe}: {problem.text}" for problem in found.problems]
    emit("\n".join([machine(found), *problems]))
