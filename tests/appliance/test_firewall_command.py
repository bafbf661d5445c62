"""`loosh-miner firewall` as an operator and a timer use it: what it loads, what it refuses, what it leaves alone."""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.chain.list_origins import list_origins
from app.settings import Settings
from tests.appliance.kept_list import keep_list
from tests.appliance.namespaces import Machine, why_not
from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.chain.registered import NETUID, on_chain, write_hotkey
from tests.cli.command import Outcome, command, environment, run
from tests.miner.validator import Hotkey

TABLE = "inet loosh_miner"
OLD = 25 * 3600

type Firewall = Callable[..., Outcome]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if reason := why_not():
        pytest.skip(reason)
    machine = Machine("command")
    yield machine
    machine.remove()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    keep_list(tmp_path / "state", {"a": ("8.8.8.8",), "b": ("2600::8",)})
    return tmp_path / "state"


@pytest.fixture
def firewall(machine: Machine, tmp_path: Path) -> Firewall:
    """Run the command in a machine without rules."""
    machine.nft("flush", "ruleset")

    def call(*arguments: str, **given: str) -> Outcome:
        settings = {"STATE_DIR": str(tmp_path / "state")} | given
        return machine.inside(lambda: run(tmp_path, "firewall", *arguments, seconds=60, **settings))

    return call


def exported(home: Path, *arguments: str, **given: str) -> Outcome:
    """What needs neither root nor a packet filter."""
    settings = {"STATE_DIR": str(home / "state")} | given
    return run(home, "firewall", "export", *arguments, seconds=60, **settings)


def test_help_says_why_it_is_off_and_what_the_exit_codes_are(tmp_path: Path) -> None:
    done = run(tmp_path, "firewall", "--help")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "Off unless you apply it, because it can lock validators out" in words
    assert "Exit codes: 0 done, 1 it failed" in words


def test_export_prints_rules_and_nothing_else(tmp_path: Path, state: Path) -> None:
    done = exported(tmp_path, API_PORT="9001", FIREWALL_ALLOW="10.9.0.0/16", TRUSTED_PROXIES="10.8.0.1")
    assert done.code == 0
    assert done.out.startswith("# Made by")
    for part in ("8.8.8.8", "2600::8", "10.8.0.1", "ip saddr 10.9.0.0/16 accept", "tcp dport 9001 "):
        assert part in done.out, part
    assert done.err == "warning: TRUSTED_PROXIES are let in: whoever reaches a proxy reaches the miner through it\n"
    in_json = exported(tmp_path, "--format", "json", FIREWALL_PORT="9002")
    assert len(in_json.object()["nftables"]) > 5
    assert "9002" in in_json.out
    assert [file.name for file in state.iterdir() if "firewall" in file.name] == []


def test_export_without_a_list_is_refused(tmp_path: Path) -> None:
    done = exported(tmp_path)
    assert (done.code, done.out) == (3, "")
    assert "holds no list of validators" in done.err
    assert "STATE_DIR" in done.err


def test_only_the_lists_of_this_subnet_and_api_count(tmp_path: Path, state: Path) -> None:
    """Others were kept before the settings changed: whom the miner no longer serves is not let in either."""
    elsewhere = exported(tmp_path, CHALLENGE_API_URL="https://other.example")
    assert (elsewhere.code, elsewhere.out) == (3, "")
    assert "holds no list of validators" in elsewhere.err
    chain, other = list_origins(Settings())["metagraph"], list_origins(Settings(netuid=79))["metagraph"]
    keep_list(state, {"c": ("9.9.9.9",)}, source="metagraph", origin=other)
    assert "9.9.9.9" not in exported(tmp_path).out
    assert "elements = { 9.9.9.9 }" in exported(tmp_path, NETUID="79", CHALLENGE_API_URL="https://other.example").out
    keep_list(state, {"c": ("9.9.9.9",)}, source="metagraph", origin=chain, stake=999.0)
    assert "9.9.9.9" in exported(tmp_path, MIN_VALIDATOR_STAKE="999").out
    poor = exported(tmp_path, MIN_VALIDATOR_STAKE="1000")
    assert "9.9.9.9" not in poor.out
    assert "8.8.8.8" in poor.out, "a stake is asked of the metagraph's only"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"FIREWALL_ALLOW": "0.0.0.0/0"}, "FIREWALL_ALLOW: 0.0.0.0/0 is everyone"),
        ({"FIREWALL_ALLOW": "::/0"}, "FIREWALL_ALLOW: ::/0 is everyone"),
        ({"FIREWALL_ALLOW": "example.org"}, "FIREWALL_ALLOW"),
        ({"FIREWALL_PORT": "22"}, "FIREWALL_PORT: 22 is SSH's"),
        ({"FIREWALL_PORT": "0"}, "FIREWALL_PORT"),
    ],
)
def test_settings_that_open_all_or_lock_out_the_operator(tmp_path: Path, given: dict[str, str], problem: str) -> None:
    done = exported(tmp_path, **given)
    assert done.code == 2
    assert problem in done.err


def test_fresh_asks_chain_and_api(tmp_path: Path, chain: ChainNode, challenge_api: ChallengeApiProcess) -> None:
    write_hotkey(tmp_path)
    listed, permitted = Hotkey(), Hotkey()
    chain.add_subnet(NETUID)
    chain.register(NETUID, permitted.ss58, permit=True, stake=2000.0, axon="9.9.9.9:8000")
    challenge_api.behave({"hotkey_ss58": listed.ss58, "status": "active", "ip": "8.8.4.4"})
    given = {name: str(value) for name, value in on_chain(tmp_path, chain, challenge_api).items()}
    done = exported(tmp_path, "--fresh", **given)
    assert done.code == 0, done.err
    assert "elements = { 8.8.4.4, 9.9.9.9 }" in done.out
    without_chain = {name: str(value) for name, value in on_chain(tmp_path, None, challenge_api).items()}
    done = exported(tmp_path, "--fresh", **without_chain)
    assert done.code == 0, done.err
    assert "elements = { 8.8.4.4 }" in done.out
    assert "its last list is taken" in done.err
    assert not (tmp_path / "state").exists(), "it may be root who asks: nothing is left in the miner's directory"
    alone = {name: str(value) for name, value in on_chain(tmp_path, None, None).items()}
    done = exported(tmp_path, "--fresh", **alone)
    assert (done.code, done.out) == (1, "")
    done = exported(tmp_path, "--fresh", DEVELOPMENT_MODE="on")
    assert done.code == 2
    assert "development mode" in done.err


def test_apply_loads_what_changed_and_nothing_else(firewall: Firewall, machine: Machine, state: Path) -> None:
    assert firewall("status").code == 3
    done = firewall("apply")
    assert (done.code, done.err) == (0, "")
    assert done.out == "loaded: 2 validators' addresses may reach port 8000, and nobody else from outside\n"
    kept = state / "firewall.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    handle = machine.nft("-a", "list", "table", *TABLE.split())
    assert firewall("apply").out.startswith("unchanged")
    assert machine.nft("-a", "list", "table", *TABLE.split()) == handle, "nothing was loaded"
    assert firewall("status").code == 0
    shown = firewall("status", "--json").object()
    assert shown["loaded"] is shown["as_applied"] is True
    assert shown["table"] == {"port": 8000, "v4": 1, "v6": 1, "dropped_packets": 0, "dropped_bytes": 0}
    assert shown["kept_addresses"] == 2
    for changed in ({"API_PORT": "9001"}, {"FIREWALL_ALLOW": "10.0.0.0/8"}):
        assert firewall("apply", **changed).out.startswith("loaded")
        assert firewall("apply", **changed).out.startswith("unchanged")


def test_what_was_changed_by_hand_is_seen_and_mended(firewall: Firewall, machine: Machine, state: Path) -> None:
    assert firewall("apply").code == 0
    machine.nft("add", "element", *TABLE.split(), "allowed_v4", "{ 6.6.6.6 }")
    done = firewall("status")
    assert done.code == 3
    assert "changed by hand" in done.out
    assert firewall("apply").out.startswith("loaded")
    assert "6.6.6.6" not in machine.rules()
    machine.nft("delete", "chain", *TABLE.split(), "attempts")
    machine.nft("flush", "ruleset")
    assert "none: anybody may reach the port" in firewall("status").out
    assert firewall("apply").out.startswith("loaded")
    assert firewall("status").code == 0


@pytest.mark.parametrize("fault", ["empty", "old", "damaged", "gone", "no address", "most without", "other API"])
def test_a_list_that_would_lock_validators_out_changes_nothing(
    firewall: Firewall, machine: Machine, state: Path, fault: str
) -> None:
    assert firewall("apply").code == 0
    before, kept = machine.rules(), (state / "firewall.json").read_bytes()
    given: dict[str, str] = {}
    match fault:
        case "empty":
            keep_list(state, {})
        case "old":
            keep_list(state, {"a": ("8.8.8.8",)}, age=OLD)
        case "damaged":
            (state / "miner.db").write_bytes(b"not a database" * 1000)
        case "gone":
            (state / "miner.db").unlink()
        case "no address":
            keep_list(state, {"a": (), "b": ("10.0.0.1",)})
        case "most without":
            keep_list(state, {"a": ("8.8.8.8",), "b": (), "c": ("127.0.0.1",)})
        case _:
            given = {"CHALLENGE_API_URL": "https://another.example"}
    done = firewall("apply", **given)
    assert (done.code, done.out) == (3, "")
    assert "the rules in force stay as they are" in done.err
    assert machine.rules() == before
    assert (state / "firewall.json").read_bytes() == kept
    forced = firewall("apply", "--force", **given)
    if fault == "most without":
        assert forced.code == 0
        assert "2 of 3 allowed validators have no usable address" in forced.err
    else:
        assert (forced.code, machine.rules()) == (3, before)


def test_the_kernels_refusal_changes_nothing(firewall: Firewall, machine: Machine, tmp_path: Path, state: Path) -> None:
    """`nft` that passes the trial and then fails: as a kernel does that lacks a part."""
    assert firewall("apply").code == 0
    before, kept = machine.rules(), (state / "firewall.json").read_bytes()
    keep_list(state, {"a": ("9.9.9.9",)})
    real = "/usr/sbin/nft"
    for name, failing in (("trial", '"-c -f -"'), ("load", '"-f -"')):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "nft").write_text(
            f'#!/bin/sh\n[ "$*" = {failing} ] && {{ echo "Error: Could not process rule: Operation not supported" >&2;'
            f' exit 1; }}\nexec {real} "$@"\n'
        )
        (folder / "nft").chmod(0o755)
        done = firewall("apply", PATH=f"{folder}:/usr/bin:/bin")
        assert (done.code, done.out) == (1, "")
        assert "refuses the rules" in done.err
        assert "Operation not supported" in done.err
        assert machine.rules() == before
        assert (state / "firewall.json").read_bytes() == kept
    assert firewall("apply").out.startswith("loaded")


def test_at_boot_the_last_good_addresses_are_loaded(firewall: Firewall, machine: Machine, state: Path) -> None:
    done = firewall("apply", "--restore")
    assert done.code == 3
    assert "no rules that were good before" in done.err
    assert firewall("apply").code == 0
    before = machine.rules()
    machine.nft("flush", "ruleset")
    (state / "miner.db").unlink()
    assert firewall("apply", "--restore").out.startswith("loaded: 2 validators' addresses")
    assert machine.rules() == before
    assert firewall("apply", "--restore").out.startswith("unchanged")
    assert firewall("apply", "--restore", "--force").code == 2
    (state / "firewall.json").write_text("{")
    assert firewall("apply", "--restore").code == 3
    assert machine.rules() == before


def test_what_is_kept_can_only_name_addresses(firewall: Firewall, machine: Machine, state: Path) -> None:
    """The miner's own user may write STATE_DIR; root must not load what it likes."""
    assert firewall("apply").code == 0
    kept = json.loads((state / "firewall.json").read_text())
    kept["addresses"] = ["0.0.0.0/0", "127.0.0.1", "8.8.8.8 } ; }; flush ruleset", "9.9.9.9"]
    (state / "firewall.json").write_text(json.dumps(kept))
    assert firewall("apply", "--restore").out.startswith("loaded: 1 validators' address ")
    assert "elements = { 9.9.9.9 }" in machine.rules()
    secret = state.parent / "secret"
    secret.write_text("{}")
    (state / "firewall.json").unlink()
    (state / "firewall.json").symlink_to(secret)
    assert firewall("apply", "--restore").code == 1
    (state / "firewall.json").unlink()
    assert firewall("apply").code == 0


def test_a_missing_state_dir_is_not_made(firewall: Firewall, machine: Machine, tmp_path: Path) -> None:
    """Made by root, it would be closed to the miner."""
    write_hotkey(tmp_path)
    with ChallengeApiProcess() as elsewhere:
        elsewhere.behave({"hotkey_ss58": Hotkey().ss58, "status": "active", "ip": "8.8.4.4"})
        lists = {name: str(value) for name, value in on_chain(tmp_path, None, elsewhere).items()}
    assert not (tmp_path / "state").exists()
    assert firewall("apply", "--fresh", **lists).code == 1
    assert not (tmp_path / "state").exists()
    assert TABLE not in machine.rules()


def test_without_root_it_says_so(machine: Machine, tmp_path: Path, state: Path) -> None:
    for arguments in (("apply",), ("remove",), ("status",)):
        done = machine.inside(
            lambda arguments=arguments: subprocess.run(
                ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *command("firewall", *arguments)],
                cwd=tmp_path,
                env=environment(tmp_path, STATE_DIR=str(state)),
                capture_output=True,
                text=True,
                check=False,
            )
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "loosh-miner: the packet filter needs root (or CAP_NET_ADMIN): run it with sudo\n"


def test_the_miner_can_still_write_its_list(firewall: Firewall, state: Path) -> None:
    """Reading as root leaves no file behind that locks the miner out."""
    assert firewall("apply").code == 0
    keep_list(state, {"c": ("9.9.9.9",)})
    with sqlite3.connect(state / "miner.db") as database:
        assert database.execute("SELECT hotkey FROM allow_list_validator").fetchall() == [("c",)]
    database.close()
