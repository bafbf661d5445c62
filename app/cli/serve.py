"""`loosh-miner serve`."""

import os
import sys
from pathlib import Path

import click
from rich_click import RichCommand

from app.cli.common import env_file_option, load_settings


@click.command(cls=RichCommand)
@env_file_option
def serve(*, env_file: Path | None) -> None:
    """Run the miner until it is told to stop (SIGTERM or Ctrl-C), then finish the answers in flight."""
    loaded = load_settings(env_file)

    # Litestar, granian and the crypto take most of a second to import: only the miner itself pays for them.
    from app import composition, logs  # noqa: PLC0415
    from app.cli.serve_screen import make_screen  # noqa: PLC0415
    from app.identity import resolve_identity  # noqa: PLC0415

    settings = loaded.settings
    form = logs.resolve_form(settings.log_format, os.environ)
    logs.configure(level=settings.log_level, form=form, file=settings.log_file)
    sys.exit(composition.serve(loaded, resolve_identity(loaded), make_screen(form)))
