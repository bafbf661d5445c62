"""What can go wrong with the chain, each with its cause, its remedy and a fixed word."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from app.chain.networks import Subnet
from app.domain.metagraph import Axon
from app.domain.posting import minutes
from app.errors import ChainError

_LONGEST: Final = 300
_OTHER_NODE: Final = "see whether the node is up, or name another one in SUBTENSOR_ADDRESS"
_MAYBE_POSTED: Final = frozenset(
    {"FinalityTimeout", "Dropped", "Usurped", "Retracted", "Invalid", "AlreadyImported", "PriorityTooLow"}
)
"""What the pool says of an extrinsic that it once took: whether that one, or its twin, gets into a block is open."""
_WHY_NOT: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        # Pool codes 10 to 13 and 255, in the order in which the pallet checks.
        "HotKeyNotRegisteredInNetwork": (
            "not_registered",
            "the hotkey is not registered on subnet {netuid} (HotKeyNotRegisteredInNetwork)",
            "register it: btcli subnet register --netuid {netuid} --network {network}",
        ),
        "InvalidIpType": ("bad_address", "the chain takes no address of this type (InvalidIpType)", "{address}"),
        "BadRequest": ("bad_address", "the chain takes no address of this type (InvalidIpType)", "{address}"),
        "InvalidIpAddress": ("bad_address", "the chain takes no such address (InvalidIpAddress)", "{address}"),
        "ServingRateLimitExceeded": (
            "rate_limit",
            "the last post is too recent (ServingRateLimitExceeded)",
            "wait: the chain takes one post in some 10 minutes, even of the same address",
        ),
        "InvalidPort": ("bad_port", "the chain takes no port {port} (InvalidPort)", "give a port from 1 to 65535"),
        "BadProof": (
            "wrong_chain",
            "the node does not accept the signature",
            "see that SUBTENSOR_ADDRESS is a node of the network you mean, and up to date",
        ),
    }
)


def unreachable(subnet: Subnet, detail: str) -> ChainError:
    return ChainError(f"{subnet.node_shown} can't be reached ({shown(detail)})", remedy=_OTHER_NODE, code="unreachable")


def silent(subnet: Subnet, seconds: float) -> ChainError:
    return ChainError(f"{subnet.node_shown} did not answer within {seconds:g} s", remedy=_OTHER_NODE, code="timeout")


def refused(subnet: Subnet, detail: str) -> ChainError:
    return ChainError(
        f"{subnet.node_shown} turns us away ({shown(detail)})",
        remedy="wait a few minutes, or name another node in SUBTENSOR_ADDRESS",
        code="refused",
    )


def bad_answer(subnet: Subnet, detail: str) -> ChainError:
    return ChainError(
        f"{subnet.node_shown} does not answer as a subtensor node does ({shown(detail)})",
        remedy="see that SUBTENSOR_ADDRESS is a node of Bittensor's chain, and up to date",
        code="bad_answer",
    )


def no_subnet(subnet: Subnet) -> ChainError:
    return ChainError(
        f"there is no subnet {subnet.netuid} on the chain of {subnet.node_shown}",
        remedy="correct NETUID, or SUBTENSOR_NETWORK and SUBTENSOR_ADDRESS",
        code="no_subnet",
    )


def not_registered(subnet: Subnet, hotkey: str, wallet: str) -> ChainError:
    return ChainError(
        f"the hotkey {hotkey} is not registered on subnet {subnet.netuid} of {subnet.network_flag}",
        remedy=(
            "register it, from the machine that holds the coldkey; that costs TAO, which the miner never spends:"
            f" btcli subnet register --netuid {subnet.netuid} --network {subnet.network_flag}"
            f" --wallet {wallet} --hotkey {hotkey}"
        ),
        code="not_registered",
    )


def rate_limited(blocks: int) -> ChainError:
    return ChainError(
        f"the last post is too recent: the chain takes the next one in {blocks} blocks, about {minutes(blocks)} min"
        " (ServingRateLimitExceeded)",
        remedy="run the command again then; even the same address counts as a post",
        code="rate_limit",
    )


def not_held(wanted: Axon, held: Axon | None) -> ChainError:
    return ChainError(
        f"the chain took the post of {wanted.shown}, yet holds {held.shown if held else 'nothing'}",
        remedy="another machine may post for the same hotkey: stop it, then run the command again",
        code="not_held",
    )


def posted_elsewhere(wanted: Axon, held: Axon) -> ChainError:
    return ChainError(
        f"the chain names {held.shown}, although this machine's address is still {wanted.shown}, which it posted",
        remedy="another machine uses this hotkey: stop one of the two; `register` without --watch takes the entry back",
        code="posted_elsewhere",
    )


def unknown_outcome(detail: str) -> ChainError:
    return ChainError(
        f"the post was sent, and what became of it is not known: {shown(detail).rstrip('.')}",
        remedy="see what the chain holds before you post again (`register --dry-run`)",
        code="unknown_outcome",
    )


def why_not_taken(name: str | None, message: str, subnet: Subnet, axon: Axon) -> ChainError:
    """Say why a post is not on the chain, from the error's name in the pallet or pool."""
    known = _WHY_NOT.get(name or "")
    if known is not None:
        code, cause, remedy = known
        words = {
            "netuid": subnet.netuid,
            "network": subnet.network_flag,
            "port": axon.port,
            "address": f"give an address that the internet can reach, not {axon.ip}",
        }
        return ChainError(cause.format_map(words), remedy=remedy.format_map(words), code=code)
    refused_by_pool = name is None and "invalid transaction" in message.lower()
    if name in _MAYBE_POSTED or (name is None and not refused_by_pool):
        return unknown_outcome(f"{name}: {message}" if name else message)
    return ChainError(
        f"the chain did not take the post ({f'{name}: ' if name else ''}{shown(message)})",
        remedy="try again in a minute",
        code="rejected",
    )


def shown(detail: str) -> str:
    """Another program's words, short and without what could steer a terminal."""
    text = " ".join("".join(c if c.isprintable() else " " for c in detail).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
