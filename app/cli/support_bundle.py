"""`loosh-miner support-bundle`: one file for whoever helps."""

from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import emit, env_file_option, warn


@click.command(cls=RichCommand, name="support-bundle")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("loosh-miner-support.tar.gz"),
    show_default=True,
    help="Where to write it.",
)
@env_file_option
def support_bundle(*, output: Path, env_file: Path | None) -> None:
    """Pack doctor's report, settings (secrets as ***), versions, logs, metrics and hardware into one tar.gz.

    It holds no keys, no prompts and no answers, but addresses of this machine: look into it before you send it.
    """
    from app.cli.bundling import make_bundle  # noqa: PLC0415 - keeps --help quick: everything is in it

    size, missing = make_bundle(output, env_file)
    warn(*(f"not in it: {line}" for line in missing))
    emit(f"{output}: {size} bytes")
