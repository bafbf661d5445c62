"""The miner itself: its settings, its key, its ports, and what it says of itself."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Final

from app.chain.wallet import hotkey_address
from app.doctor.asked_command import output_of
from app.doctor.check import Check, Verdict, failed, ok, parted, skipped, warning
from app.doctor.running_miner import RunningMiner
from app.errors import WalletError
from app.settings import LoadedSettings, Settings

_OWN_ONLY: Final = 0o077
_LOOPBACK: Final = "127.0.0.1"


class MinerChecks:
    """Checks of what lies on this machine; `development`: no wallet is wanted."""

    def __init__(self, loaded: LoadedSettings, running: RunningMiner, *, development: bool) -> None:
        self._loaded = loaded
        self._running = running
        self._development = development

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(code="settings", section="miner", title="Settings that are probably not meant so", look=self._doubts),
            Check(code="hotkey", section="miner", title="The hotkey's file: there, private, usable", look=self._hotkey),
            Check(code="coldkey", section="miner", title="No coldkey can be read on this machine", look=self._coldkey),
            Check(code="state-dir", section="miner", title="STATE_DIR: writable, private", look=self._state_dir),
            Check(code="clock", section="miner", title="The clock is kept by a time service", look=self._clock),
            Check(code="miner-running", section="miner", title="A miner runs on this machine", look=self._is_running),
            Check(code="miner-ready", section="miner", title="It says that it is ready", look=self._is_ready),
            Check(
                code="ports", section="miner", title="API_PORT and ADMIN_PORT: free, or the miner's", look=self._ports
            ),
        )

    @property
    def _settings(self) -> Settings:
        return self._loaded.settings

    async def _doubts(self) -> Verdict:
        doubts = self._loaded.warnings
        if doubts:
            return warning("; ".join(doubts), "correct them, then `loosh-miner config check`")
        given = sum(self._loaded.explicit(name) for name in self._loaded.origins)
        return ok(f"{given} given, all understood")

    async def _hotkey(self) -> Verdict:
        if self._development:
            return warning(
                "development mode: no wallet, so an ephemeral hotkey, no chain, loopback only",
                "fine for a try; to earn: `btcli wallet new-hotkey`, WALLET_NAME and HOTKEY_NAME",
            )
        try:
            address = await asyncio.to_thread(hotkey_address, self._settings, credentials=self._loaded.credentials)
        except WalletError as error:
            return parted(str(error))
        if address is None:
            return ok("encrypted, with a password at hand; the start opens it")
        return ok(address)

    async def _coldkey(self) -> Verdict:
        readable = await asyncio.to_thread(_readable_coldkeys, self._settings.wallet_path)
        if not readable:
            return ok("none")
        what = "can be read here: " + ", ".join(str(path) for path in readable)
        if self._settings.allow_coldkey:
            return warning(f"{what} (ALLOW_COLDKEY)", "use a machine of its own for the coldkey: it holds the funds")
        return failed(what, f"keep a copy elsewhere, then `shred -u {readable[0]}`")

    async def _state_dir(self) -> Verdict:
        directory = self._settings.state_dir
        try:
            mode = directory.stat().st_mode
        except FileNotFoundError:
            return ok(f"{directory} will be made at the first start")
        if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
            return failed(
                f"{directory} can't be written by this user", "run this as the miner's user, or set STATE_DIR"
            )
        if mode & _OWN_ONLY:
            return warning(f"{directory} can be read by others (mode {mode & 0o777:04o})", f"chmod 700 {directory}")
        return ok(str(directory))

    async def _clock(self) -> Verdict:
        said = await output_of("timedatectl", "show", "--property=NTPSynchronized", "--value")
        match said:
            case "yes":
                return ok("synchronised")
            case "no":
                return failed(
                    "not synchronised: validators refuse handshakes when it is a minute off",
                    "timedatectl set-ntp true (or install systemd-timesyncd or chrony)",
                )
            case _:
                return skipped("timedatectl can't tell here (a container has its host's clock)")

    async def _is_running(self) -> Verdict:
        seen = await self._running.seen()
        if seen.health is None:
            return parted(seen.problem)
        health = seen.health
        return ok(f"version {health.version}, {health.hotkey}, since {health.uptime_seconds / 3600:.1f} h")

    async def _is_ready(self) -> Verdict:
        health = (await self._running.seen()).health
        if health is None:
            return skipped("no miner runs")
        if health.ready:
            return ok(f"{health.admission.running} of {health.admission.slots} slots busy")
        if health.admission.draining:
            return warning("draining: new challenges are refused", "let it stop, or POST /resume on ADMIN_PORT")
        return parted(health.reason)

    async def _ports(self) -> Verdict:
        settings = self._settings
        if (await self._running.seen()).health is not None:
            if await _listens(settings.api_port):
                return ok(f"the miner listens on {settings.api_port} and {settings.admin_port}")
            return failed(
                f"the miner runs, but nothing listens on {_LOOPBACK}:{settings.api_port}",
                "set API_PORT and API_HOST as the running miner has them",
            )
        taken = [port for port in (settings.api_port, settings.admin_port) if await _listens(port)]
        if taken:
            ports = " and ".join(map(str, taken))
            return failed(
                f"another program, or a miner that does not answer, listens on {ports}",
                f"`ss -ltnp` names it; or choose another port than {ports}",
            )
        return ok(f"{settings.api_port} and {settings.admin_port} are free")


def _readable_coldkeys(wallets: Path) -> list[Path]:
    if not wallets.is_dir():
        return []
    return sorted(path for path in wallets.glob("*/coldkey") if os.access(path, os.R_OK))


async def _listens(port: int) -> bool:
    def connect() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((_LOOPBACK, port)) == 0

    return await asyncio.to_thread(connect)
