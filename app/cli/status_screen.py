"""What `status` shows of the running miner, on one screen."""

from collections.abc import Iterator
from importlib import metadata
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from app.cli.asking import printable
from app.domain.ages import ago, duration
from app.domain.chain_watch import ChainReport
from app.domain.health_detail import HealthDetail
from app.domain.list_refresh import RefreshReport

_WIDTH: Final = 13
_SOURCES: Final = {"metagraph": "metagraph", "challenge-api": "Challenge API", "settings": "settings"}


def as_object(health: HealthDetail) -> object:
    """Build the JSON: what the miner says, that it runs, and the version installed here."""
    told = msgspec.to_builtins(health)
    return {"running": True, **told, "installed_version": _installed()}


def show(health: HealthDetail) -> None:
    """Write it for people, to stdout."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text("ready" if health.ready else "not ready", "bold green" if health.ready else "bold red"))
    for name, value in _rows(health):
        console.print(Text.assemble((f"{name:<{_WIDTH}}", "dim"), printable(value)))
    for alarm in health.alarms:
        console.print(Text(f"! {printable(alarm.text)}", "yellow"))
    for warning in health.warnings:
        console.print(Text(f"warning: {printable(warning)}", "yellow"))


def _rows(health: HealthDetail) -> Iterator[tuple[str, str]]:
    if not health.ready:
        yield "because", health.reason
    installed = _installed()
    version = health.version + ("" if health.version == installed else f" (installed: {installed}, restart to use it)")
    yield "version", f"{version}, up {duration(health.uptime_seconds)}"
    yield "hotkey", health.hotkey + (" (ephemeral: development mode)" if health.development else "")
    if health.chain is not None:
        yield from _chain(health.chain)
    lists = "; ".join(map(_list, health.allow_list))
    yield "validators", f"{health.validators} on the allow-list" + (f" ({lists})" if lists else "")
    yield "last answer", ago(health.last_answer.age_seconds)
    yield "sessions", str(health.sessions)
    busy = health.admission
    yield "challenges", f"{busy.running} of {busy.slots} slots, {busy.queued} of {busy.queue_limit} waiting"
    yield "engine", _engine(health)


def _chain(chain: ChainReport) -> Iterator[tuple[str, str]]:
    yield "subnet", f"netuid {chain.netuid} of {chain.network}"
    if chain.block is None:
        yield "chain", "not read yet"
        return
    yield "chain", f"block {chain.block}, seen to grow {ago(chain.block_seconds)}"
    if chain.uid is None:
        yield "UID", "none: the hotkey is not registered"
        return
    yield "UID", f"{chain.uid}, rank {chain.rank} of {chain.neurons}, incentive {chain.incentive or 0.0:.5f}"
    match chain.axon_matches:
        case True:
            place = "leads here"
        case False:
            place = f"but this miner is at {chain.ours}"
        case None:
            place = "not compared: EXTERNAL_ADDRESS does not say where this miner is"
    yield "axon", f"{chain.axon}, {place}" if chain.axon else "none posted"


def _list(report: RefreshReport) -> str:
    name = _SOURCES[report.source]
    if report.age_seconds is None:
        return f"{name}: {report.failing or 'not read yet'}"
    valid = "" if report.valid else ", over 24 h old: not used"
    failing = f", then: {report.failing}" if report.failing else ""
    return f"{name}: {report.validators}, {ago(report.age_seconds)}{valid}{failing}"


def _engine(health: HealthDetail) -> str:
    backend = health.backend
    name = f"{backend.model or 'model not known'}" + (f" at {backend.address}" if backend.address else "")
    if not backend.ready:
        return f"{name}, not ready: {backend.reason}"
    return name + ("" if health.probe_seconds is None else f", last probe took {health.probe_seconds:.2f} s")


def _installed() -> str:
    try:
        return metadata.version("loosh-miner")
    except metadata.PackageNotFoundError:
        return "none"
