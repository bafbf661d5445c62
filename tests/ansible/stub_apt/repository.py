"""Builds packages with `dpkg-deb` and a signed flat repository of them, as NVIDIA's is."""

import gzip
import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = ("dpkg-deb", "gpg")


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package; `files` by their absolute path, those under a bin or with a shebang executable."""

    name: str
    version: str
    depends: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    postinst: str = ""


def build(packages: Iterable[Package], folder: Path, scratch: Path) -> None:
    """Put every package and an index of all into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    index = "\n".join(_built(package, folder, scratch) for package in packages)
    (folder / "Packages").write_text(index, encoding="utf-8")
    (folder / "Packages.gz").write_bytes(gzip.compress(index.encode()))


def sign(folder: Path, home: Path) -> str:
    """Sign the repository with a throw-away key, put the key beside it as `key.pub`; gives the fingerprint."""
    home.mkdir(mode=0o700, exist_ok=True)
    lines = ["Origin: NVIDIA", "Label: NVIDIA CUDA", "Architecture: amd64", "Date: Thu, 01 Jan 2026 00:00:00 UTC"]
    lines.append("SHA256:")
    for name in ("Packages", "Packages.gz"):
        raw = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(raw).hexdigest()} {len(raw)} {name}")
    (folder / "Release").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not any(home.glob("private-keys-v1.d/*")):
        _gpg(home, "--passphrase", "", "--quick-generate-key", "Stub of cudatools", "rsa2048", "sign", "never")
    _gpg(home, "--yes", "--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))
    _gpg(home, "--yes", "--armor", "--output", str(folder / "key.pub"), "--export")
    listed = _gpg(home, "--list-keys", "--with-colons")
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))


def end_agent(home: Path) -> None:
    """End the agent that gpg started for this home."""
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)


def _gpg(home: Path, *arguments: str) -> str:
    command = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _built(package: Package, folder: Path, scratch: Path) -> str:
    root = scratch / f"{package.name}_{package.version}"
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    lines = [f"Package: {package.name}", f"Version: {package.version}", "Architecture: amd64", "Section: misc"]
    if package.depends:
        lines.append(f"Depends: {package.depends}")
    lines += ["Maintainer: nobody <nobody@example.invalid>", "Description: a stub for tests"]
    (control / "control").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if package.postinst:
        _script(control / "postinst", package.postinst)
    for name, text in package.files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("#!"):
            _script(path, text)
        else:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    deb = folder / f"{package.name}_{package.version.replace(':', '%3a')}_amd64.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(deb)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
    raw = deb.read_bytes()
    more = [f"Filename: ./{deb.name}", f"Size: {len(raw)}", f"SHA256: {hashlib.sha256(raw).hexdigest()}"]
    return "\n".join([*lines[:-1], *more, lines[-1]]) + "\n"


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
