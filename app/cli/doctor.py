"""`loosh-miner doctor`: what is wrong, and what to type."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click
from rich_click import RichCommand

from app.cli.common import emit, emit_json, env_file_option
from app.cli.machine_options import lock_option

if TYPE_CHECKING:
    from app.doctor.check import Report

EXIT_CODES: Final = {"ok": 0, "warning": 4, "failed": 1}


@click.command(cls=RichCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--only", multiple=True, metavar="CODE", help="Only this check or section; may be given several times.")
@click.option("--hardware", metavar="FILE", help="Judge a recorded machine: a file, or the name of a shipped one.")
@click.option("--list", "as_list", is_flag=True, help="Name all checks, look at nothing.")
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.prom",
    help="Also write the findings as metrics, for node_exporter's textfile collector.",
)
@lock_option
@env_file_option
def doctor(
    *,
    as_json: bool,
    as_list: bool,
    only: tuple[str, ...],
    hardware: str | None,
    textfile: Path | None,
    lock: Path | None,
    env_file: Path | None,
) -> None:
    """Look at everything a miner needs to earn, in ten seconds; each fault comes with its remedy.

    Exit codes: 0 well, 1 something failed, 2 wrong usage, 4 warnings only.
    """
    from app.cli.examining import list_checks, run_doctor  # noqa: PLC0415 - keeps --help quick: HTTP client, crypto, NVML

    if as_list:
        emit(list_checks())
        return
    report = run_doctor(only, hardware, lock, env_file)
    if textfile is not None:
        _write(textfile, report)
    if as_json:
        emit_json(report)
    else:
        _show(report)
    _leave(EXIT_CODES[report.status])


def _leave(code: int) -> NoReturn:
    """End the process as it is: at a usual end Python waits for every thread, and one may hang in a dead driver."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _show(report: "Report") -> None:
    from app.cli.doctor_screen import show  # noqa: PLC0415 - rich is only wanted here

    show(report)


def _write(textfile: Path, report: "Report") -> None:
    from app.appliance.textfile import write_textfile  # noqa: PLC0415 - keeps --help quick
    from app.doctor.exposition import report_metrics  # noqa: PLC0415 - same

    write_textfile(textfile, report_metrics(report))
