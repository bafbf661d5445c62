"""`loosh-miner config`: what the settings are, and whether the miner could start with them."""

from pathlib import Path

import click
from rich_click import RichCommand, RichGroup

from app.cli.common import emit, emit_json, env_file_option, load_settings, warn


@click.group(cls=RichGroup)
def config() -> None:
    """Show and check the settings."""


@config.command(cls=RichCommand)
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: value and origin of each setting.")
def show(*, env_file: Path | None, as_json: bool) -> None:
    """Show every setting with its value and where that came from; secrets as ***."""
    from app.settings_docs import as_objects, as_text  # noqa: PLC0415 - keeps --help quick

    loaded = load_settings(env_file)
    warn(*loaded.warnings)
    if as_json:
        emit_json(as_objects(loaded))
    else:
        emit(as_text(loaded))


@config.command(cls=RichCommand)
@env_file_option
def check(*, env_file: Path | None) -> None:
    """Check settings and wallet as the start does, and start nothing."""
    from app.identity import resolve_identity  # noqa: PLC0415 - keeps --help quick

    loaded = load_settings(env_file)
    warn(*loaded.warnings)
    identity = resolve_identity(loaded)
    if identity.development:
        emit("ok: development mode (no wallet: ephemeral hotkey, no chain, loopback only)")
    else:
        emit(f"ok: hotkey {identity.hotkey.ss58}, netuid {loaded.settings.netuid}, {loaded.settings.subtensor_network}")
