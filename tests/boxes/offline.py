"""What boxes are provisioned from: `miner_offline_dir`, made once for a lock and an interpreter, then kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.boxes.boxes import HOME

ROOT: Final = Path(__file__).parents[2]
TOOL: Final = ROOT / "toolchain" / "offline_dir.py"
MADE_FROM: Final = (
    *("requirements.lock", "toolchain/tools.lock", "toolchain/offline_dir.py", "toolchain/python_bundle.py"),
    *("pyproject.toml", ".venv/made-from.json"),
)


def offline_dir() -> Path:
    """The directory with `wheels/` and `python/`; fetches the wheels (some 170 MB) the first time."""
    digest = hashlib.sha256(sys.version.encode())
    for name in MADE_FROM:
        digest.update((ROOT / name).read_bytes())
    cache = HOME / "cache"
    directory = cache / f"offline-{digest.hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "offline.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            for old in cache.glob("offline-*"):
                shutil.rmtree(old)
            making = cache / "making-offline"
            shutil.rmtree(making, ignore_errors=True)
            done = subprocess.run(
                [sys.executable, str(TOOL), str(making)], check=False, capture_output=True, text=True, timeout=1200
            )
            assert done.returncode == 0, done.stdout + done.stderr
            making.rename(directory)
    return directory


def app_wheel(into: Path) -> Path:
    """The app as it is in this tree, as a wheel."""
    command = ["uv", "build", "--wheel", "--quiet", "--no-create-gitignore", "--out-dir", str(into), str(ROOT)]
    environment = os.environ | {"PATH": f"{ROOT / '.tools' / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return next(into.glob("loosh_miner-*.whl"))
