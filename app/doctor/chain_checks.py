"""What the chain and the Challenge API say of this miner, and whether it is reached where it is posted."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from app.doctor.check import Check, Verdict, failed, ok, skipped, warning
from app.doctor.running_miner import RunningMiner
from app.domain.chain_watch import ChainReport, ChainWatch
from app.domain.metagraph import Axon, MetagraphSource
from app.domain.public_address import hindrance
from app.errors import ChainError
from app.protocol.hotkeys import Hotkey
from app.validator.client import ValidatorClient
from app.validator.errors import MinerRefused, NotAnswered

_SECONDS: Final = 7.5
_READ_SECONDS: Final = 5.0
_MINER_SECONDS: Final = 1.0
"""A miner that runs answers in milliseconds; for a silent one the reading does not wait."""
_STALLED_SECONDS: Final = 900.0
_OWN_SECONDS: Final = 1.0
_OUTSIDE_SECONDS: Final = 2.0
_MINUTE: Final = 60.0
_RATE_LIMITED: Final = 429


class _Chain(msgspec.Struct, frozen=True):
    """What was learnt, or why nothing was."""

    report: ChainReport | None
    trouble: Verdict | None = None


class ChainChecks:
    """Takes the running miner's word where there is one, and reads the metagraph itself where there is none.

    `address` is the hotkey's, None when it is not known.
    """

    def __init__(
        self,
        source: MetagraphSource,
        watch: ChainWatch,
        own_axon: Callable[[Axon | None], Awaitable[Axon | None]],
        running: RunningMiner,
        *,
        address: str | None,
        development: bool,
    ) -> None:
        self._source = source
        self._watch = watch
        self._own_axon = own_axon
        self._running = running
        self._address = address
        self._development = development
        self._reading: asyncio.Task[_Chain] | None = None

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(
                code="chain-registered",
                section="chain",
                title="The hotkey has a UID",
                look=self._registered,
                seconds=_SECONDS,
            ),
            Check(
                code="chain-axon",
                section="chain",
                title="The posted axon is this miner's address",
                look=self._axon,
                seconds=_SECONDS,
            ),
            Check(
                code="chain-head",
                section="chain",
                title="The chain's node is up to date",
                look=self._head,
                seconds=_SECONDS,
            ),
            Check(code="allow-list", section="chain", title="The lists of validators are fresh", look=self._lists),
            Check(code="last-answer", section="chain", title="A challenge was answered lately", look=self._last_answer),
            Check(
                code="port-posted",
                section="network",
                title="The posted address answers",
                look=self._posted,
                seconds=_SECONDS,
            ),
        )

    async def _chain(self) -> _Chain:
        if self._development:
            return _Chain(None, skipped("development mode: no chain"))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> _Chain:
        told = await self._told()
        if told is not None:
            return _Chain(told)
        if self._address is None:
            return _Chain(None, skipped("the hotkey's address is not known here"))
        try:
            reading = asyncio.ensure_future(self._source.metagraph())
            # Not asyncio.timeout: ending the reader's process takes its time, and the verdict need not wait for it.
            if not (await asyncio.wait({reading}, timeout=_READ_SECONDS))[0]:
                reading.cancel()
                what = f"the chain's node does not answer within {_READ_SECONDS:g} s"
                return _Chain(None, failed(what, "try again; else set SUBTENSOR_ADDRESS to another node"))
            metagraph = reading.result()
        except ChainError as error:
            return _Chain(None, failed(error.cause, error.remedy))
        self._watch.saw(metagraph, await self._own(self._watch.posted(metagraph)))
        return _Chain(self._watch.report())

    async def _told(self) -> ChainReport | None:
        """Give what the running miner knows of the chain."""
        try:
            async with asyncio.timeout(_MINER_SECONDS):
                health = (await self._running.seen()).health
        except TimeoutError:
            return None
        known = None if health is None else health.chain
        return known if known is not None and known.registered is not None else None

    async def _own(self, posted: Axon | None) -> Axon | None:
        """Give this miner's address; a resolver that keeps silent must not hide what the chain said."""
        try:
            async with asyncio.timeout(_OWN_SECONDS):
                return await self._own_axon(posted)
        except TimeoutError:
            return None

    async def _registered(self) -> Verdict:
        chain = await self._chain()
        report = chain.report
        if report is None:
            return chain.trouble or skipped("not known")
        if not report.registered:
            return failed(
                f"not registered on netuid {report.netuid} of {report.network}",
                f"btcli subnet register --netuid {report.netuid} (costs TAO), then `loosh-miner register`",
            )
        return ok(f"UID {report.uid} of {report.neurons}, incentive {report.incentive:.5f}, rank {report.rank}")

    async def _axon(self) -> Verdict:
        report = (await self._chain()).report
        if report is None or not report.registered:
            return skipped("see chain-registered")
        if report.axon is None:
            return failed("nothing is posted: validators can't find this miner", "loosh-miner register")
        why = None if report.network == "local" else _unreachable(report.axon)
        if why is not None:
            return failed(f"{report.axon} is posted, which is {why}", "loosh-miner register --address PUBLIC_ADDRESS")
        match report.axon_matches:
            case True:
                return ok(report.axon)
            case False:
                return failed(f"{report.axon} is posted, which is not this miner", "loosh-miner register")
            case None:
                return ok(f"{report.axon}; set EXTERNAL_ADDRESS to have it compared")

    async def _head(self) -> Verdict:
        report = (await self._chain()).report
        if report is None:
            return skipped("see chain-registered")
        if (report.block_seconds or 0.0) > _STALLED_SECONDS:
            return failed(
                f"block {report.block} for {(report.block_seconds or 0) / _MINUTE:.0f} minutes",
                "set SUBTENSOR_ADDRESS to another node",
            )
        if (report.lag_seconds or 0.0) > _STALLED_SECONDS:
            return failed(
                f"block {report.block} was {(report.lag_seconds or 0) / _MINUTE:.0f} minutes old when it was read",
                "set SUBTENSOR_ADDRESS to another node; if all say the same, correct this machine's clock",
            )
        return ok(f"block {report.block}")

    async def _lists(self) -> Verdict:
        health = (await self._running.seen()).health
        if health is None:
            return skipped("no miner runs")
        if not health.allow_list:
            return skipped("no lists are read: development mode, or ENABLE_VALIDATOR_WHITELIST=false")
        said = ", ".join(
            f"{one.source}: {one.validators}"
            + ("" if one.age_seconds is None else f" ({one.age_seconds / _MINUTE:.0f} min old)")
            for one in health.allow_list
        )
        bad = [one for one in health.allow_list if one.failing]
        if not any(one.valid for one in health.allow_list):
            return failed(f"no valid list: {said}", bad[0].remedy if bad else "wait for the first reading")
        if bad:
            return warning(f"{said}; {bad[0].source} can't be read: {bad[0].failing}", bad[0].remedy)
        return ok(said)

    async def _last_answer(self) -> Verdict:
        health = (await self._running.seen()).health
        if health is None or self._development:
            return skipped("no miner runs" if health is None else "development mode: no chain")
        for alarm in health.alarms:
            if alarm.name.startswith("last_answer"):
                return failed(alarm.text.partition(":")[0], "see chain-axon, port-posted and miner-ready")
        age = health.last_answer.age_seconds
        return ok("none yet" if age is None else f"{age / _MINUTE:.0f} minutes ago")

    async def _posted(self) -> Verdict:
        report = (await self._chain()).report
        if report is None or report.axon is None:
            return skipped("no address is posted")
        url = f"http://{report.axon}"
        try:
            async with ValidatorClient(url, Hotkey.ephemeral(), _OUTSIDE_SECONDS) as client:
                answer = await client.availability()
        except MinerRefused as refused:
            if refused.status == _RATE_LIMITED:
                return ok(f"{url} answers (429: asked too often)")
            return failed(f"{url} answers with {refused.status}: is it this miner?", "loosh-miner register")
        except NotAnswered as error:
            # Many routers do not lead a machine back to its own public address.
            return warning(f"{error}", "try it from another machine: `loosh-miner challenge --url`; open the port")
        return (
            ok(f"{url} answers") if answer.available else warning(f"{url} answers: {answer.reason}", "see miner-ready")
        )


def _unreachable(axon: str) -> str | None:
    """Say why the internet can't reach what is posted; None when it can."""
    try:
        found = hindrance(ipaddress.ip_address(axon.rpartition(":")[0].strip("[]")))
    except ValueError:
        return "no address"
    return None if found is None else found.why
