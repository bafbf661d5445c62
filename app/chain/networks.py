"""Where the chain is: the networks' own nodes, or the one the operator names (protocol, section 6)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from app.settings_model import Settings

NODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "finney": "wss://entrypoint-finney.opentensor.ai:443",
        "test": "wss://test.finney.opentensor.ai:443",
        "local": "ws://127.0.0.1:9945",
    }
)


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet, the node to reach it by, and where the runtime's metadata is kept between runs."""

    netuid: int
    node: str
    """ws:// or wss://, as the operator gave it: it may hold a key, so only `node_shown` goes into texts."""
    network: str
    cache: str

    @property
    def node_shown(self) -> str:
        """The node without user, path and query, where providers put their keys."""
        scheme, _, rest = self.node.partition("://")
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"

    @property
    def network_flag(self) -> str:
        """What `btcli --network` is to be given."""
        return self.network if NODES.get(self.network) == self.node else self.node_shown


def subnet_of(settings: Settings) -> Subnet:
    """The subnet that the settings name; SUBTENSOR_ADDRESS wins over SUBTENSOR_NETWORK."""
    return Subnet(
        netuid=settings.netuid,
        node=settings.subtensor_address or NODES[settings.subtensor_network],
        network=settings.subtensor_network,
        cache=str(cache_directory(settings.state_dir)),
    )


def cache_directory(state: Path) -> Path:
    """Where bittensor's SDK keeps what it fetched: the runtime's metadata."""
    return state / "chain-cache"
