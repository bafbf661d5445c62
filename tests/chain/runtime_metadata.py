"""The current runtime's metadata: out of the source distribution of the very bittensor that the locks name.

Fetched once, by pip as it is configured here and checked against the lock's hash, then kept in the user's cache.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FETCH_SECONDS: Final = 240


def runtime_metadata() -> Path:
    """The file; skips the test when the package registry can't be reached."""
    version, hashes = _locked()
    cached = _cache() / f"bittensor-{version}-golden.json"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
            taken = _unpack(_fetch(Path(scratch), version, hashes), Path(scratch))
            taken.replace(cached)
    return cached


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "loosh-miner"


def _locked() -> tuple[str, list[str]]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = re.search(r"^bittensor==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    assert found is not None, "bittensor is not in requirements.lock"
    return found[1], re.findall(r"--hash=(sha256:\w+)", found[2])


def _fetch(scratch: Path, version: str, hashes: list[str]) -> Path:
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"bittensor=={version} {' '.join('--hash=' + one for one in hashes)}\n", encoding="utf-8")
    wanted = ["download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"]
    wanted += ["--no-binary", "bittensor", "--requirement", str(requirement), "--dest", str(scratch)]
    said = "no pip was found"
    for pip in _pips(scratch):
        done = subprocess.run(
            [*pip, *wanted],
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            (archive,) = scratch.glob("bittensor-*.tar.gz")
            return archive
        said = done.stderr.strip() or said
        assert "HASHES" not in said, f"bittensor's source distribution is not the one in the lock: {said}"
    pytest.skip(f"NOTHING OF THE CHAIN IS TESTED: bittensor {version} could not be fetched: {said[-500:]}")


def _pips(scratch: Path) -> Iterator[list[str]]:
    """Ways to run pip: that of `./justw`, of the interpreter below .venv, or a new one."""
    for python in (ROOT / ".tools/venv/bin/python", Path(sys.base_prefix) / "bin/python3"):
        probe = [str(python), "-m", "pip"]
        if python.exists() and not subprocess.run([*probe, "--version"], capture_output=True, check=False).returncode:
            yield probe
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(scratch / "venv")], capture_output=True, check=False, timeout=FETCH_SECONDS
    )
    if made.returncode == 0:
        yield [str(scratch / "venv/bin/python"), "-m", "pip"]


def _unpack(archive: Path, scratch: Path) -> Path:
    name = f"{archive.name.removesuffix('.tar.gz')}/tests/fixtures/golden.json"
    with tarfile.open(archive) as opened:
        member = opened.extractfile(name)
        assert member is not None, f"{archive.name} holds no {name}"
        taken = scratch / "golden.json"
        taken.write_bytes(member.read())
    return taken
