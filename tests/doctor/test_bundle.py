"""The support bundle: everything that helps, and nothing that was confided to the miner."""

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

from app.doctor.bundle import scrub, write_bundle
from app.secret import MASK, Secret
from tests.chain.registered import on_chain, write_hotkey
from tests.cli.command import run
from tests.conftest import StartMiner
from tests.miner.canary import PROMPT, Evidence
from tests.miner.process import StubEngine
from tests.miner.validator import Hotkey

SEED = bytes(range(32))
PASSWORD = "a-password-of-its-own"


def unpack(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {Path(member.name).name: opened.read() for member in archive if (opened := archive.extractfile(member))}


async def test_threat_18_no_secret_and_no_prompt_in_the_bundle(
    start_miner: StartMiner, engine: StubEngine, tmp_path: Path
) -> None:
    """Whatever a miner was confided: its key, its settings' secrets, a password, prompts and session keys."""
    write_hotkey(tmp_path, SEED)
    password, validator = tmp_path / "password", Hotkey()
    password.touch(0o600)
    password.write_text(PASSWORD)
    settings = on_chain(tmp_path, None, None, HOTKEY_PASSWORD_FILE=password, VALIDATOR_HOTKEYS=validator.ss58)
    miner = start_miner(home=tmp_path, **settings, LOG_FILE=tmp_path / "app.log", LOG_LEVEL="DEBUG")
    engine.behave(echo=True)
    async with await miner.validator(hotkey=validator) as asking:
        assert PROMPT in (await asking.ask(PROMPT))["response_text"]
        await asking.send({"prompt": [PROMPT]})
    given: dict[str, Any] = {
        name: value for name, value in miner.settings.items() if name not in {"HOME", "PATH", "LANG"}
    }
    done = run(tmp_path, "support-bundle", "--output", "b.tar.gz", **given)
    assert done.code == 0, done.err
    file = tmp_path / "b.tar.gz"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    parts = unpack(file)
    assert set(parts) >= {
        "doctor.json",
        "settings.json",
        "versions.json",
        "hardware.json",
        "health.json",
        "metrics.txt",
    }
    assert b"challenge" in parts["log.txt"]
    assert b"loosh_challenges" in parts["metrics.txt"]
    assert json.loads(parts["settings.json"])["settings"]["CHALLENGE_API_KEY"]["value"] == MASK
    assert json.loads(parts["doctor.json"])["findings"]

    evidence = Evidence()
    evidence.secrets |= {SEED.hex().encode(), PASSWORD.encode(), miner.admin_token.encode()}
    for name, data in parts.items():
        evidence.add(name, data)
    assert evidence.hits() == []


def test_a_secret_that_got_into_a_log_does_not_get_out(tmp_path: Path) -> None:
    secret = Secret("0x" + SEED.hex())
    log = f"seed {secret.reveal()} and {SEED.hex()} and again {secret.reveal().encode().hex()}".encode()
    write_bundle(tmp_path / "b.tar.gz", {"log.txt": log}, [secret])
    assert unpack(tmp_path / "b.tar.gz")["log.txt"] == f"seed {MASK} and {MASK} and again {MASK}".encode()


def test_a_short_setting_does_not_blot_out_the_text() -> None:
    assert scrub(b"a cat sat", [Secret("a"), Secret("")]) == b"a cat sat"


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "support-bundle", "--output", "no/such/dir/b.tar.gz")
    assert done.code == 2
    assert "choose another --output" in done.err
