"""What an operator sees of `serve` on stderr: a screen on a terminal, lines elsewhere, log events for machines."""

import contextlib
from importlib import metadata
from typing import Final, Literal, override

import structlog
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.serve_events import ServeScreen, StartFacts

DEVELOPMENT: Final = (
    "Development mode: ephemeral hotkey, no chain, loopback only:"
    " nobody on the network can reach this miner, nothing is earned."
)
_QUESTION: Final = '"What is a Bittensor subnet?"'
_DEFAULT_URL: Final = "http://127.0.0.1:8000"


def make_screen(form: Literal["console", "json"]) -> ServeScreen:
    """Choose by how the log is written."""
    return EventScreen() if form == "json" else TextScreen(Console(stderr=True))


def next_step(facts: StartFacts) -> str:
    """Say what to type when the miner is ready."""
    if not facts.development:
        return f"curl {facts.admin_url}/health"
    url = "" if facts.api_url == _DEFAULT_URL else f"--url {facts.api_url} "
    return f"./justw challenge {url}{_QUESTION}"


def mode(facts: StartFacts) -> str:
    """Say in plain words what this run is for."""
    if facts.development:
        return DEVELOPMENT
    return f"Mining on netuid {facts.netuid} of {facts.network} with the hotkey {facts.hotkey}."


class TextScreen(ServeScreen):
    """For people."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._facts: StartFacts | None = None

    @override
    def starting(self, facts: StartFacts) -> None:
        self._facts = facts
        rows = {
            "validators": facts.api_url,
            "admin": facts.admin_url,
            "hotkey": facts.hotkey + (" (ephemeral)" if facts.development else ""),
            "engine": f"{facts.backend}, {facts.model}" if facts.model else facts.backend,
        }
        style = "yellow" if facts.development else "green"
        if not self._console.is_terminal:
            self._lines(f"Loosh Miner {metadata.version('loosh-miner')}", mode(facts))
            self._lines(*(f"{name}: {value}" for name, value in rows.items()))
            self._lines(*(f"warning: {warning}" for warning in facts.warnings), "Loading the model.")
            return
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            table.add_row(Text(name, "dim"), Text(value))
        warnings = [Text(f"\nwarning: {warning}", "yellow") for warning in facts.warnings]
        body = Group(Text(mode(facts) + "\n", style), table, *warnings)
        self._print(Panel(body, title=f"Loosh Miner {metadata.version('loosh-miner')}", border_style=style))
        self._lines("Loading the model.")

    @override
    def ready(self, seconds: float, model: str) -> None:
        self._lines(f"Ready after {seconds:.1f} s: {model}.")
        if self._facts is not None:
            self._lines("Next, in a second terminal:", f"  {next_step(self._facts)}")

    @override
    def not_ready(self, reason: str) -> None:
        self._lines(f"Not ready: {reason}")

    @override
    def draining(self, in_flight: int) -> None:
        self._lines(f"Stopping: no new challenges, {in_flight} in flight are finished first.")

    @override
    def stopped(self, answered: int) -> None:
        self._lines(f"Stopped. Challenges answered: {answered}.")

    def _lines(self, *lines: str) -> None:
        for line in lines:
            self._print(Text(line))

    def _print(self, shown: RenderableType) -> None:
        with contextlib.suppress(OSError):  # nobody watches any more, or the disk is full: the miner goes on
            self._console.print(shown, soft_wrap=isinstance(shown, Text))  # a command must be copied whole


class EventScreen(ServeScreen):
    """For a log that machines read."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    @override
    def starting(self, facts: StartFacts) -> None:
        self._log.info(
            "starting",
            mode=mode(facts),
            api=facts.api_url,
            admin=facts.admin_url,
            hotkey=facts.hotkey,
            model=facts.model,
            backend=facts.backend,
            next=next_step(facts),
        )
        for warning in facts.warnings:
            self._log.warning(warning)

    @override
    def ready(self, seconds: float, model: str) -> None:
        self._log.info("ready", seconds=round(seconds, 2), model=model)

    @override
    def not_ready(self, reason: str) -> None:
        self._log.warning("not ready", reason=reason)

    @override
    def draining(self, in_flight: int) -> None:
        self._log.info("draining", in_flight=in_flight)

    @override
    def stopped(self, answered: int) -> None:
        self._log.info("stopped", answered=answered)
