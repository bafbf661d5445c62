"""What a miner on chain has: a hotkey's file, a node, and the Challenge API."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.miner.process import MinerProcess, fetch, free_port
from tests.miner.validator import Hotkey

NETUID: Final = 78


def write_hotkey(home: Path, seed: bytes | None = None) -> Hotkey:
    """Make the file that HOTKEY_FILE names."""
    seed = seed or secrets.token_bytes(32)
    hotkey = Hotkey(seed)
    file = home / "hotkey"
    file.touch(0o600)
    file.write_text(json.dumps({"secretSeed": "0x" + seed.hex(), "ss58Address": hotkey.ss58}), encoding="utf-8")
    return hotkey


def on_chain(home: Path, node: ChainNode | None, api: ChallengeApiProcess | None, **given: object) -> dict[str, object]:
    """The settings of a miner that is no developer's; where nothing is given nobody listens."""
    nobody = free_port()
    return {
        "DEVELOPMENT_MODE": "off",
        "HOTKEY_FILE": home / "hotkey",
        "API_HOST": "127.0.0.1",
        "SUBTENSOR_NETWORK": "local",
        "SUBTENSOR_ADDRESS": node.url if node else f"ws://127.0.0.1:{nobody}",
        "CHALLENGE_API_URL": api.url if api else f"http://127.0.0.1:{nobody}",
        "NETUID": NETUID,
        **given,
    }


def health(miner: MinerProcess) -> dict[str, Any]:
    """What the miner tells of itself."""
    return msgspec.json.decode(fetch(miner.admin_port, "/health")[2])


def alarms(miner: MinerProcess) -> dict[str, str]:
    """Its alarms by name."""
    return {alarm["name"]: alarm["text"] for alarm in health(miner)["alarms"]}


def metric(miner: MinerProcess, name: str) -> float:
    """One of its metrics, labels and all in the name."""
    status, _, text = fetch(miner.admin_port, "/metrics")
    for line in text.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}: {status} {text[:300]!r} {miner.tail(5)}")


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
