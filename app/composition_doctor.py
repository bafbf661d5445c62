"""The composition root's part for the doctor: all checks, put together from settings and machine."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from app.appliance.compute.selection import Asked, select
from app.appliance.driver_state import read_driver_state
from app.chain.metagraph_child import ChildMetagraph
from app.chain.networks import subnet_of
from app.chain.wallet import hotkey_address, load_hotkey
from app.clock import SystemClock
from app.composition_calling import find_own_axon
from app.doctor.chain_checks import ChainChecks
from app.doctor.check import SECTIONS, Check, Checks, Report, Verdict, failed
from app.doctor.engine_checks import EngineChecks
from app.doctor.examination import EXAMINATION_SECONDS, examine
from app.doctor.gpu_checks import GpuChecks
from app.doctor.limits_checks import LimitsChecks
from app.doctor.machine import Machine
from app.doctor.machine_checks import MachineChecks
from app.doctor.miner_checks import MinerChecks
from app.doctor.running_miner import RunningMiner
from app.doctor.selftest_checks import SelftestChecks
from app.domain.chain_watch import ChainWatch
from app.engines import build_backend
from app.errors import SettingsError, WalletError
from app.identity import in_development
from app.protocol.hotkeys import Hotkey
from app.settings import LoadedSettings

_CHAIN_SECONDS: Final = 6.0
_CLOSE_SECONDS: Final = 0.5


class Doctor:
    """All checks; `only` names codes or sections, none means all. Errors of `examine`: `SettingsError`."""

    def __init__(self, checks: Sequence[Check], engine: EngineChecks | None = None) -> None:
        self._checks = checks
        self._engine = engine

    async def examine(self, only: Collection[str], seconds: float = EXAMINATION_SECONDS) -> Report:
        """Look at everything, or at what `only` names, in so many seconds."""
        known = {check.code for check in self._checks} | set(SECTIONS)
        unknown = sorted(set(only) - known)
        if unknown:
            raise SettingsError(
                f"--only: no check or section {', '.join(unknown)}: there are {', '.join(sorted(known))}"
            )
        chosen = [check for check in self._checks if not only or {check.code, check.section} & set(only)]
        try:
            return await examine(chosen, seconds)
        finally:
            if self._engine is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await self._engine.close()

    def catalogue(self) -> Sequence[Check]:
        """List all checks, for the documents."""
        return self._checks


def build_doctor(loaded: LoadedSettings, recording: str | None, lock: Path | None = None) -> Doctor:
    """Put the checks together; `recording` names a recorded machine, which has no miner to look at.

    `lock` is the lock of weights, if not the one in STATE_DIR.
    """
    below = _below(loaded, recording, lock)
    if recording is not None:
        return Doctor(_listed(below))
    settings, clock = loaded.settings, SystemClock()
    development = in_development(loaded)
    running = RunningMiner(settings.admin_port)
    hotkey = Hotkey.ephemeral() if development else _usable_hotkey(loaded)
    embedded = settings.llm_backend == "llamacpp"
    backend = None if embedded else build_backend(settings, clock)
    address = None if hotkey is None or development else hotkey.ss58
    watch = ChainWatch(address or "", settings.netuid, settings.subtensor_network, clock)
    source = ChildMetagraph(subnet_of(settings), read_seconds=_CHAIN_SECONDS)
    answer_seconds = settings.answer_hard_cut_seconds
    engine = EngineChecks(backend, running, answer_seconds=answer_seconds, unit=settings.llm_backend)
    groups: tuple[Checks, ...] = (
        LimitsChecks(settings.llm_backend),
        MinerChecks(loaded, running, development=development),
        engine,
        ChainChecks(source, watch, find_own_axon(settings), running, address=address, development=development),
        SelftestChecks(hotkey, running, settings.api_port, answer_seconds=answer_seconds, embedded=embedded),
    )
    return Doctor([*_listed(below), *_listed(groups)], engine)


def build_doctor_without_settings(loaded: LoadedSettings, recording: str | None, problems: Sequence[str]) -> Doctor:
    """Put together what needs no settings; `loaded` holds the defaults, `problems` why there is nothing better."""
    verdict = failed("; ".join(problems), "correct them, then `loosh-miner config check`")

    async def told() -> Verdict:
        return verdict

    settings = Check(code="settings", section="miner", title="Settings that can be read", look=told)
    return Doctor([*_listed(_below(loaded, recording, None)), settings])


def _below(loaded: LoadedSettings, recording: str | None, lock: Path | None) -> tuple[Checks, ...]:
    embedded = loaded.settings.llm_backend == "llamacpp"
    machine = Machine(lambda: select(loaded, Asked(hardware=recording, lock=lock)))
    state = read_driver_state() if recording is None else None
    return (
        MachineChecks(machine, embedded=embedded, here=recording is None),
        GpuChecks(machine, state, embedded=embedded),
    )


def _listed(groups: Sequence[Checks]) -> list[Check]:
    return [check for group in groups for check in group.checks()]


def _usable_hotkey(loaded: LoadedSettings) -> Hotkey | None:
    """The hotkey, unless it is encrypted (opening it takes longer than an examination) or not to be had."""
    try:
        if hotkey_address(loaded.settings, credentials=loaded.credentials) is None:
            return None
        return load_hotkey(loaded.settings, credentials=loaded.credentials)
    except WalletError:
        return None
