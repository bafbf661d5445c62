"""The subnet as the chain tells it: its neurons, their permits, stakes and axons."""

from typing import Protocol

import msgspec


class Axon(msgspec.Struct, frozen=True):
    """An endpoint posted on chain."""

    ip: str
    port: int

    @property
    def shown(self) -> str:
        """Address and port as a URL has them."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Neuron(msgspec.Struct, frozen=True, kw_only=True):
    """One UID of the subnet. Stake is in TAO (all kinds together); incentive is a share, 0 to 1."""

    uid: int
    hotkey: str
    validator_permit: bool
    stake: float
    incentive: float = 0.0
    axon: Axon | None = None


class Metagraph(msgspec.Struct, frozen=True):
    """All neurons of a subnet, at one block; `time` is that of the node's latest block, in unix seconds."""

    netuid: int
    block: int
    neurons: tuple[Neuron, ...]
    time: float | None = None

    def neuron(self, hotkey: str) -> Neuron | None:
        """Give the neuron of a hotkey; None when it is not registered."""
        return next((neuron for neuron in self.neurons if neuron.hotkey == hotkey), None)


class MetagraphSource(Protocol):
    """Where the metagraph is read."""

    async def metagraph(self) -> Metagraph:
        """Read the subnet's present metagraph. Errors: `ChainError`."""
        ...
