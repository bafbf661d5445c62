"""`loosh-miner version`."""

from typing import Final

import click
from rich_click import RichCommand

from app.cli.common import emit, emit_json

_PARTS: Final = ("bittensor-core", "cryptography", "granian", "litestar", "llama-cpp-python", "msgspec")


@click.command(cls=RichCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def version(*, as_json: bool) -> None:
    """Show the versions of the miner and of what it is made of."""
    import platform  # noqa: PLC0415 - keeps --help quick

    parts = {"loosh-miner": _version("loosh-miner"), "python": platform.python_version()}
    parts |= {part: _version(part) for part in _PARTS}
    if as_json:
        emit_json(parts)
    else:
        emit("\n".join(f"{part} {number or 'not installed'}" for part, number in parts.items()))


def _version(package: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 - keeps --help quick

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
