"""What `top` draws: the dashboard's figures in a terminal of any width."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.admin_client import NoMiner
from app.cli.asking import printable
from app.domain.ages import ago, duration
from app.domain.overview import Overview, State, more_alarms
from app.domain.recent import CellReport, Level
from app.metrics import Outcome

_EVERY_SECONDS: Final = 2.0
_PIPE_WIDTH: Final = 120
_ROWS: Final = 10
_HALF_HOUR_CELLS: Final = 6
_STATES: Final[dict[State, str]] = {
    "ready": "bold white on green4",
    "degraded": "bold black on yellow3",
    "draining": "bold white on blue",
    "down": "bold white on red3",
}
_LEVELS: Final[dict[Level, tuple[str, str]]] = {
    "idle": ("\N{MIDDLE DOT}", "dim"),
    "good": ("\N{FULL BLOCK}", "green"),
    "mixed": ("\N{LOWER HALF BLOCK}", "yellow"),
    "bad": ("\N{LOWER ONE EIGHTH BLOCK}", "red"),
}
_WORST_FIRST: Final[tuple[Level, ...]] = ("bad", "mixed", "good", "idle")
_OUTCOMES: Final[dict[Outcome, str]] = {
    "ok": "green",
    "cut": "yellow",
    "late": "red",
    "refused": "yellow",
    "failed": "red",
    "gone": "dim",
}


def show(overview: Overview) -> None:
    """Write it once, to stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: rows stay whole
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(_screen(overview))


def watch(overview: Overview, ask: Callable[[], Overview]) -> None:
    """Draw again and again until interrupted; a miner that goes away is said, and waited for."""
    with Live(_screen(overview), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_SECONDS)
            try:
                overview = ask()
                live.update(_screen(overview), refresh=True)
            except NoMiner as missing:
                live.update(Group(Text(printable(str(missing)), "bold red"), _screen(overview)), refresh=True)


def _screen(overview: Overview) -> RenderableType:
    return Group(*_banner(overview), Text(), _facts(overview), Text(), *_day(overview), Text(), *_tables(overview))


def _banner(overview: Overview) -> Iterator[Text]:
    banner = overview.banner
    reason = f" {printable(banner.reason)}" if banner.reason else ""
    yield Text.assemble((f" {banner.state.upper()} ", _STATES[banner.state]), reason)
    if banner.command:
        yield Text.assemble(("type: ", "dim"), (printable(banner.command), "bold"))
    for alarm in more_alarms(overview.health):
        yield Text(f"! {printable(alarm.text)}", "yellow")
    for warning in overview.health.warnings:
        yield Text(f"warning: {printable(warning)}", "dim")


def _facts(overview: Overview) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(overview):
        table.add_row(Text(name, "dim"), Text(printable(value)))
    return table


def _rows(overview: Overview) -> Iterator[tuple[str, str]]:
    health, hour = overview.health, overview.hour
    chain = health.chain
    place = "development mode" if chain is None else "not registered" if chain.uid is None else f"UID {chain.uid}"
    yield "miner", f"{health.hotkey}, {place}, netuid {overview.netuid}, {health.version}"
    axon = "" if chain is None or chain.axon is None else f", axon {chain.axon}"
    yield "up", f"{duration(health.uptime_seconds)}, last answer {ago(health.last_answer.age_seconds)}{axon}"
    counts = [f"{hour.outcomes.get(name, 0)} {name}" for name in ("ok", "cut", "late", "refused", "failed")]
    yield "last hour", ", ".join(counts)
    yield "answers", f"p50 {_secs(hour.p50)}, p95 {_secs(hour.p95)}, first token {_secs(hour.first_token_p50)}"
    busy = health.admission
    rate = f", {overview.tokens_per_second:.1f} tokens/s" if overview.tokens_per_second else ""
    yield "now", f"{busy.running} of {busy.slots} slots, {busy.queued} of {busy.queue_limit} waiting{rate}"
    backend = health.backend
    state = "answers" if backend.ready else backend.reason
    yield "engine", f"{backend.model or 'model not known'}, {backend.context_tokens} tokens, {state}"
    for gpu in () if overview.gpus is None else overview.gpus.gpus:
        yield f"GPU {gpu.index}", f"{gpu.name}, {gpu.utilisation}%, {gpu.temperature} C, {gpu.power} W"
    lists = ", ".join(f"{one.source} {ago(one.age_seconds)}" for one in health.allow_list)
    yield "validators", f"{health.validators} named" + (f" ({lists})" if lists else "")
    yield "refusals", ", ".join(f"{name} {count}" for name, count in overview.security.items() if count) or "none"


def _day(overview: Overview) -> Iterator[Text]:
    cells = overview.cells
    bar = Text("24 h ", "dim")
    for at in range(0, len(cells), _HALF_HOUR_CELLS):
        bar.append(*_LEVELS[_worst(cells[at : at + _HALF_HOUR_CELLS])])
    bar.append(" now, half an hour each", "dim")
    yield bar


def _worst(cells: tuple[CellReport, ...]) -> Level:
    found = {cell.level for cell in cells}
    for level in _WORST_FIRST:
        if level in found:
            return level
    return "idle"


def _tables(overview: Overview) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False)
    for name in ("time (UTC)", "outcome", "seconds", "tokens", "validator", "why"):
        table.add_column(name, justify="right" if name in {"seconds", "tokens"} else "left", no_wrap=True)
    for one in overview.last[:_ROWS]:
        answered = one.seconds is not None
        table.add_row(
            datetime.fromtimestamp(one.at, UTC).strftime("%H:%M:%S"),
            Text(one.outcome, _OUTCOMES[one.outcome]),
            _secs(one.seconds) if answered else "",
            f"{one.prompt_tokens} > {one.completion_tokens}" if answered else "",
            Text(printable(one.hotkey)),
            Text(printable(one.reason)),
        )
    yield table if overview.last else Text("no challenges yet", "dim")


def _secs(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
