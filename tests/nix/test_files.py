"""The Nix files: they parse, the lock fits the flake, the data is the app's, the wheels are those of the lock."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from app.appliance import nix_files as data
from app.settings_model import specs
from tests.nix.evaluation import NIX, ROOT, needs_nix, nix_files, own_nix, run_nix
from tests.nix.wheelhouse import download, nar_hash, written_hash

FLAKES: Final = ("--extra-experimental-features", "nix-command flakes")


@needs_nix
def test_every_nix_file_parses(tmp_path: Path) -> None:
    files = nix_files()
    assert len(files) > 20
    done = run_nix(tmp_path, "--parse", *map(str, files))
    assert done.returncode == 0, done.stderr


def test_nix_files_are_tidy() -> None:
    for file in nix_files():
        text = file.read_text()
        assert text.endswith("\n"), file
        assert not text.endswith("\n\n"), file
        assert "\t" not in text, file
        assert not re.search(r"[ ]+$", text, re.MULTILINE), file
        assert "with lib;" not in text, file
        assert "TODO" not in text, file


def test_the_lock_has_the_form_that_nix_writes() -> None:
    text = (ROOT / "flake.lock").read_text()
    lock = json.loads(text)
    assert text == json.dumps(lock, indent=2, sort_keys=True) + "\n"
    assert lock["version"] == 7
    assert lock["nodes"][lock["root"]]["inputs"] == {"nixpkgs": "nixpkgs"}
    locked = lock["nodes"]["nixpkgs"]["locked"]
    assert re.fullmatch("[0-9a-f]{40}", locked["rev"])
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])


@needs_nix
def test_the_lock_fits_the_flake(tmp_path: Path) -> None:
    assert agreed(tmp_path / "right") == 0
    assert agreed(tmp_path / "other release", change=("nixos-26.05", "nixos-25.11")) != 0
    assert agreed(tmp_path / "other input", change=("inputs.nixpkgs.url", "inputs.other.url")) != 0


def agreed(folder: Path, change: tuple[str, str] = ("", "")) -> int:
    """Ask Nix, offline, whether the lock would have to be written anew; 0 is no."""
    nix = shutil.which("nix")
    assert nix
    flake = folder / "flake"
    flake.mkdir(parents=True)
    shutil.copy(ROOT / "flake.lock", flake)
    (flake / "flake.nix").write_text((ROOT / "flake.nix").read_text().replace(*change))
    command = [nix, *FLAKES, "--store", str(folder / "store"), "flake", "metadata", "--no-update-lock-file"]
    done = subprocess.run(
        [*command, f"path:{flake}"],
        env={**own_nix(folder), "NIX_STORE_DIR": "/nix/store"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode


def test_profiles_are_what_the_app_computes() -> None:
    assert (ROOT / data.PROFILES).read_text() == data.profiles(), "run `just nix-write` and look at the difference"


def test_every_setting_is_known_to_nix() -> None:
    written, made = json.loads((ROOT / data.SETTINGS).read_text()), json.loads(data.settings())
    assert {name: written.get(name) for name in made} == made, "run `just nix-write`"


def test_every_tier_has_a_profile_or_the_reasons_why_not() -> None:
    profiles = json.loads((ROOT / data.PROFILES).read_text())
    assert set(profiles) == {*data.CARDS, "cpu"}
    for tier, engines in profiles.items():
        for engine, profile in engines.items():
            assert profile.get("reasons") or profile["engine"] == engine, (tier, engine)
    vllm = profiles["a100_80gb"]["vllm"]
    assert vllm["settings"]["VLLM_API_BASE"] == f"http://127.0.0.1:{vllm['port']}/v1"
    assert "reasons" not in profiles["a100_80gb"]["ollama"]


def test_settings_that_nix_files_name_exist() -> None:
    names = {spec.name for spec in specs()}
    # Words in capitals that are no settings of the miner: the environment of others, and Nix's own names.
    others = {"LD_LIBRARY_PATH", "HF_HUB_CACHE", "UV_PYTHON", "UV_PYTHON_DOWNLOADS", "VLLM_API_KEY"}
    found: set[str] = set()
    files = [ROOT / "nix" / "image.nix", *(ROOT / "nix").glob("modules/*.nix"), *(ROOT / "nix").glob("*/*/*.nix")]
    for file in [*files, ROOT / "nix" / "tests" / "miner.nix", *(ROOT / "nix").glob("lib/*.nix")]:
        code = re.sub(r"#.*", "", file.read_text())
        found |= set(re.findall(r"(?<![A-Z_$/])[A-Z]{2,}(?:_[A-Z]+)+(?![A-Z_a-z])", code))
    found = {name for name in found if not name.startswith(("CAP_", "SOURCE_", "AF_"))}
    assert {"API_PORT", "STATE_DIR", "LLM_BACKEND"} <= found
    assert found - others <= names


@needs_nix
def test_llama_cpps_source_is_the_locks(tmp_path: Path) -> None:
    expression = f"import {ROOT}/nix/llama-source.nix {{ fetchPypi = given: given; }}"
    done = run_nix(tmp_path, "--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    source = json.loads(done.stdout)
    lock = (ROOT / "requirements.lock").read_text()
    assert f"llama-cpp-python=={source['version']} \\\n    --hash=sha256:{source['sha256']}\n" in lock


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheels_have_the_written_hash(tmp_path: Path) -> None:
    """Downloads for real what nix/wheelhouse.nix does, by the same script."""
    wheels = tmp_path / "wheels"
    download(wheels)
    assert nar_hash(wheels) == written_hash(), "run `just nix-write`"
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(list(wheels.iterdir())) > len(locked) - 5  # those of other platforms, and llama.cpp
    nix = shutil.which("nix")
    if NIX and nix:
        command = [nix, *FLAKES, "hash", "path", str(wheels)]
        said = subprocess.run(command, env=own_nix(tmp_path), capture_output=True, text=True, check=True, timeout=120)
        assert said.stdout.strip() == written_hash()
