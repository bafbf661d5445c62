"""What the metagraph says of this miner, and what is wrong with it. It never spends TAO and never posts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from app.clock import Clock
from app.domain.alarms import Alarm
from app.domain.metagraph import Axon, Metagraph, MetagraphSource, Neuron
from app.domain.source import plain_address
from app.domain.source_list import ListedValidator

STALLED_SECONDS: Final = 900.0
_MINUTE: Final = 60.0


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the last metagraph said of this miner; all None before the first one."""

    netuid: int
    network: str
    block: int | None = None
    block_seconds: float | None = None
    """Since the block number was seen to grow."""
    lag_seconds: float | None = None
    """How old the node's latest block was when it was read."""
    registered: bool | None = None
    uid: int | None = None
    stake: float | None = None
    incentive: float | None = None
    rank: int | None = None
    """1 is the highest incentive of the subnet."""
    neurons: int | None = None
    permits: int | None = None
    axon: str | None = None
    axon_matches: bool | None = None
    """None when it is not known where this miner is: behind NAT only EXTERNAL_ADDRESS can say."""
    ours: str | None = None
    """Where this miner is, as far as known."""


class ChainWatch:
    """Looks at each metagraph as it comes."""

    def __init__(self, hotkey: str, netuid: int, network: str, clock: Clock) -> None:
        self._hotkey = hotkey
        self._netuid = netuid
        self._network = network
        self._clock = clock
        self._seen: Metagraph | None = None
        self._neuron: Neuron | None = None
        self._ours: Axon | None = None
        self._grew = 0.0
        self._lag: float | None = None

    def saw(self, metagraph: Metagraph, ours: Axon | None) -> None:
        """Take note of a metagraph that was just read, and of where this miner is, if that is known."""
        if self._seen is None or metagraph.block > self._seen.block:
            self._grew = self._clock.monotonic()
        self._lag = None if metagraph.time is None else self._clock.wall() - metagraph.time
        self._seen, self._ours = metagraph, ours
        self._neuron = metagraph.neuron(self._hotkey)

    def posted(self, metagraph: Metagraph) -> Axon | None:
        """What a metagraph says of this miner's axon."""
        mine = metagraph.neuron(self._hotkey)
        return None if mine is None else mine.axon

    def report(self) -> ChainReport:
        """What is known."""
        seen, mine = self._seen, self._neuron
        if seen is None:
            return ChainReport(netuid=self._netuid, network=self._network)
        axon = None if mine is None else mine.axon
        return ChainReport(
            netuid=self._netuid,
            network=self._network,
            block=seen.block,
            block_seconds=round(self._clock.monotonic() - self._grew, 1),
            lag_seconds=None if self._lag is None else round(self._lag, 1),
            registered=mine is not None,
            uid=None if mine is None else mine.uid,
            stake=None if mine is None else mine.stake,
            incentive=None if mine is None else mine.incentive,
            rank=None if mine is None else 1 + sum(one.incentive > mine.incentive for one in seen.neurons),
            neurons=len(seen.neurons),
            permits=sum(one.validator_permit for one in seen.neurons),
            axon=None if axon is None else _written(axon),
            axon_matches=None if axon is None or self._ours is None else _same(axon, self._ours),
            ours=None if self._ours is None else _written(self._ours),
        )

    def alarms(self) -> tuple[Alarm, ...]:
        """What is wrong on chain, each with its remedy."""
        if self._seen is None:
            return ()
        return tuple(_alarms(self.report(), self._hotkey))


def _alarms(report: ChainReport, hotkey: str) -> Sequence[Alarm]:
    found: list[Alarm] = []
    if report.registered is False:
        text = (
            f"the hotkey {hotkey} is not registered on netuid {report.netuid} of {report.network}: register it with"
            f" `btcli subnet register --netuid {report.netuid}` (it costs TAO), then post with `loosh-miner register`"
        )
        found.append(Alarm("deregistered", text))
    elif report.axon is None:
        found.append(
            Alarm("axon_absent", "no axon is posted, validators can't find this miner: `loosh-miner register`")
        )
    elif report.axon_matches is False:
        text = (
            f"the axon posted is {report.axon}, but this miner is at {report.ours}: `loosh-miner register`,"
            " or correct EXTERNAL_ADDRESS and EXTERNAL_PORT"
        )
        found.append(Alarm("axon_differs", text))
    if (report.block_seconds or 0.0) > STALLED_SECONDS:
        text = (
            f"the chain stands at block {report.block} for {(report.block_seconds or 0.0) / _MINUTE:.0f} minutes:"
            " the node is stuck or can't be reached, choose another with SUBTENSOR_ADDRESS"
        )
        found.append(Alarm("head_stalled", text))
    elif (report.lag_seconds or 0.0) > STALLED_SECONDS:
        text = (
            f"the node's latest block, {report.block}, was {(report.lag_seconds or 0.0) / _MINUTE:.0f} minutes old when"
            " it was read: the node lags behind, choose another with SUBTENSOR_ADDRESS, or this machine's clock is off"
        )
        found.append(Alarm("head_stalled", text))
    return found


def _written(axon: Axon) -> str:
    return f"[{axon.ip}]:{axon.port}" if ":" in axon.ip else f"{axon.ip}:{axon.port}"


def _same(one: Axon, other: Axon) -> bool:
    return (plain_address(one.ip), one.port) == (plain_address(other.ip), other.port)


def permitted(metagraph: Metagraph) -> tuple[ListedValidator, ...]:
    """Every neuron with a validator's permit; the address of its axon counts as published."""
    return tuple(
        ListedValidator(
            hotkey=neuron.hotkey,
            stake=neuron.stake,
            addresses=_published(neuron),
        )
        for neuron in metagraph.neurons
        if neuron.validator_permit
    )


def _published(neuron: Neuron) -> tuple[str, ...]:
    plain = None if neuron.axon is None else plain_address(neuron.axon.ip)
    return () if plain is None else (plain,)


class MetagraphValidators:
    """The metagraph as a source of validators; on its way each one is shown to the watch."""

    def __init__(
        self,
        chain: MetagraphSource,
        watch: ChainWatch,
        origin: str,
        endpoint: Callable[[Axon | None], Awaitable[Axon | None]],
    ) -> None:
        """`endpoint` says where this miner is, if that is known; it is told what is posted."""
        self.source: Final = "metagraph"
        self.origin = origin
        self._chain = chain
        self._watch = watch
        self._endpoint = endpoint

    async def validators(self) -> tuple[ListedValidator, ...]:
        """All with a permit. Errors: `ChainError`."""
        metagraph = await self._chain.metagraph()
        self._watch.saw(metagraph, await self._endpoint(self._watch.posted(metagraph)))
        return permitted(metagraph)
