"""`loosh-miner alert`."""

from pathlib import Path

import click
from rich_click import RichCommand, RichGroup

from app.cli.common import emit, env_file_option, load_settings


@click.group(cls=RichGroup)
def alert() -> None:
    """Alerts to ALERT_WEBHOOK_URL."""


@alert.command(cls=RichCommand)
@env_file_option
def test(*, env_file: Path | None) -> None:
    """Send a test alert, signed as the real ones are.

    Exit codes: 0 it was taken, 1 it was not, 2 wrong usage or settings, ALERT_WEBHOOK_URL not set.
    """
    from app.cli.alerting import send_test  # noqa: PLC0415 - keeps --help quick

    send_test(load_settings(env_file))
    emit("sent, and taken")
