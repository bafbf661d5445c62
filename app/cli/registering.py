"""What `register` and `fiber-post-ip` do once their arguments are read."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from app.chain.networks import Subnet, subnet_of
from app.chain.own_endpoint import Endpoint
from app.chain.posted_file import PostedFile
from app.chain.registration import SETTLE_SECONDS, Outlook, Registration
from app.chain.subtensor import FINALITY_SECONDS, READ_SECONDS, Subtensor
from app.chain.wallet import load_hotkey
from app.cli.common import ENV_FILE
from app.errors import ChainError, SettingsError
from app.settings import LoadedSettings, load
from app.validator.reach import Reach, reach

type Outcome = Literal["kept", "posted", "would_post", "declined", "failed"]
type Ask = Callable[[], bool | None]
"""True, False, or None when nobody is there to be asked."""

FAILED: Final = 1
WRONG: Final = 2
NOT_REGISTERED: Final = 3
UNKNOWN: Final = 4
_EXIT_CODES: Final[tuple[tuple[frozenset[str], int], ...]] = (
    (frozenset({"not_public", "bad_address", "no_address", "bad_port", "not_confirmed"}), WRONG),
    (frozenset({"not_registered"}), NOT_REGISTERED),
    (frozenset({"unknown_outcome"}), UNKNOWN),
)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The command's arguments; those that are None come from the settings."""

    address: str | None = None
    port: int | None = None
    allow_private: bool = False
    dry_run: bool = False
    watch: bool = False
    probe: bool = True
    """Ask the address for `/availability`, and no other."""
    timeout: float = READ_SECONDS
    env_file: Path | None = None
    overrides: dict[str, str] = {}
    """Settings by their names in the environment, given on the command line."""


class Fault(msgspec.Struct, frozen=True):
    """A `ChainError`'s parts."""

    code: str
    cause: str
    remedy: str


class Report(msgspec.Struct, kw_only=True):
    """What is shown, for people or as JSON."""

    outcome: Outcome = "failed"
    hotkey: str
    uid: int | None = None
    netuid: int
    network: str
    node: str
    chain: str | None = None
    """What the chain held before."""
    wanted: str | None = None
    blocks_to_wait: int = 0
    warnings: tuple[str, ...] = ()
    reach: Reach | None = None
    error: Fault | None = None

    @property
    def exit_code(self) -> int:
        """0 when the chain holds the address, or a dry run found nothing against it."""
        if self.error is None:
            return 0 if self.outcome in {"kept", "posted", "would_post"} else FAILED
        code = self.error.code
        return next((number for codes, number in _EXIT_CODES if code in codes), FAILED)

    def before(self) -> Iterator[str]:
        """Give what is there and what is wanted, for people."""
        yield f"hotkey   {self.hotkey}, UID {self.uid} on subnet {self.netuid} of {self.network}"
        yield f"chain    {self.chain or 'holds no address'}"
        yield f"wanted   {self.wanted}"
        for warning in self.warnings:
            yield f"warning  {warning}"

    def after(self) -> Iterator[str]:
        """Give what came of it, for people; errors go elsewhere."""
        match self.outcome:
            case "kept":
                yield "result   the chain says so already: nothing to post"
            case "posted":
                yield f"result   posted: the chain holds {self.wanted}, and that is final"
            case "would_post" if self.blocks_to_wait:
                yield f"result   would be posted in {self.blocks_to_wait} blocks, when the rate limit allows it"
            case "would_post":
                yield "result   would be posted; this was a dry run"
            case "declined":
                yield "result   nothing was posted"
            case "failed":
                pass
        if self.reach is not None:
            yield f"reach    {self.reach.detail}"


class Registering:
    """One run of the command. `show` gets lines for people, `ask` decides before anything is posted."""

    def __init__(self, wish: Wish, *, show: Callable[[Iterator[str]], None], ask: Ask) -> None:
        self._wish = wish
        self._show = show
        self._ask = ask
        self._posting = False
        self._loaded = _settings(wish)
        settings = self._loaded.settings
        self._subnet = subnet_of(settings)
        _check_network(wish, self._subnet)
        self._hotkey = load_hotkey(settings, credentials=self._loaded.credentials)
        self.report = Report(
            hotkey=self._hotkey.ss58,
            netuid=self._subnet.netuid,
            network=self._subnet.network_flag,
            node=self._subnet.node_shown,
        )

    def run(self) -> Report:
        """Do it. Errors: none of the chain's, they are in the report."""
        with asyncio.Runner() as runner:
            try:
                runner.run(self._run())
            except ChainError as error:
                self.report.error = Fault(error.code, error.cause, error.remedy)
            except KeyboardInterrupt:
                if self._posting:
                    sys.stderr.write("interrupted: the post may be on the chain or not, --dry-run shows it\n")
                raise
        return self.report

    async def _run(self) -> None:
        registration = self._registration()
        outlook = await registration.look()
        self._note(outlook)
        self._show(self.report.before())
        self.report.outcome = await self._carry_out(registration, outlook)
        if self._wish.probe and self.report.outcome != "declined":
            self.report.reach = await reach(outlook.wanted.shown, self._hotkey)
        self._show(self.report.after())

    async def _carry_out(self, registration: Registration, outlook: Outlook) -> Outcome:
        posting = outlook.step == "post"
        registration.object_to(outlook)
        if self._wish.dry_run:
            return "would_post" if posting else "kept"
        if posting and not outlook.blocks_to_wait:
            sure = self._ask()
            if sure is None:
                raise ChainError(
                    "nothing was posted, for nobody is there to be asked",
                    remedy="give --yes to post, or --dry-run to look",
                    code="not_confirmed",
                )
            if not sure:
                return "declined"
            self._posting = True
            sys.stderr.write("posting, and waiting until that is final: half a minute or so\n")
            sys.stderr.flush()
        await registration.carry_out(outlook)
        return "posted" if posting else "kept"

    def _registration(self) -> Registration:
        wish, settings = self._wish, self._loaded.settings
        scale = wish.timeout / READ_SECONDS
        return Registration(
            Subtensor(self._subnet, read_seconds=wish.timeout, finality_seconds=FINALITY_SECONDS * scale),
            self._hotkey,
            Endpoint(settings, address=wish.address, port=wish.port, allow_local=wish.allow_private),
            PostedFile(settings.state_dir, self._subnet, self._hotkey.ss58),
            wallet=settings.wallet_name,
            watching=wish.watch,
            settle_seconds=SETTLE_SECONDS * scale,
        )

    def _note(self, outlook: Outlook) -> None:
        report = self.report
        report.uid, report.wanted = outlook.uid, outlook.wanted.shown
        report.chain = outlook.held.shown if outlook.held else None
        report.blocks_to_wait, report.warnings = outlook.blocks_to_wait, outlook.warnings


def _settings(wish: Wish) -> LoadedSettings:
    env_file = wish.env_file or (ENV_FILE if ENV_FILE.is_file() else None)
    loaded = load({**os.environ, **wish.overrides}, env_file)
    if wish.overrides.keys() & {"WALLET_NAME", "HOTKEY_NAME"}:  # a wallet named here is meant, whatever .env says
        settings = msgspec.structs.replace(loaded.settings, hotkey_file=None)
        return msgspec.structs.replace(loaded, settings=settings)
    return loaded


def _check_network(wish: Wish, subnet: Subnet) -> None:
    if wish.allow_private and subnet.network_flag in {"finney", "test"}:
        raise SettingsError(
            f"--allow-private: is for local test networks, and on {subnet.network_flag} no validator could reach the"
            " miner: name your network in SUBTENSOR_ADDRESS, or leave the flag out"
        )
