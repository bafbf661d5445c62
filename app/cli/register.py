"""`loosh-miner register`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich_click import RichCommand

from app.cli.common import emit_json, env_file_option

if TYPE_CHECKING:
    from app.cli.registering import Report, Wish

_MOST_SECONDS: Final = 600


@click.command(cls=RichCommand)
@click.option(
    "--address", help="IP address or host name to post; EXTERNAL_ADDRESS, or this machine's own, if not given."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port to post; EXTERNAL_PORT or API_PORT if not given.")
@click.option("--allow-private", is_flag=True, help="Take addresses that only a local test network can reach.")
@click.option("--dry-run", is_flag=True, help="Show all, post nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--watch", is_flag=True, help="For a timer: post only when our address changed or the entry vanished.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, _MOST_SECONDS),
    default=30,
    show_default=True,
    help="Seconds to wait for the chain's answers; four times that until a post is final.",
)
@click.option("--no-probe", is_flag=True, help="Don't see whether a miner answers at the address.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@env_file_option
def register(
    *,
    address: str | None,
    port: int | None,
    allow_private: bool,
    dry_run: bool,
    yes: bool,
    watch: bool,
    timeout: float,
    no_probe: bool,
    as_json: bool,
    env_file: Path | None,
) -> None:
    """Post the miner's address on chain, where validators look for it, and see that it is there.

    The hotkey must be registered on the subnet before (`btcli subnet register`). Posting costs no TAO. The chain takes
    one post in some 10 minutes, and it is final after half a minute.

    Exit codes: 0 the chain holds the address (with --dry-run: nothing speaks against posting it), 1 it does not, and
    the text says why, 2 wrong usage, settings, wallet or address, 3 the hotkey is not registered on the subnet, 4 a
    post was sent and its outcome is not known.
    """
    from app.cli.registering import Wish  # noqa: PLC0415 - keeps --help quick

    wish = Wish(
        address=address,
        port=port,
        allow_private=allow_private,
        dry_run=dry_run,
        watch=watch,
        timeout=timeout,
        probe=not no_probe,
        env_file=env_file,
    )
    carry_out(wish, sure=yes or watch, as_json=as_json)


def carry_out(wish: "Wish", *, sure: bool, as_json: bool) -> None:
    """Do it, show it, and leave with the exit code; `fiber-post-ip` does so too."""
    from app.cli.registering import Registering  # noqa: PLC0415 - keeps --help quick

    run = Registering(wish, show=_show_nothing if as_json else _show, ask=lambda: sure or _ask(as_json=as_json))
    report = run.run()
    if as_json:
        emit_json(report)
    _complain(report)
    sys.exit(report.exit_code)


def _show(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _show_nothing(_lines: Iterator[str]) -> None:
    """The JSON object says it all, at the end."""


def _complain(report: "Report") -> None:
    if report.error is not None:
        sys.stderr.write(f"loosh-miner: {report.error.cause}: {report.error.remedy}\n")


def _ask(*, as_json: bool) -> bool | None:
    """Ask the person at the terminal; None where there is none, or where a program reads along."""
    return None if as_json or not sys.stdin.isatty() else click.confirm("post this?", err=True)
