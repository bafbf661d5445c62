"""`loosh-miner models`: which models the subnet allows, and which fit this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich_click import RichCommand, RichGroup

from app.cli.common import emit, emit_json, env_file_option, load_settings, warn
from app.cli.machine_options import asked, choice_options
from app.cli.models_pull import pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Column

    from app.appliance.compute.listing import Listing
    from app.appliance.compute.selection import Selection

_PIPE_WIDTH: Final = 120


@click.group(cls=RichGroup, invoke_without_command=True)
@choice_options
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: tiers, models, the choice or the reasons.")
@click.pass_context
def models(context: click.Context, *, env_file: Path | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - typed in asked
    """List the subnet's tiers and models with their fit for this machine."""
    if context.invoked_subcommand is not None:
        return
    from app.appliance.compute.listing import listing  # noqa: PLC0415 - keeps --help quick

    found = listing(_select(env_file, options))
    if as_json:
        emit_json(found)
    else:
        _show(found)


models.add_command(pull)


@models.command(cls=RichCommand)
@click.argument("model", metavar="ID")
@choice_options
@env_file_option
def explain(*, model: str, env_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - typed in asked
    """Show the sum that says whether the model ID fits this machine, and with how much context."""
    from app.appliance.compute.listing import explain as lines  # noqa: PLC0415 - keeps --help quick

    emit("\n".join(lines(_select(env_file, options), model)))


def _select(env_file: Path | None, options: dict[str, Any]) -> "Selection":
    from app.appliance.compute.selection import select  # noqa: PLC0415 - keeps --help quick

    loaded = load_settings(env_file)
    warn(*loaded.warnings)
    return select(loaded, asked(**options))


def _show(found: "Listing") -> None:
    from rich.console import Console  # noqa: PLC0415 - keeps --help quick
    from rich.table import Table  # noqa: PLC0415 - same

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(found.machine, style="bold", soft_wrap=True, highlight=False, markup=False)
    tiers = Table(*_names("tier"), "memory", "capability", "for instance", "context", "here", title="Tiers")
    for tier in found.tiers:
        tiers.add_row(
            tier.tier + (" (retired)" if tier.retired_upstream else ""),
            f"{tier.min_vram_gb:g} GB",
            tier.min_compute_capability,
            tier.recommended_gpu,
            str(tier.max_context),
            "yes" if tier.here else "",
        )
    console.print(tiers)
    listed = Table(*_names("tier", "model"), "licence", "weights", "context", "fits", title=f"With {found.engine}")
    for model in found.models:
        weights = f"{model.weights_gb:g} GB {model.quant}" if model.weights_gb else ""
        fits = "chosen" if model.chosen else "yes" if model.fits else f"no: {model.reason.code if model.reason else ''}"
        listed.add_row(
            model.tier,
            model.id,
            model.licence + (", gated" if model.gated else ""),
            weights,
            str(model.context or ""),
            fits,
            style="green" if model.chosen else "" if model.fits else "dim",
        )
    console.print(listed)
    for line in _answer(found):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _names(*headers: str) -> "Iterator[Column]":
    """Columns of names, which must be read whole to be typed."""
    from rich.table import Column  # noqa: PLC0415 - keeps --help quick

    return (Column(header, no_wrap=True) for header in headers)


def _answer(found: "Listing") -> list[str]:
    from app.appliance.compute.selection import said  # noqa: PLC0415 - keeps --help quick

    if found.chosen is None:
        return [f"nothing fits: {said(reason)}" for reason in found.reasons]
    chosen = found.chosen
    first = f"chosen: {chosen.model} with {chosen.engine}, context {chosen.context}"
    return [first, *(f"note: {note.text}" for note in chosen.notes)]
