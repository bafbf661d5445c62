"""`loosh-miner firewall`: let only validators reach the miner's port."""

import sys
from pathlib import Path
from typing import Any, Literal

import click
from rich_click import RichCommand, RichGroup

from app.cli.common import emit, emit_json, env_file_option, load_settings, warn

_fresh = click.option("--fresh", is_flag=True, help="Ask the chain and the Challenge API now; else the list on disk.")
_allow_private = click.option(
    "--allow-private", is_flag=True, help="Let in published addresses that the internet does not route, too."
)
_force = click.option("--force", is_flag=True, help="Also when most validators would be locked out (never all).")


@click.group(cls=RichGroup)
def firewall() -> None:
    """Let only validators reach the miner's port, by a table of its own in the packet filter (nftables).

    Off unless you apply it, because it can lock validators out: those that have published no address, and those whose
    address changes, until the next `apply`. Run `apply` on a timer. SSH and all other ports are never touched.

    Exit codes: 0 done, 1 it failed (no nft, no root, refused by the kernel), 2 wrong usage or settings,
    3 refused, since validators would be locked out; the rules in force stay as they were.
    """


@firewall.command(cls=RichCommand)
@click.option("--format", "form", type=click.Choice(["nft", "json"]), default="nft", show_default=True)
@_fresh
@_allow_private
@_force
@env_file_option
def export(*, form: Literal["nft", "json"], env_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - for Choice
    """Print the rules that `apply` would load, for `nft -f -` or `nft -j -f -`; nothing is changed."""
    from app.cli.firewalling import Choice, rules, sources  # noqa: PLC0415 - keeps --help quick

    loaded = load_settings(env_file)
    chosen = sources(loaded, Choice(**options))
    warn(*chosen.warnings)
    emit(rules(loaded, chosen, form))


@firewall.command(cls=RichCommand)
@_fresh
@_allow_private
@_force
@click.option("--restore", is_flag=True, help="Load the last good addresses, as at boot: no chain, no list needed.")
@env_file_option
def apply(*, restore: bool, env_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - for Choice
    """Load the rules in one transaction, if they are other than those in force; needs root.

    On any error, and when the list is empty or too old, the rules in force stay as they are.
    """
    from app.cli.firewalling import Choice, apply_sources, last_good, sources  # noqa: PLC0415 - keeps --help quick

    loaded = load_settings(env_file)
    choice = Choice(**options)
    if restore and choice != Choice():
        raise click.UsageError("--restore takes the last good addresses as they are: leave the other options away.")
    chosen = last_good(loaded) if restore else sources(loaded, choice)
    warn(*chosen.warnings)
    emit(apply_sources(loaded, chosen))


@firewall.command(cls=RichCommand)
@env_file_option
def remove(*, env_file: Path | None) -> None:
    """Take the rules away, and forget the last good ones: anybody can reach the port again; needs root."""
    from app.cli.firewalling import take_away  # noqa: PLC0415 - keeps --help quick

    emit(take_away(load_settings(env_file)))


@firewall.command(cls=RichCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@env_file_option
def status(*, as_json: bool, env_file: Path | None) -> None:
    """Say what is in force and what was dropped; needs root.

    Exit codes: 0 the rules are in force as applied, 1 can't be told, 3 they are not, or were changed by hand.
    """
    from app.cli.firewalling import describe, read_status  # noqa: PLC0415 - keeps --help quick

    found = read_status(load_settings(env_file))
    if as_json:
        emit_json(found)
    else:
        emit(describe(found))
    sys.exit(0 if found.good else 3)
