"""The table: what was measured beside what must hold and what is aimed at."""

from typing import Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.floors import Floors

Unit = Literal["ms CPU", "ms", "/s", "MB", "s", "CPU-s"]

REFERENCE_CPU_MS: Final = {
    (10, 1): (3.3, 8, 12),
    (10, 16): (5.0, 10, 15),
    (10, 128): (9.5, 9, 12),
    (1, 1): (3.3, 5, 7),
    (1, 16): (4.3, 6, 9),
    (50, 16): (5.5, 12, 18),
}
"""At once and KiB in: the existing miner's ms of processor time a challenge; must and aim are so many times less."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure."""

    name: str
    value: float
    unit: Unit
    must: float | None = None
    aim: float | None = None
    note: str = ""
    bare: float | None = None
    """The same of the bare stack, measured in the same run (`tests.bench.bare`)."""

    def verdict(self, value: float) -> str:
        """How a value stands against the budget; less is better in all figures that have one."""
        if self.must is None or self.aim is None:
            return ""
        if value <= self.aim:
            return "aim"
        return "must" if value <= self.must else "over"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run, as `--json` writes it."""

    target: str
    floors: Floors
    rows: list[Row]


def challenge_budget(at_once: int, kib: int) -> tuple[float | None, float | None]:
    """Must and aim in ms of processor time."""
    if (at_once, kib) not in REFERENCE_CPU_MS:
        return None, None
    reference, must, aim = REFERENCE_CPU_MS[at_once, kib]
    return reference / must, reference / aim


def figure(value: float | None) -> str:
    """A number with about three digits that count."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def coloured(verdict: str) -> str:
    """The verdict with its colour."""
    colours = {"aim": "green", "must": "yellow", "over": "red", "under": "red"}
    return f"[{colours[verdict]}]{verdict}[/]" if verdict else ""


def show(result: Result, console: Console) -> None:
    """Print the table and what to keep in mind when reading it."""
    table = Table(title=f"What {result.target} costs")
    table.add_column("figure")
    for name in ("measured", "within", "as if there", "within", "must", "aim", "bare", "times bare"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    table.add_column("note")
    floors = result.floors
    for row in result.rows:
        scaled = ("", "")
        if row.unit.endswith(("CPU", "CPU-s")):
            there = row.value / (floors.slower_handshake if "handshake" in row.name else floors.slower)
            scaled = figure(there), coloured(row.verdict(there))
        measured = figure(row.value), coloured(row.verdict(row.value))
        bare = ("", "") if row.bare is None else (figure(row.bare), f"{row.value / row.bare:.2f}")
        table.add_row(row.name, *measured, *scaled, figure(row.must), figure(row.aim), *bare, row.unit, row.note)
    console.print(table)
    console.print(
        f"Floors, ms CPU, this run: RSA-OAEP decrypt {floors.rsa_decrypt:.3f}, sr25519 verify "
        f"{floors.sr25519_verify:.3f}, Fernet open + seal of 2 KB {floors.fernet_1_kib:.3f} / "
        f"{floors.fernet_16_kib:.3f} / {floors.fernet_128_kib:.3f} at 1 / 16 / 128 KB, "
        f"an engine call by aiohttp {floors.aiohttp_call:.3f}."
    )
    console.print(
        "must and aim are absolute, from design.md's reference figures. By the engine call this machine is now "
        f"{floors.slower:.2f} times as slow as the one there, by RSA and sr25519 {floors.slower_handshake:.2f} times; "
        "the column 'as if there' divides by that. For figures to rely on, nothing else may run."
    )
