"""`loosh-miner status`."""

import sys
from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import emit_json, env_file_option, load_settings

_NOT_RUNNING = 1
_NOT_READY = 3


@click.command(cls=RichCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: what /health says, and whether a miner runs.")
@env_file_option
def status(*, env_file: Path | None, as_json: bool) -> None:
    """Show how the running miner does: ready or why not, its place on chain, its list, its last answer, its engine.

    Exit codes: 0 ready, 1 no miner runs here, 2 wrong usage or settings, 3 it runs and is not ready.
    """
    from app.admin_client import NoMiner, ask_miner  # noqa: PLC0415 - keeps --help quick
    from app.cli.status_screen import as_object, show  # noqa: PLC0415 - the same
    from app.domain.health_detail import HealthDetail  # noqa: PLC0415 - the same

    port = load_settings(env_file).settings.admin_port
    try:
        health = ask_miner(port, "/health", HealthDetail)
    except NoMiner as missing:
        if not as_json:
            raise
        emit_json({"running": False, "ready": False, "reason": str(missing)})
        sys.exit(_NOT_RUNNING)
    if as_json:
        emit_json(as_object(health))
    else:
        show(health)
    sys.exit(0 if health.ready else _NOT_READY)
