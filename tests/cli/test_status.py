"""`status` and `validators`, of a running miner and without one."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.chain.registered import NETUID, health, on_chain, until, write_hotkey
from tests.cli.command import Outcome, run
from tests.conftest import StartMiner
from tests.miner.process import MinerProcess, StubEngine, free_port
from tests.miner.validator import Hotkey
from tests.must_hold.conftest import NewValidator, new_validator

__all__ = ["new_validator"]


def ask(miner: MinerProcess, *arguments: str) -> Outcome:
    given = {name: value for name, value in miner.settings.items() if name not in {"HOME", "PATH", "LANG"}}
    return run(miner.home, *arguments, seconds=60, **given)


async def test_a_ready_miner(
    start_miner: StartMiner,
    new_validator: NewValidator,
    chain: ChainNode,
    challenge_api: ChallengeApiProcess,
    tmp_path: Path,
) -> None:
    me, validator = write_hotkey(tmp_path), Hotkey()
    chain.add_subnet(NETUID)
    chain.register(NETUID, validator.ss58, permit=True, stake=2000.0, axon="203.0.113.1:8000")
    challenge_api.behave({"hotkey_ss58": validator.ss58, "status": "active", "ip": "203.0.113.2"})
    settings = on_chain(tmp_path, chain, challenge_api, EXTERNAL_ADDRESS="203.0.113.7", EXTERNAL_PORT=8000)
    chain.register(NETUID, me.ss58, incentive=0.5, axon="203.0.113.7:8000")
    miner = start_miner(home=tmp_path, **settings)
    until(lambda: health(miner)["chain"]["uid"] == 1)
    asker = await new_validator(miner, hotkey=validator)
    await asker.ask("seen?")

    done = ask(miner, "status")
    assert done.code == 0, done.err
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines() if " " in line.strip())
    assert done.out.startswith("ready\n")
    assert rows["hotkey"] == me.ss58
    assert rows["UID"].startswith("1, rank 1 of 2, incentive 0.5")
    assert rows["axon"] == "203.0.113.7:8000, leads here"
    assert rows["sessions"] == "1"
    assert "last answer" in done.out
    assert "metagraph: 1, " in rows["validators"]

    told = ask(miner, "status", "--json").object()
    assert told["running"] is told["ready"] is True
    assert told["chain"]["axon_matches"] is True
    assert told["last_answer"]["age_seconds"] < 60
    assert told["version"] == told["installed_version"]

    listed = ask(miner, "validators", "--json").object()
    assert listed["live"] is True
    (one,) = listed["validators"]
    assert one["sources"] == ["metagraph", "challenge-api"]
    assert one["addresses"] == ["203.0.113.1", "203.0.113.2"]
    assert one["sessions"] == 1
    table = ask(miner, "validators")
    assert validator.ss58 in table.out.replace("\n", "")
    assert "2,000" in table.out

    miner.stop()
    gone = ask(miner, "status")
    assert (gone.code, gone.out) == (1, "")
    assert "no miner runs here" in gone.err
    assert "loosh-miner serve" in gone.err
    from_disk = ask(miner, "validators", "--json")
    assert from_disk.code == 0
    assert "list on disk" in from_disk.err
    kept = from_disk.object()
    assert kept["live"] is False
    assert [(v["hotkey"], v["stake"], v["addresses"]) for v in kept["validators"]] == [
        (validator.ss58, 2000.0, ["203.0.113.1", "203.0.113.2"])
    ]
    with contextlib.closing(sqlite3.connect(miner.state / "miner.db")) as connection:
        ((name, at),) = connection.execute("SELECT * FROM moment").fetchall()
    assert name == "last answer"
    assert at > 1_700_000_000


def test_a_miner_that_is_not_ready(start_miner: StartMiner, engine: StubEngine, tmp_path: Path) -> None:
    write_hotkey(tmp_path)
    miner = start_miner(wait=False, home=tmp_path, **on_chain(tmp_path, None, None))
    until(lambda: miner.log.exists() and "unreachable" in miner.log.read_text())
    done = ask(miner, "status")
    assert done.code == 3
    assert done.out.startswith("not ready\n")
    assert "no validator may be served" in done.out
    told: dict[str, Any] = ask(miner, "status", "--json").object()
    assert (told["running"], told["ready"], told["cause"]) == (True, False, "allow_list")


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_no_miner_at_all(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments, ADMIN_PORT=str(free_port()))
    assert done.code == 1
    if "--json" in arguments:
        assert done.object()["running"] is False
        assert "no miner runs here" in done.object()["reason"]
    else:
        assert "no miner runs here" in done.err


def test_another_program_on_the_admin_port(engine: StubEngine, tmp_path: Path) -> None:
    for arguments in (("status",), ("validators",)):
        done = run(tmp_path, *arguments, ADMIN_PORT=str(engine.port), VLLM_API_BASE="http://localhost:9/v1")
        assert "ADMIN_PORT" in done.err
    assert run(tmp_path, "validators", "--json", ADMIN_PORT=str(engine.port)).object()["validators"] == []
