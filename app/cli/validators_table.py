"""What `validators` does: from the running miner, or from the list on disk."""

from typing import Final

from rich.console import Console
from rich.table import Table

from app.admin_client import NoMiner, ask_miner
from app.chain.list_origins import list_origins
from app.clock import SystemClock
from app.domain.ages import ago
from app.domain.source_list import merge
from app.domain.validator_report import ValidatorReport, ValidatorsReport, kept_validators
from app.settings import LoadedSettings
from app.state.allow_list_rows import kept_lists

_NOTHING: Final = "-"
_SS58_LETTERS: Final = 48
_PIPE_WIDTH: Final = 240


def read(loaded: LoadedSettings) -> tuple[ValidatorsReport, str]:
    """Give the list, and why it is not the running miner's, if so."""
    settings = loaded.settings
    try:
        return ask_miner(settings.admin_port, "/validators", ValidatorsReport), ""
    except NoMiner as missing:
        origins = list_origins(settings)
        lists = [one for one in kept_lists(settings.state_dir) if one.origin == origins[one.source]]
        merged = merge(lists, settings.validator_hotkeys, settings.min_validator_stake, SystemClock().wall())
        validators = sorted(merged.validators.values(), key=lambda one: (-(one.stake or 0.0), one.hotkey))
        return kept_validators(validators), f"{missing}; this is the list on disk, of the last 24 h"


def show(report: ValidatorsReport) -> None:
    """Write it for people, to stdout."""
    table = Table(box=None, pad_edge=False)
    table.add_column(
        "hotkey", no_wrap=True, min_width=_SS58_LETTERS
    )  # whole, so that it can be copied and searched for
    for name in ("source", "address"):
        table.add_column(name, overflow="fold")
    for name in ("stake", "last seen", "clock", "sessions"):
        table.add_column(name, justify="right", no_wrap=True)
    for validator in report.validators:
        table.add_row(*_cells(validator, live=report.live))
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: rows stay whole
        console = Console(highlight=False, width=_PIPE_WIDTH)
    if report.validators:
        console.print(table)
    console.print(f"{len(report.validators)} validators")


def _cells(one: ValidatorReport, *, live: bool) -> tuple[str, ...]:
    seen = _NOTHING
    if live:
        seen = "never" if one.last_seen is None else ago(max(0.0, SystemClock().wall() - one.last_seen))
    return (
        one.hotkey,
        ", ".join(one.sources),
        " ".join(one.addresses) or _NOTHING,
        _NOTHING if one.stake is None else f"{one.stake:,.0f}",
        seen,
        _NOTHING if one.clock_skew_seconds is None else f"{one.clock_skew_seconds:+.1f} s",
        str(one.sessions) if live else _NOTHING,
    )
