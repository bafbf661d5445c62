"""What a release says of itself: its parts, their vulnerabilities, their sums."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import audit
import pytest
import sbom

ROOT = Path(__file__).parents[2]


def package(name: str, **more: object) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": name, "version": "1.0", "vulns": []}
    return plain | more


def test_a_vulnerability_fails_the_check_and_names_the_remedy() -> None:
    hurt = package("thing", vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": []}])
    vulnerable, text = audit.judged([package("fine"), hurt])
    assert vulnerable
    assert "thing 1.0: PYSEC-1 (mended in 1.1)" in text


def test_what_was_not_audited_is_said_and_fails_nothing() -> None:
    unknown = {"name": "thing", "skip_reason": "not found"}
    vulnerable, text = audit.judged([unknown])
    assert not vulnerable
    assert "NOT AUDITED: of 1 packages" in text
    vulnerable, text = audit.judged([package("fine"), unknown])
    assert not vulnerable
    assert "NOT AUDITED: thing" in text
    assert audit.judged([package("fine")]) == (False, "1 packages, none with a known vulnerability")


def test_without_a_network_the_check_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    lock.write_text(f"click==8.1.0 --hash=sha256:{'0' * 64}\n")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    vulnerable, text = audit.audit(str(lock))
    assert not vulnerable
    assert "NOT AUDITED" in text


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bill of materials."""
    return sbom.write_sbom(tmp_path_factory.mktemp("sbom"))


def test_the_bill_of_materials_names_every_locked_package(written: Path) -> None:
    bill = json.loads(written.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "loosh-miner"
    named = {(one["name"], one["version"]) for one in bill["components"]}
    locked = set(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert locked
    assert locked <= named
    assert any(name == "redoc" for name, _ in named)


@pytest.mark.slow
def test_a_release_is_whole_and_its_sums_are_true(tmp_path: Path, written: Path) -> None:
    path = os.pathsep.join([str(ROOT / ".tools/venv/bin"), os.environ["PATH"]])
    command = [sys.executable, "toolchain/release.py", "--no-image", str(tmp_path / "dist")]
    environment = os.environ | {"PATH": path, "UV_SYSTEM_CERTS": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {file.name: file for file in (tmp_path / "dist").iterdir()}
    sums = made.pop("SHA256SUMS").read_text()
    assert sorted(name.rpartition(".")[2] for name in made) == ["gz", "json", "whl"]
    for name, file in made.items():
        assert f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" in sums
    assert made[written.name].read_bytes() == written.read_bytes(), "the same input gives the same bytes"
