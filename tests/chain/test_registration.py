"""`register` from settings and wallet to the chain's storage, in this process, against a real node's."""

import ipaddress
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec
import pytest

from app.cli.registering import Registering, Report, Wish
from app.domain.posting import minutes
from app.errors import SettingsError, WalletError
from app.protocol.hotkeys import Hotkey
from tests.chain.node_process import ChainNode
from tests.conftest import StartChain

NETUID: Final = 78
CORE: Final[Any] = bittensor_core
POST: Final = "author_submitAndWatchExtrinsic"
HERE: Final = "8.8.4.4"
ELSEWHERE: Final = "1.0.0.1"


class Operator:
    """A person at a machine with a wallet of its own; nothing is ever sent to the addresses that are posted."""

    def __init__(self, home: Path, node: ChainNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.home = home
        self.lines: list[str] = []
        self.asked = 0
        keypair = CORE.Keypair.create_from_mnemonic(CORE.Keypair.generate_mnemonic(12))
        self.hotkey: str = keypair.ss58_address
        file = home / ".bittensor/wallets/miner/hotkeys/miner"
        file.parent.mkdir(parents=True)
        file.write_bytes(CORE.serialized_keypair_to_keyfile_data(keypair))
        file.chmod(0o600)
        self.file = file
        self.secrets = [
            str(value) for name, value in json.loads(file.read_text()).items() if name.startswith(("secret", "private"))
        ]
        for name in ("HOTKEY_FILE", "XDG_STATE_HOME", "SUBTENSOR_NETWORK", "EXTERNAL_ADDRESS", "CREDENTIALS_DIRECTORY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("SUBTENSOR_ADDRESS", node.url)
        monkeypatch.chdir(home)

    def register(self, address: str | None = HERE, *, answer: bool | None = True, **wish: object) -> Report:
        """Run the command; `answer` is what the person says, None that nobody is there."""

        def ask() -> bool | None:
            self.asked += 1
            return answer

        wanted = msgspec.convert({"address": address, "probe": False, "timeout": 10.0, **wish}, Wish)
        report = Registering(wanted, show=self._show, ask=ask).run()
        for text in (*self.lines, str(report)):
            assert not any(secret in text for secret in self.secrets)
        if report.error is not None:
            assert report.exit_code != 0
            assert report.error.cause
            assert report.error.remedy
        return report

    def get_uid(self, **given: object) -> int:
        return self.node.register(NETUID, self.hotkey, **given)

    def held(self) -> str | None:
        axon = self.node.axon(NETUID, self.hotkey)
        return f"{axon['ip']}:{axon['port']}" if axon else None

    def posts(self) -> int:
        return self.node.stats().submitted

    def _show(self, lines: Iterator[str]) -> None:
        self.lines += lines


@pytest.fixture(scope="module")
def node(start_chain: StartChain) -> ChainNode:
    node = start_chain("--block-ms", "50")
    node.add_subnet(NETUID)
    return node


@pytest.fixture
def operator(tmp_path: Path, node: ChainNode, monkeypatch: pytest.MonkeyPatch) -> Operator:
    node.behave()
    node.rate_limit(NETUID, 0)
    return Operator(tmp_path, node, monkeypatch)


def number(address: str, port: int = 8000) -> str:
    return f"{int(ipaddress.ip_address(address))}:{port}"


def test_posting_and_then_having_nothing_to_do(operator: Operator) -> None:
    operator.get_uid()
    first = operator.register()
    assert (first.outcome, first.exit_code, first.chain, first.wanted) == ("posted", 0, None, "8.8.4.4:8000")
    assert operator.held() == number(HERE)
    assert (operator.posts(), operator.asked) == (1, 1)
    second = operator.register()
    assert (second.outcome, second.exit_code, second.chain) == ("kept", 0, "8.8.4.4:8000")
    assert (operator.posts(), operator.asked) == (1, 1), "nothing to ask, nothing to post"
    assert any("nothing to post" in line for line in operator.lines)


def test_what_will_change_is_shown_before_it_is_asked(operator: Operator) -> None:
    uid = operator.get_uid(axon="9.9.9.9:1")
    declined = operator.register(answer=False)
    assert (declined.outcome, declined.exit_code) == ("declined", 1)
    assert operator.posts() == 0
    text = "\n".join(operator.lines)
    assert f"hotkey   {operator.hotkey}, UID {uid} on subnet 78" in text
    assert "chain    9.9.9.9:1" in text
    assert "wanted   8.8.4.4:8000" in text


def test_where_nobody_can_be_asked_nothing_is_posted(operator: Operator) -> None:
    operator.get_uid()
    report = operator.register(answer=None)
    assert report.error is not None
    assert (report.error.code, report.exit_code, operator.posts()) == ("not_confirmed", 2, 0)
    assert "--yes" in report.error.remedy


def test_a_dry_run_posts_nothing_and_asks_nothing(operator: Operator) -> None:
    operator.get_uid()
    report = operator.register(dry_run=True)
    assert (report.outcome, report.exit_code, report.wanted) == ("would_post", 0, "8.8.4.4:8000")
    assert (operator.posts(), operator.asked) == (0, 0)
    assert not (operator.home / ".local/state/loosh-miner/posted-axon.json").exists()


def test_a_hotkey_without_a_uid_gets_the_command_to_run(operator: Operator) -> None:
    report = operator.register()
    assert report.error is not None
    assert (report.error.code, report.exit_code) == ("not_registered", 3)
    assert (
        f"btcli subnet register --netuid 78 --network {operator.node.url} --wallet miner --hotkey {operator.hotkey}"
        in report.error.remedy
    )
    assert "TAO" in report.error.remedy
    assert operator.posts() == 0
    assert operator.asked == 0


def test_the_rate_limit_is_told_in_blocks_and_minutes(operator: Operator) -> None:
    operator.get_uid()
    operator.register()
    operator.node.rate_limit(NETUID, 2000)
    report = operator.register(ELSEWHERE)
    assert report.error is not None
    assert (report.error.code, report.exit_code) == ("rate_limit", 1)
    assert 0 < report.blocks_to_wait < 2000
    assert f"{report.blocks_to_wait} blocks, about {minutes(report.blocks_to_wait)} min" in report.error.cause
    assert operator.posts() == 1
    assert operator.asked == 1, "what can't be done is not asked for"
    assert operator.register(ELSEWHERE, dry_run=True).blocks_to_wait > 0


def test_a_rate_limit_that_only_the_chain_knows_of(operator: Operator) -> None:
    operator.get_uid()
    operator.node.behave(
        rpc_errors={POST: {"code": 1010, "message": "Invalid Transaction", "data": "Custom error: 12"}}
    )
    report = operator.register()
    assert report.error is not None
    assert (report.error.code, report.exit_code) == ("rate_limit", 1)


@pytest.mark.parametrize(
    ("address", "code", "exit_code"),
    [
        ("10.0.0.1", "not_public", 2),
        ("::ffff:8.8.4.4", "not_public", 2),
        ("localhost", "not_public", 2),
        ("8.8.4.4:80", "bad_address", 2),
        ("", "bad_address", 2),
        ("miner.invalid", "dns", 1),
    ],
)
def test_an_address_that_will_not_do(operator: Operator, address: str, code: str, exit_code: int) -> None:
    operator.get_uid()
    report = operator.register(address)
    assert report.error is not None
    assert (report.error.code, report.exit_code, operator.posts()) == (code, exit_code, 0)


def test_what_only_the_chain_refuses(operator: Operator) -> None:
    operator.get_uid()
    report = operator.register("127.0.0.1", allow_private=True)
    assert report.error is not None
    assert (report.error.code, report.exit_code, operator.held()) == ("bad_address", 2, None)
    assert operator.register("127.0.0.2", allow_private=True).outcome == "posted"


def test_ipv6(operator: Operator) -> None:
    operator.get_uid()
    report = operator.register("2606:4700::1111", port=9000)
    assert (report.outcome, report.wanted) == ("posted", "[2606:4700::1111]:9000")
    assert operator.held() == number("2606:4700::1111", 9000)
    assert operator.register("2606:4700:0::1111", port=9000).outcome == "kept"


def test_a_host_name(operator: Operator) -> None:
    operator.get_uid()
    report = operator.register("localhost", allow_private=True)
    assert report.wanted == "127.0.0.1:8000"
    assert report.error is not None
    assert report.error.code == "bad_address", "the chain takes 127.0.0.1 from nobody"


def test_address_and_port_from_the_settings(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.get_uid()
    monkeypatch.setenv("EXTERNAL_ADDRESS", ELSEWHERE)
    (operator.home / ".env").write_text("EXTERNAL_PORT=8091\nAPI_PORT=9000\n")
    assert operator.register(None, dry_run=True).wanted == "1.0.0.1:8091"
    (operator.home / ".env").write_text("API_PORT=9000\n")
    assert operator.register(None, dry_run=True).wanted == "1.0.0.1:9000"
    assert operator.register("8.8.4.4", port=1, dry_run=True).wanted == "8.8.4.4:1"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"silent": True}, "timeout"),
        ({"handshake": False}, "timeout"),
        ({"slow_ms": 3000}, "timeout"),
        ({"http_status": 429}, "refused"),
        ({"close_before": "state_call"}, "unreachable"),
        ({"rubbish": True}, "timeout"),
    ],
)
def test_a_node_that_fails(operator: Operator, behaviour: dict[str, Any], code: str) -> None:
    operator.get_uid()
    operator.node.behave(**behaviour)
    started = time.monotonic()
    report = operator.register(timeout=1.0 if code == "timeout" else 20.0)
    assert report.error is not None
    assert (report.error.code, report.exit_code) == (code, 1)
    assert time.monotonic() - started < 15
    assert operator.posts() == 0


def test_a_node_of_another_network(
    operator: Operator, start_chain: StartChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no such subnet, or has it with other neurons: either is told, and nothing is posted."""
    other = start_chain("--network", "other")
    monkeypatch.setenv("SUBTENSOR_ADDRESS", other.url)
    without = operator.register()
    assert without.error is not None
    assert (without.error.code, without.exit_code) == ("no_subnet", 1)
    other.add_subnet(NETUID)
    with_others = operator.register()
    assert with_others.error is not None
    assert with_others.error.code == "not_registered"
    other.stop()
    gone = operator.register()
    assert gone.error is not None
    assert (gone.error.code, gone.exit_code) == ("unreachable", 1)


@pytest.mark.parametrize(
    "behaviour", [{"close_after": POST}, {"close_at": "inBlock"}, {"close_at": "finalized"}], ids=str
)
def test_a_connection_that_breaks_after_the_post_is_read_back(operator: Operator, behaviour: dict[str, Any]) -> None:
    operator.get_uid()
    operator.node.behave(**behaviour)
    report = operator.register()
    assert (report.outcome, report.exit_code) == ("posted", 0)
    assert operator.held() == number(HERE)


@pytest.mark.parametrize("behaviour", [{"close_before": POST}, {"end_watch": "dropped"}, {"stall_head": True}], ids=str)
def test_a_post_that_does_not_turn_up_is_said_to_be_open(operator: Operator, behaviour: dict[str, Any]) -> None:
    operator.get_uid()
    operator.node.behave(**behaviour)
    started = time.monotonic()
    report = operator.register(timeout=2.0)
    assert report.error is not None
    assert (report.error.code, report.exit_code, report.outcome) == ("unknown_outcome", 4, "failed")
    assert operator.held() is None
    assert time.monotonic() - started < 40
    assert not (operator.home / ".local/state/loosh-miner/posted-axon.json").exists()


def test_a_post_in_a_block_that_never_gets_final(operator: Operator) -> None:
    operator.get_uid()
    operator.node.behave(stall_finality=True)
    report = operator.register(timeout=2.0)
    assert report.outcome == "posted", "the chain holds it: the time-out does not hide that"


def test_another_address_on_the_chain_after_the_post(operator: Operator) -> None:
    operator.get_uid()
    operator.node.behave(overwrite_axon="9.9.9.9:1")
    report = operator.register()
    assert report.error is not None
    assert (report.error.code, report.exit_code, report.outcome) == ("not_held", 1, "failed")
    assert "9.9.9.9:1" in report.error.cause
    assert not (operator.home / ".local/state/loosh-miner/posted-axon.json").exists()


def test_a_post_that_fails_inside_its_block(operator: Operator) -> None:
    operator.get_uid()
    operator.node.behave(fail_dispatch={"Module": {"index": 7, "error": "0x05000000"}})
    report = operator.register()
    assert report.error is not None
    assert (report.error.code, report.exit_code, operator.held()) == ("rejected", 1, None)


def test_a_validators_stake_is_warned_about(operator: Operator) -> None:
    operator.get_uid(stake=1000)
    assert "999" in operator.register(dry_run=True).warnings[0]


def test_watching_posts_when_the_address_changed_or_the_entry_vanished(operator: Operator) -> None:
    uid = operator.get_uid()
    assert operator.register(watch=True).outcome == "posted"
    assert operator.register(watch=True).outcome == "kept"
    assert operator.register(ELSEWHERE, watch=True).outcome == "posted"
    assert operator.posts() == 2
    operator.node.replace(NETUID, uid, Hotkey.ephemeral().ss58)
    gone = operator.register(ELSEWHERE, watch=True)
    assert gone.exit_code == 3
    operator.get_uid()
    assert operator.register(ELSEWHERE, watch=True).outcome == "posted"
    assert operator.held() == number(ELSEWHERE)


def test_two_watches_do_not_take_the_entry_from_each_other(operator: Operator) -> None:
    operator.get_uid()
    operator.register(watch=True)
    operator.node.change(NETUID, operator.hotkey, axon="9.9.9.9:1")
    for dry_run in (False, True):
        report = operator.register(watch=True, dry_run=dry_run)
        assert report.error is not None
        assert (report.error.code, report.exit_code) == ("posted_elsewhere", 1)
    assert operator.posts() == 1
    assert operator.register().outcome == "posted", "by hand it takes the entry back"


def test_what_was_posted_is_remembered_for_this_hotkey_and_chain_only(operator: Operator) -> None:
    operator.get_uid()
    operator.register()
    state = operator.home / ".local/state/loosh-miner"
    file = state / "posted-axon.json"
    assert json.loads(file.read_text())["axon"] == {"ip": HERE, "port": 8000}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    file.write_text("{ damaged")
    operator.node.change(NETUID, operator.hotkey, axon="9.9.9.9:1")
    assert operator.register(watch=True).outcome == "posted", "nothing known counts as a first post"


def test_a_state_directory_that_can_not_be_used_stops_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.get_uid()
    (operator.home / "file").write_text("")
    monkeypatch.setenv("STATE_DIR", str(operator.home / "file" / "state"))
    assert operator.register().outcome == "posted"


@pytest.mark.parametrize("network", ["finney", "test"])
def test_private_addresses_are_for_local_networks(
    operator: Operator, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBTENSOR_ADDRESS")
    monkeypatch.setenv("SUBTENSOR_NETWORK", network)
    with pytest.raises(SettingsError, match="--allow-private"):
        operator.register("10.0.0.1", allow_private=True)


def test_threat_17_a_wallet_that_is_open_to_others_posts_nothing(operator: Operator) -> None:
    operator.get_uid()
    operator.file.chmod(0o644)
    with pytest.raises(WalletError, match="chmod 600"):
        operator.register()
    operator.file.chmod(0o600)
    (operator.home / ".bittensor/wallets/miner/coldkey").write_text("canary")
    with pytest.raises(WalletError, match="coldkey"):
        operator.register()
    assert operator.posts() == 0
