"""The tables of `just bench-engine`, and what to know when reading them."""

from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.engine_figures import DISTURBED, Figures, Ratio
from tests.bench.report import coloured, figure

COLUMNS: Final = (
    "tokens/s",
    "first token p50 ms",
    "p95",
    "between tokens p50 ms",
    "p95",
    "rounds",
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run, as `--json` writes it."""

    engine: str
    model: str
    cpus: int
    others: float
    """The largest share of all processors that other processes had in a round."""
    figures: list[Figures]
    ratios: list[Ratio]
    notes: list[str]

    @property
    def left_out(self) -> int:
        """Rounds that others disturbed."""
        return sum(one.disturbed for one in self.figures)


def show(result: Result, console: Console) -> None:
    """Print it."""
    table = Table(title=f"{result.engine}, {result.model}, on {result.cpus} cores: medians")
    table.add_column("at once", justify="right")
    table.add_column("who")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for one in result.figures:
        times = [figure(ms) for ms in (one.first_p50, one.first_p95, one.gap_p50, one.gap_p95)]
        counted = f"{one.rounds - one.disturbed} of {one.rounds}"
        table.add_row(str(one.at_once), one.side, f"{one.rate:.1f}", *times, counted)
    console.print(table)
    if result.ratios:
        console.print(_ratios(result))
    for line in (_load(result), *result.notes):
        console.print(line)


def _ratios(result: Result) -> Table:
    table = Table(title="The engine's tokens/s against others', turn by turn: medians")
    table.add_column("at once", justify="right")
    table.add_column("against")
    for name in ("ratio", "within", "must", "aim", "turns"):
        table.add_column(name, justify="right")
    for one in result.ratios:
        limits = (coloured(one.verdict), figure(one.must), figure(one.aim), str(one.turns))
        table.add_row(str(one.at_once), one.peer, f"{one.value:.2f}", *limits)
    return table


def _load(result: Result) -> str:
    """How far to trust it."""
    most = f"In the worst round other processes took {result.others:.0%} of the machine's processors."
    if not result.left_out:
        return f"{most} No round was disturbed."
    where = [
        f"{one.side} at {one.at_once} (all: none left out)"
        if one.disturbed == one.rounds
        else f"{one.side} at {one.at_once}"
        for one in result.figures
        if one.disturbed
    ]
    left_out = f"{result.left_out} rounds in which they took over {DISTURBED:.0%} are left out: {', '.join(where)}."
    return f"[red]{most} {left_out} For figures to rely on, nothing else may run.[/]"
