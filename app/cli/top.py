"""`loosh-miner top`."""

import sys
from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import emit_json, env_file_option, load_settings

_NOT_READY = 3


@click.command(cls=RichCommand)
@click.option("--once", is_flag=True, help="Show it once and end; also what happens where stdout is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, once.")
@env_file_option
def top(*, env_file: Path | None, once: bool, as_json: bool) -> None:
    """Watch the running miner in the terminal: what the dashboard shows, every two seconds; Ctrl-C ends it.

    Exit codes: 0 done (with --once or --json: ready), 1 no miner runs here, 2 wrong usage or settings, 3 with --once or
    --json: it runs and is not ready.
    """
    from app.admin_client import ask_miner  # noqa: PLC0415 - keeps --help quick
    from app.cli.top_screen import show, watch  # noqa: PLC0415 - the same
    from app.domain.overview import Overview  # noqa: PLC0415 - the same

    port = load_settings(env_file).settings.admin_port
    overview = ask_miner(port, "/overview", Overview)
    if not (once or as_json) and sys.stdout.isatty():
        watch(overview, lambda: ask_miner(port, "/overview", Overview))
        return
    if as_json:
        emit_json(overview)
    else:
        show(overview)
    sys.exit(0 if overview.health.ready else _NOT_READY)
