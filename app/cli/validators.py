"""`loosh-miner validators`."""

from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import emit_json, env_file_option, load_settings, warn


@click.command(cls=RichCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@env_file_option
def validators(*, env_file: Path | None, as_json: bool) -> None:
    """List the validators that may call: hotkey, stake, source, address, when last seen, and how far its clock is off.

    Asks the running miner; where none runs, reads the list that it left on disk.
    """
    from app.cli.validators_table import read, show  # noqa: PLC0415 - keeps --help quick

    report, why = read(load_settings(env_file))
    if why:
        warn(why)
    if as_json:
        emit_json(report)
    else:
        show(report)
