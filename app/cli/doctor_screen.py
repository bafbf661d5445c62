"""How a report looks on a terminal."""

from itertools import groupby
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.doctor.check import Finding, Report

_MARKS: Final = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("-", "dim"),
}
_LAST: Final = {
    "ok": "Well: nothing to do.",
    "warning": "It works; the warnings say what would be better.",
    "failed": "Mend what failed, from top to bottom: what is below often depends on it.",
}


def show(report: Report) -> None:
    """Write it to stdout: a block for each section, the remedy below what is wrong."""
    console = Console(highlight=False, soft_wrap=False)
    for section, findings in groupby(report.findings, lambda finding: finding.section):
        console.print(Text(section, style="bold"))
        console.print(_table(list(findings)))
    console.print(f"{_LAST[report.status]} ({report.seconds:.1f} s)", markup=False)


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=9)
    table.add_column(min_width=18)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.status]
        said = Text(finding.what)
        if finding.fix:
            said.append(f"\n→ {finding.fix}", style="cyan")
        table.add_row(Text(f"  {mark}", style=style), Text(finding.code), said)
    return table
