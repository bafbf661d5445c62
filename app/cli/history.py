"""`loosh-miner history`."""

from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import env_file_option, load_settings


@click.command(cls=RichCommand)
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="WHEN",
    help="How far back (90m, 24h, 7d), or from when on (2026-11-23, 2026-11-23T12:00; UTC).",
)
@click.option("--csv", "form", flag_value="csv", help="Comma separated values, with a header.")
@click.option("--json", "form", flag_value="json", help="One JSON array.")
@env_file_option
def history(*, env_file: Path | None, since: str, form: str | None) -> None:
    """List the challenges of up to 30 days: time, validator, tokens, seconds, outcome; never their text.

    Reads what the miner keeps in STATE_DIR, whether one runs or not; the last seconds may still be missing.

    Exit codes: 0 done, 1 what is kept can't be read, 2 wrong usage or settings.
    """
    from app.cli.history_rows import began, write  # noqa: PLC0415 - keeps --help quick

    write(load_settings(env_file).settings.state_dir, began(since), form)
