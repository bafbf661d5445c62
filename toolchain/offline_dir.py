"""Fill a directory from which a box that reaches no registry is provisioned: Ansible's `miner_offline_dir`.

    offline_dir.py DIR

Writes `DIR/wheels` (what requirements.lock names, as wheels: llama.cpp as it is built in .venv; uv; and a
requirements.lock that says so, with its hashes) and `DIR/python` (a CPython packed as `uv python install` wants it,
with downloads.json). For boxes of this machine's architecture with a C library at least as new. Started by
`just offline-dir`, with uv on the PATH and the development environment made.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from python_bundle import BundleError, bundle

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
LOCK = ROOT / "requirements.lock"
TOOLS_LOCK = ROOT / "toolchain" / "tools.lock"
BUILT_HERE = "llama-cpp-python"  # published as source only
# What an installer adds to a wheel's files.
ADDED = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_build.json", "uv_cache.json")
EPOCH = (1980, 1, 1, 0, 0, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory: Path = parser.parse_args().directory.resolve()
    try:
        fill_wheels(directory / "wheels")
        bundle(PYTHON, directory / "python")
    except (BundleError, OSError) as error:
        sys.stderr.write(f"offline-dir: {error}\n")
        return 1
    print(directory)
    return 0


def fill_wheels(wheels: Path) -> None:
    """Make the directory anew, beside the old one, and put it in its place when it is whole."""
    staging = wheels.with_name("wheels.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    built = block(LOCK, BUILT_HERE)
    lock = LOCK.read_text(encoding="utf-8")
    download(lock.replace(built, ""), staging)
    download(block(TOOLS_LOCK, "uv"), staging)
    wheel = repack(BUILT_HERE, staging)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"{built.split()[0]} \\\n    --hash=sha256:{digest}\n"
    (staging / "requirements.lock").write_text(lock.replace(built, ours), encoding="utf-8")
    shutil.rmtree(wheels, ignore_errors=True)
    staging.rename(wheels)


def block(lock: Path, name: str) -> str:
    """One requirement of a lock, with its hashes."""
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BundleError(f"{name} is not in {lock}: ./justw lock")
    return found[0]


def download(requirements: str, into: Path) -> None:
    """Fetch wheels, each checked against the lock's hash."""
    with tempfile.NamedTemporaryFile("w", suffix=".lock", encoding="utf-8") as file:
        file.write(requirements)
        file.flush()
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes")
        command = [str(PYTHON), "-m", "pip", "download", *options, "--dest", str(into), "--requirement", file.name]
        done = subprocess.run(command, check=False, cwd=ROOT)
    if done.returncode:
        raise BundleError("the wheels could not be fetched; see above")


def repack(name: str, into: Path) -> Path:
    """Make a wheel of a distribution as it is installed in .venv: the same bytes each time.

    Not uv's copy of it: where its cache keeps that, and which of several builds it is, is uv's own business.
    """
    escaped = name.replace("-", "_")
    site = next((ROOT / ".venv" / "lib").glob("python3*/site-packages"))
    info = next(site.glob(f"{escaped}-*.dist-info"), None)
    if info is None:
        raise BundleError(f"{name} is not installed in .venv: ./justw check makes it")
    tag = re.search(r"^Tag: (\S+)$", (info / "WHEEL").read_text(encoding="utf-8"), re.MULTILINE)
    if tag is None:
        raise BundleError(f"{info / 'WHEEL'} has no tag")
    added = {f"{info.name}/{file}" for file in ADDED}
    listed = (line.rsplit(",", 2)[0] for line in (info / "RECORD").read_text(encoding="utf-8").splitlines())
    members = sorted(path for path in listed if path not in added and "__pycache__" not in path)
    wheel = into / f"{info.name[: -len('.dist-info')]}-{tag[1]}.whl"
    record: list[str] = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in members:
            content = (site / path).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}")
            archive.writestr(member(path), content)
        record.append(f"{info.name}/RECORD,,")
        archive.writestr(member(f"{info.name}/RECORD"), "\n".join(record) + "\n")
    return wheel


def member(path: str) -> zipfile.ZipInfo:
    """An entry of the archive without this moment's date."""
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


if __name__ == "__main__":
    sys.exit(main())
