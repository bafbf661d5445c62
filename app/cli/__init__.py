"""The command line. Data goes to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed, 2 wrong usage, settings or wallet, 3 the miner is not ready or
refuses, no model fits, or the firewall would lock validators out, 130 interrupted; `register` has some of its own.
"""

import sys
from typing import Any, Final, NoReturn, override

import click
from rich_click import RichGroup

from app.cli.alert import alert
from app.cli.challenge import challenge
from app.cli.config import config
from app.cli.doctor import doctor
from app.cli.engine import engine
from app.cli.fiber_post_ip import fiber_post_ip
from app.cli.firewall import firewall
from app.cli.hardware import hardware
from app.cli.history import history
from app.cli.models import models
from app.cli.register import register
from app.cli.serve import serve
from app.cli.status import status
from app.cli.support_bundle import support_bundle
from app.cli.top import top
from app.cli.validators import validators
from app.cli.version import version
from app.errors import ComputeFileError, FirewallRefused, MinerError, NothingFits, SettingsError, WalletError
from app.validator.errors import MinerNotReady, MinerRefused

FAILED: Final = 1
WRONG_SETTINGS: Final = 2
REFUSED: Final = 3
INTERRUPTED: Final = 130


class _Commands(RichGroup):
    """The group of all commands; an interrupt is no failure of theirs."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A miner for Loosh, subnet 78 of Bittensor: it answers validators' encrypted challenges with a language model."""


cli.add_command(serve)
cli.add_command(challenge)
cli.add_command(config)
cli.add_command(doctor)
cli.add_command(firewall)
cli.add_command(models)
cli.add_command(engine)
cli.add_command(hardware)
cli.add_command(register)
cli.add_command(status)
cli.add_command(validators)
cli.add_command(top)
cli.add_command(history)
cli.add_command(alert)
cli.add_command(support_bundle)
cli.add_command(version)


def main() -> NoReturn:
    """Run one command and leave with its exit code."""
    _run(cli, "loosh-miner")


def main_fiber_post_ip() -> NoReturn:
    """Run `fiber-post-ip` and leave with its exit code."""
    _run(fiber_post_ip, "fiber-post-ip")


def _run(command: click.Command, program: str) -> NoReturn:
    """Run it; the one place where an error becomes a line on stderr."""
    try:
        command.main(prog_name=program)
    except MinerError as error:
        _complain(error)
        sys.exit(_exit_code(error))
    except OSError as error:  # a full disk behind stdout, say; a closed pipe is click's business and quiet
        _complain(error)
        sys.exit(FAILED)
    sys.exit(0)


def _exit_code(error: MinerError) -> int:
    match error:
        case SettingsError() | WalletError() | ComputeFileError():
            return WRONG_SETTINGS
        case MinerNotReady() | MinerRefused() | FirewallRefused() | NothingFits():
            return REFUSED
        case _:
            return FAILED


def _complain(error: Exception) -> None:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for line in str(error).splitlines():
        sys.stderr.write(f"{red}loosh-miner: {line}{plain}\n")
