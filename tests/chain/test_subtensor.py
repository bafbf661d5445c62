"""The client against a real node's process: what it reads and posts, and what it says when the node fails it."""

import asyncio
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

import pytest

from app.chain.chain_errors import shown
from app.chain.metagraph_child import ChildMetagraph
from app.chain.networks import NODES, Subnet, subnet_of
from app.chain.subtensor import Subtensor
from app.domain.metagraph import Axon, Metagraph, Neuron
from app.errors import ChainError
from app.protocol.hotkeys import Hotkey
from app.settings import Settings
from tests.chain.node_process import ChainNode
from tests.conftest import StartChain

NETUID: Final = 78
SEED: Final = bytes(range(32))
HOTKEY: Final = Hotkey.from_seed(SEED)
POST: Final = "author_submitAndWatchExtrinsic"
HERE: Final = Axon("8.8.4.4", 8091)
"""Posted only: nobody sends anything there."""


@pytest.fixture(scope="module")
def node(start_chain: StartChain) -> ChainNode:
    node = start_chain("--block-ms", "50")
    node.register(NETUID, HOTKEY.ss58, stake=1234.5, incentive=0.25)
    return node


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "chain-cache"


@pytest.fixture
def subnet(node: ChainNode, cache: Path) -> Subnet:
    node.behave()
    node.rate_limit(NETUID, 0)
    return Subnet(netuid=NETUID, node=node.url, network="finney", cache=str(cache))


def client(subnet: Subnet, seconds: float = 20) -> Subtensor:
    return Subtensor(subnet, read_seconds=seconds, finality_seconds=seconds)


async def failure(work: Awaitable[Any]) -> ChainError:
    with pytest.raises(ChainError) as caught:
        await work
    error = caught.value
    assert error.cause
    assert error.remedy
    assert "\n" not in str(error)
    return error


async def test_the_metagraph_is_read_whole(node: ChainNode, subnet: Subnet, cache: Path) -> None:
    validator = Hotkey.ephemeral().ss58
    uid = node.register(NETUID, validator, permit=True, stake=5000, axon="[2001:db8::7]:9000")
    graph = await client(subnet).metagraph()
    assert graph.netuid == NETUID
    assert graph.block >= 4999
    assert graph.time is not None
    assert abs(time.time() - graph.time) < 60
    assert graph.neuron(validator) == Neuron(
        uid=uid, hotkey=validator, validator_permit=True, stake=5000, axon=Axon("2001:db8::7", 9000)
    )
    own = graph.neuron(HOTKEY.ss58)
    assert own is not None
    assert (own.uid, own.validator_permit, own.stake) == (0, False, 1234.5)
    assert own.incentive == pytest.approx(0.25, abs=1e-4)
    assert graph.neuron(Hotkey.ephemeral().ss58) is None


def test_what_was_fetched_lies_in_the_state_directory(subnet: Subnet, cache: Path) -> None:
    asyncio.run(client(subnet).metagraph())
    assert list(cache.glob("md*.bin"))
    assert cache.parent.stat().st_mode & 0o777 == 0o700


async def test_an_axon_is_posted_and_read_back(node: ChainNode, subnet: Subnet) -> None:
    chain = client(subnet)
    for axon in (Axon("203.0.113.7", 8091), Axon("2001:db8::42", 1), Axon("0.0.0.1", 65535)):
        await chain.serve_axon(HOTKEY, axon)
        held = await chain.posting(HOTKEY.ss58)
        assert held.axon == axon
        assert node.stats().final >= (held.posted_at or 0) > 0, "it returns when the post is final"
    stored = node.axon(NETUID, HOTKEY.ss58)
    assert stored is not None
    fields = ("version", "ip_type", "protocol", "placeholder1", "placeholder2")
    assert {name: stored[name] for name in fields} == dict(zip(fields, (1, 4, 4, 0, 0), strict=True))


async def test_the_rate_limit_is_counted_in_blocks(node: ChainNode, subnet: Subnet) -> None:
    chain = client(subnet)
    await chain.serve_axon(HOTKEY, HERE)
    node.rate_limit(NETUID, 40)
    posting = await chain.posting(HOTKEY.ss58)
    left = posting.blocks_to_wait()
    assert 0 < left <= 40
    assert (await failure(chain.serve_axon(HOTKEY, HERE))).code == "rate_limit"
    node.new_blocks(left)
    await chain.serve_axon(HOTKEY, HERE)


@pytest.mark.parametrize(
    ("axon", "code"),
    [
        (Axon("127.0.0.1", 8091), "bad_address"),  # 11
        (Axon("255.255.255.255", 8091), "bad_address"),
        (Axon("::1", 8091), "bad_address"),
        (Axon("8.8.4.4", 0), "bad_port"),  # 13
    ],
)
async def test_what_the_pallet_refuses(node: ChainNode, subnet: Subnet, axon: Axon, code: str) -> None:
    error = await failure(client(subnet).serve_axon(HOTKEY, axon))
    assert error.code == code
    assert node.stats().submitted == 0


async def test_a_hotkey_without_a_uid(subnet: Subnet) -> None:
    error = await failure(client(subnet).serve_axon(Hotkey.ephemeral(), HERE))
    assert error.code == "not_registered"
    assert "btcli subnet register --netuid 78" in error.remedy


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("Custom error: 255", "bad_address"),
        ("Custom error: 99", "rejected"),
        ("Transaction has a bad signature", "wrong_chain"),
        ("Transaction is outdated", "rejected"),
    ],
)
async def test_what_the_pool_refuses(node: ChainNode, subnet: Subnet, data: str, code: str) -> None:
    node.behave(rpc_errors={POST: {"code": 1010, "message": "Invalid Transaction", "data": data}})
    assert (await failure(client(subnet).serve_axon(HOTKEY, HERE))).code == code


async def test_a_post_that_fails_inside_its_block(node: ChainNode, subnet: Subnet) -> None:
    node.behave(fail_dispatch={"Module": {"index": 7, "error": "0x05000000"}})
    error = await failure(client(subnet).serve_axon(HOTKEY, HERE))
    assert error.code == "rejected"


async def test_there_is_no_such_subnet(node: ChainNode, subnet: Subnet) -> None:
    other = Subnet(netuid=79, node=subnet.node, network=subnet.network, cache=subnet.cache)
    error = await failure(client(other).metagraph())
    assert error.code == "no_subnet"
    assert "no subnet 79" in error.cause
    assert "NETUID" in error.remedy


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"silent": True}, "timeout"),
        ({"handshake": False}, "timeout"),
        ({"rubbish": True}, "timeout"),
        ({"slow_ms": 1500}, "timeout"),
        ({"http_status": 429}, "refused"),
        ({"http_status": 403}, "refused"),
        ({"http_status": 503}, "unreachable"),
        ({"rpc_errors": {"state_call": {"code": -32000, "message": "odd\x1b[31m\nwords"}}}, "bad_answer"),
        ({"rpc_errors": {"state_getRuntimeVersion": {"code": -32601, "message": "Method not found"}}}, "unreachable"),
    ],
)
async def test_a_node_that_fails(node: ChainNode, subnet: Subnet, behaviour: dict[str, Any], code: str) -> None:
    node.behave(**behaviour)
    started = time.monotonic()
    error = await failure(client(subnet, 2).metagraph())
    assert error.code == code
    assert node.url in error.cause
    assert "\x1b" not in str(error)
    assert time.monotonic() - started < 10, "two seconds, and room for a loaded machine"


async def test_the_time_of_a_lagging_nodes_block(node: ChainNode, subnet: Subnet) -> None:
    node.behave(stall_head=True)
    node.order("dev_set", pallet="Timestamp", item="Now", params=[], value=1_700_000_000_000)
    assert (await client(subnet).metagraph()).time == 1_700_000_000


async def test_a_node_that_closes_in_the_middle(node: ChainNode, subnet: Subnet) -> None:
    node.behave(close_before="state_call")
    assert (await failure(client(subnet).metagraph())).code == "unreachable"


async def test_a_slow_node_is_waited_for(node: ChainNode, subnet: Subnet) -> None:
    node.behave(slow_ms=100)
    assert (await client(subnet).metagraph()).neuron(HOTKEY.ss58)


@pytest.mark.parametrize(
    "behaviour",
    [
        {"close_before": POST},
        {"close_after": POST},
        {"close_at": "inBlock"},
        {"close_at": "finalized"},
        {"end_watch": "dropped"},
        {"end_watch": "finalityTimeout"},
        {"stall_finality": True},
        {"stall_head": True},
        {"rpc_errors": {POST: {"code": 1013, "message": "Transaction is already imported"}}},
    ],
    ids=str,
)
async def test_a_post_whose_outcome_is_not_known(node: ChainNode, subnet: Subnet, behaviour: dict[str, Any]) -> None:
    node.behave(**behaviour)
    error = await failure(Subtensor(subnet, read_seconds=20, finality_seconds=2).serve_axon(HOTKEY, HERE))
    assert error.code == "unknown_outcome"
    assert "before you post again" in error.remedy


async def test_a_node_that_falls_silent_before_the_post_leaves_nothing_open(node: ChainNode, subnet: Subnet) -> None:
    node.behave(silent=True)
    assert (await failure(client(subnet, 2).serve_axon(HOTKEY, HERE))).code == "timeout"
    assert node.stats().submitted == 0


async def test_nothing_listens(subnet: Subnet, start_chain: StartChain) -> None:
    gone = start_chain()
    gone.stop()
    down = Subnet(netuid=NETUID, node=gone.url, network="finney", cache=subnet.cache)
    assert (await failure(client(down).metagraph())).code == "unreachable"


async def test_a_name_that_leads_nowhere(subnet: Subnet) -> None:
    lost = Subnet(netuid=NETUID, node="ws://node.invalid:9944", network="finney", cache=subnet.cache)
    error = await failure(client(lost).metagraph())
    assert error.code == "unreachable"
    assert "ws://node.invalid:9944" in error.cause


async def test_threat_18_keys_in_a_nodes_address_are_never_shown(cache: Path, start_chain: StartChain) -> None:
    gone = start_chain()
    gone.stop()
    for path in ("/canary", "/v1?key=canary", "?canary"):
        node = f"ws://canary:canary@127.0.0.1:{gone.port}{path}"
        subnet = Subnet(netuid=NETUID, node=node, network="finney", cache=str(cache))
        assert "canary" not in str(await failure(client(subnet).metagraph()))
    assert "canary" not in str(await failure(ChildMetagraph(subnet).metagraph()))


async def test_the_metagraph_out_of_a_child_process(node: ChainNode, subnet: Subnet) -> None:
    mine = await client(subnet).metagraph()
    childs = await ChildMetagraph(subnet).metagraph()
    assert isinstance(childs, Metagraph)
    assert childs.neurons == mine.neurons
    assert childs.block >= mine.block


async def test_the_childs_error_is_the_readers_own(node: ChainNode, subnet: Subnet) -> None:
    node.behave(silent=True)
    error = await failure(ChildMetagraph(subnet, read_seconds=1).metagraph())
    assert (error.code, error.cause) == ("timeout", f"{node.url} did not answer within 1 s")


async def test_a_child_that_can_not_even_start_says_why(subnet: Subnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    error = await failure(ChildMetagraph(subnet).metagraph())
    assert error.code == "crashed"
    assert "failed with status" in error.cause


async def test_no_process_can_be_had(subnet: Subnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    error = await failure(ChildMetagraph(subnet).metagraph())
    assert error.code == "crashed"
    assert "can't be started" in error.cause


async def test_a_reading_that_is_given_up_leaves_no_child(node: ChainNode, subnet: Subnet) -> None:
    node.behave(silent=True)
    reading = asyncio.create_task(ChildMetagraph(subnet).metagraph())
    await asyncio.to_thread(_wait_asked, node)
    children = await asyncio.to_thread(_children)
    assert len(children) == 1
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not await asyncio.to_thread(_children)


def _wait_asked(node: ChainNode) -> None:
    while not node.stats().methods:
        time.sleep(0.05)


def _children() -> list[str]:
    """Command lines of this process's metagraph readers."""
    import psutil  # noqa: PLC0415 - only here

    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    return [command for command in commands if "app.chain.metagraph_process" in command]


def test_where_the_node_is() -> None:
    assert subnet_of(Settings()).node == NODES["finney"]
    assert subnet_of(Settings(subtensor_network="local")).node == "ws://127.0.0.1:9945"
    given = subnet_of(
        Settings(subtensor_network="test", subtensor_address="wss://me:key@node.example:443/path?token=1")
    )
    assert given.node == "wss://me:key@node.example:443/path?token=1"
    assert given.node_shown == "wss://node.example:443"
    assert given.network_flag == "wss://node.example:443"
    assert subnet_of(Settings(subtensor_network="test")).network_flag == "test"


def test_other_programs_words_are_shown_short_and_tame() -> None:
    assert shown("a\x1b[31m\n  b\u202e") == "a [31m b"
    assert len(shown("x" * 10_000)) < 400
