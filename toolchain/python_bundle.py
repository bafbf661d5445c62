"""Pack an installed CPython the way `uv python install` wants it, with the list that points uv at it.

A box without GitHub then runs production's own command: UV_PYTHON_DOWNLOADS_JSON_URL=.../downloads.json uv python
install 3.12. The archive lies on the box where INSTALLED_AT says; Ansible's role python_runtime copies it there.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

INSTALLED_AT = "/opt/uv/offline"
# Of the standard library, what no service needs: tests, windows, the packages of someone else.
LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3/tests", "site-packages", "ensurepip/_bundled")


class BundleError(Exception):
    """It can't be packed; the text says what to do about it."""


def bundle(python: Path, into: Path) -> Path:
    """Write the archive and downloads.json; gives the archive's path."""
    asked = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.base_prefix]))"
    answered = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    version, prefix = json.loads(answered.stdout)
    if prefix == "/usr":
        raise BundleError(
            f"{python} is the distribution's own Python, which can't be packed: make .venv with another "
            "(pyenv install 3.12, or uv python install 3.12; then ./justw clean)"
        )
    into.mkdir(parents=True, exist_ok=True)
    machine = platform.machine()
    archive = into / f"cpython-{version}-linux-{machine}-gnu.tar.gz"
    with tempfile.TemporaryDirectory(prefix="python-bundle-") as work:
        root = Path(work) / "python"
        copy(Path(prefix), version.rpartition(".")[0], root)
        relocate(root, version.rpartition(".")[0])
        with tarfile.open(archive, "w:gz", compresslevel=3) as tar:
            tar.add(root, "python", filter=owned_by_root)
    (into / "downloads.json").write_text(json.dumps(listing(archive, version, machine)), encoding="utf-8")
    return archive


def copy(prefix: Path, minor: str, root: Path) -> None:
    library = Path("lib") / f"python{minor}"
    (root / "bin").mkdir(parents=True)
    shutil.copy2(prefix / "bin" / f"python{minor}", root / "bin")
    for name in ("python3", "python"):
        (root / "bin" / name).symlink_to(f"python{minor}")
    left_out = {str(prefix / library / path) for path in LEFT_OUT}

    def ignored(directory: str, names: list[str]) -> list[str]:
        return [
            name for name in names if name == "__pycache__" or name.endswith(".a") or f"{directory}/{name}" in left_out
        ]

    shutil.copytree(prefix / library, root / library, symlinks=True, ignore=ignored)
    shutil.copytree(prefix / "include" / f"python{minor}", root / "include" / f"python{minor}")
    (root / library / "site-packages").mkdir()
    for shared in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy2(shared, root / "lib", follow_symlinks=False)


def relocate(root: Path, minor: str) -> None:
    """Let the interpreter find its library wherever it is unpacked; uv's own does so already."""
    executable = root / "bin" / f"python{minor}"
    found = subprocess.run(["readelf", "-d", str(executable)], check=False, capture_output=True, text=True)
    if "RUNPATH" not in found.stdout and "RPATH" not in found.stdout:
        return
    if "$ORIGIN" in found.stdout:
        return
    if shutil.which("patchelf") is None:
        raise BundleError("patchelf is missing: apt install patchelf")
    subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", str(executable)], check=True)
    libraries = [str(path) for path in (root / "lib").rglob("*.so*") if path.is_file() and not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=False, capture_output=True)


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def listing(archive: Path, version: str, machine: str) -> dict[str, object]:
    """What uv reads: one download, by its hash."""
    major, minor, patch = (int(part) for part in version.split("."))
    return {
        archive.name.removesuffix(".tar.gz"): {
            "name": "cpython",
            "arch": {"family": machine, "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "url": f"file://{INSTALLED_AT}/{archive.name}",
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "variant": None,
            "build": "20240101",
        }
    }
