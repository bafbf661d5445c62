"""`loosh-miner doctor` on whole machines: nothing there, everything down, and well."""

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.chain.registered import NETUID, health, on_chain, write_hotkey
from tests.cli.command import Outcome, run
from tests.conftest import StartMiner
from tests.miner.process import MinerProcess, StubEngine, free_port
from tests.miner.validator import Hotkey
from tests.must_hold.test_allow_list import until

WORST = {"ok": 0, "warning": 4, "failed": 1}
MOST_SECONDS = 10
OF_THIS_MACHINE = {
    "cpu",
    "memory",
    "disk",
    "detection",
    "gpu-fit",
    "clock",
    "open-files",
    "processes",
    "shared-memory",
    "os",
}


def examine(home: Path, *arguments: str, **given: object) -> dict[str, Any]:
    """Run it; gives the findings by code."""
    texts: dict[str, Any] = {name: str(value) for name, value in given.items()}
    done = run(home, "doctor", "--json", *arguments, **texts)
    report = done.object()
    assert done.code == WORST[report["status"]], done.err
    assert report["seconds"] < MOST_SECONDS
    findings = {finding["code"]: finding for finding in report["findings"]}
    assert len(findings) == len(report["findings"]), "a code is used twice"
    for finding in findings.values():
        assert finding["what"]
        assert bool(finding["fix"]) == (finding["status"] in {"warning", "failed"}), finding
    return findings


def ask(miner: MinerProcess, *arguments: str) -> dict[str, Any]:
    """Examine the machine that a miner runs on, with its settings."""
    given = {name: value for name, value in miner.settings.items() if name not in {"HOME", "PATH", "LANG"}}
    return examine(miner.home, *arguments, **given)


def wrong(findings: dict[str, Any]) -> dict[str, str]:
    """What is not well, but for what is the test machine's own."""
    return {
        code: finding["status"]
        for code, finding in findings.items()
        if finding["status"] not in {"ok", "skipped"} and code not in OF_THIS_MACHINE
    }


def test_nothing_is_configured(tmp_path: Path) -> None:
    ports = {"API_PORT": free_port(), "ADMIN_PORT": free_port()}
    findings = examine(tmp_path, **ports)
    assert wrong(findings) == {"hotkey": "warning", "miner-running": "failed"}
    assert "loosh-miner serve" in findings["miner-running"]["fix"]
    assert findings["self-challenge"]["status"] == "skipped"


def test_everything_is_down(tmp_path: Path) -> None:
    write_hotkey(tmp_path)
    engine = f"http://127.0.0.1:{free_port()}/v1"
    settings = on_chain(tmp_path, None, None, LLM_BACKEND="vllm", VLLM_API_BASE=engine)
    findings = examine(tmp_path, **settings, API_PORT=free_port(), ADMIN_PORT=free_port())
    for code in ("miner-running", "engine-model", "chain-registered", "gpu"):
        assert findings[code]["status"] == "failed", findings[code]
    assert engine.removesuffix("/v1") in findings["engine-model"]["what"]
    assert findings["hotkey"]["status"] == "ok"
    assert findings["engine-speed"]["status"] == "skipped"


def test_what_accepts_and_never_answers_is_named_in_time(tmp_path: Path) -> None:
    write_hotkey(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as admin:
        port = silent.getsockname()[1]
        settings = on_chain(tmp_path, None, None, LLM_BACKEND="vllm", VLLM_API_BASE=f"http://127.0.0.1:{port}/v1")
        settings |= {"SUBTENSOR_ADDRESS": f"ws://127.0.0.1:{port}"}
        findings = examine(tmp_path, **settings, API_PORT=free_port(), ADMIN_PORT=admin.getsockname()[1])
    assert "does not answer within" in findings["miner-running"]["what"]
    assert findings["engine-model"]["status"] == findings["chain-registered"]["status"] == "failed"
    assert "does not answer within" in findings["chain-registered"]["what"]
    assert findings["chain-axon"]["status"] == findings["port-posted"]["status"] == "skipped"
    assert "nothing certain within 3 s" in findings["engine-model"]["what"]
    assert "journalctl -u vllm" in findings["engine-model"]["fix"]


def test_a_stranger_on_our_port_is_told(tmp_path: Path, engine: StubEngine) -> None:
    findings = examine(tmp_path, API_PORT=engine.port, ADMIN_PORT=engine.control_port)
    assert findings["miner-running"]["status"] == "failed"
    assert findings["ports"]["status"] == "failed"
    assert str(engine.port) in findings["ports"]["what"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="the embedded engine is not installed")
def test_a_healthy_embedded_miner(start_miner: StartMiner) -> None:
    miner = start_miner(wait=False, LLM_BACKEND="llamacpp", VLLM_API_BASE="", DEFAULT_MODEL="")
    miner.wait_ready(120)
    findings = ask(miner)
    # CHALLENGE_API_KEY is deprecated and there is no wallet; how fast the machine is depends on the machine.
    assert {**wrong(findings), "self-challenge": ""} == {
        "settings": "warning",
        "hotkey": "warning",
        "self-challenge": "",
    }
    said = findings["self-challenge"]
    if "no result within" not in said["what"] and "did not answer" not in said["what"]:  # a machine that is very busy
        assert said["status"] in {"ok", "warning"}
        assert "tokens/s" in said["what"]
    assert findings["engine-model"]["what"].startswith("SmolLM2-135M-Instruct, in the miner's process")
    assert findings["ports"]["status"] == findings["engine-token"]["status"] == "ok"


def test_a_healthy_miner_on_chain(
    start_miner: StartMiner, engine: StubEngine, chain: ChainNode, challenge_api: ChallengeApiProcess, tmp_path: Path
) -> None:
    me, validator = write_hotkey(tmp_path), Hotkey()
    chain.add_subnet(NETUID)
    chain.register(NETUID, validator.ss58, permit=True, stake=2000.0, axon="203.0.113.1:8000")
    chain.register(NETUID, me.ss58, incentive=0.5)
    challenge_api.behave({"hotkey_ss58": validator.ss58, "status": "active", "ip": "203.0.113.2"})
    miner = start_miner(home=tmp_path, **on_chain(tmp_path, chain, challenge_api))
    until(lambda: health(miner)["chain"]["registered"])
    findings = ask(miner)
    assert findings["self-challenge"]["status"] == "ok", findings["self-challenge"]
    assert findings["engine-model"]["what"].startswith(engine.model)
    assert findings["engine-token"]["status"] == "ok"
    assert findings["chain-registered"]["what"].startswith("UID 1 of 2")
    assert findings["chain-axon"]["status"] == "failed"
    assert findings["chain-axon"]["fix"] == "loosh-miner register"
    assert "metagraph: 1" in findings["allow-list"]["what"]

    miner.stop()
    alone = ask(miner, "--only", "chain")
    assert set(alone) >= {"chain-registered", "chain-axon", "chain-head"}
    assert alone["chain-registered"]["what"].startswith("UID 1 of 2"), "without a miner it reads the chain itself"
    assert "gpu" not in alone


def test_a_private_address_on_a_public_chain_is_told(chain: ChainNode, tmp_path: Path) -> None:
    me = write_hotkey(tmp_path)
    chain.add_subnet(NETUID)
    chain.register(NETUID, me.ss58, axon="10.0.0.5:8000")
    settings = on_chain(tmp_path, chain, None, SUBTENSOR_NETWORK="finney", ADMIN_PORT=free_port())
    found = examine(tmp_path, "--only", "chain-axon", **settings)["chain-axon"]
    assert found["status"] == "failed"
    assert "10.0.0.5:8000 is posted, which is private" in found["what"]


def test_a_recorded_machine_is_judged_without_this_one(tmp_path: Path) -> None:
    findings = examine(tmp_path, "--hardware", "a100-80", LLM_BACKEND="vllm")
    assert {finding["section"] for finding in findings.values()} == {"system", "disk", "gpu"}
    assert findings["gpu-fit"]["status"] == "ok"
    assert "Qwen2.5-32B" in findings["gpu-fit"]["what"]


def test_settings_that_can_not_be_read_are_a_finding(tmp_path: Path) -> None:
    findings = examine(tmp_path, API_PORT="many", LLM_BACKEND="none")
    assert findings["settings"]["status"] == "failed"
    assert "API_PORT" in findings["settings"]["what"]
    assert "LLM_BACKEND" in findings["settings"]["what"]
    assert "os" in findings


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--only", "nothing"), "no check or section nothing"), (("--hardware", "c64"), "c64: can't be read")],
)
def test_wrong_usage_says_what_there_is(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done: Outcome = run(tmp_path, "doctor", *arguments)
    assert done.code == 2
    assert told in done.err


def test_people_read_it_too(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--only", "miner", API_PORT=str(free_port()), ADMIN_PORT=str(free_port()))
    assert done.code == 1
    assert "FAILED" in done.out
    assert "→ start one" in done.out
    assert "Mend what failed" in done.out
