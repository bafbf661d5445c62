"""The hash of nix/wheelhouse.nix: the same files, downloaded by the same script, hashed as Nix does.

`python -m tests.nix.wheelhouse` writes the hash anew, after requirements.lock has changed.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
EXPRESSION: Final = ROOT / "nix" / "wheelhouse.nix"
_HASH: Final = re.compile(r'(?<=outputHash = ")sha256-[A-Za-z0-9+/=]+(?=")')
_SECONDS: Final = 1200


def written_hash() -> str:
    """Read the hash that the expression has."""
    (found,) = _HASH.findall(EXPRESSION.read_text())
    return found


def download(folder: Path) -> None:
    """Fetch the wheels as nix/wheelhouse.nix does."""
    command = ["sh", str(ROOT / "nix" / "fetch-wheels.sh"), str(ROOT / "requirements.lock"), str(folder)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "is ignored" not in line]
        raise RuntimeError("the wheels could not be downloaded:\n" + "\n".join(said[-20:]))


def nar_hash(folder: Path) -> str:
    """Hash a folder of plain files as Nix does: sha256 over its archive format (NAR), in SRI form."""
    digest = hashlib.sha256()
    digest.update(_words("nix-archive-1", "(", "type", "directory"))
    for file in sorted(folder.iterdir(), key=lambda path: path.name.encode()):
        digest.update(_words("entry", "(", "name", file.name, "node", "(", "type", "regular", "contents"))
        content = file.read_bytes()
        digest.update(_word(content))
        digest.update(_words(")", ")"))
    digest.update(_words(")"))
    return f"sha256-{base64.b64encode(digest.digest()).decode()}"


def _words(*texts: str) -> bytes:
    return b"".join(_word(text.encode()) for text in texts)


def _word(content: bytes) -> bytes:
    """Length in 8 bytes, the bytes, and zeros up to a multiple of 8."""
    return len(content).to_bytes(8, "little") + content + b"\0" * (-len(content) % 8)


def main() -> None:
    """Download, and write the hash."""
    with tempfile.TemporaryDirectory() as temporary:
        download(Path(temporary))
        computed = nar_hash(Path(temporary))
    EXPRESSION.write_text(_HASH.sub(computed, EXPRESSION.read_text()))
    sys.stdout.write(f"{computed}\n")


if __name__ == "__main__":
    main()
