"""llama.cpp's own server, built once from the source that llama-cpp-python's lock names, and kept in the user's cache.

    python -m tests.peers.llama_build     build it where it is missing; its path goes to stdout

The same source, by hash, and the same flags as the bindings in `.venv` have, so that the two can be measured side by
side. It takes minutes: neither tests nor the benchmark build it, they go without where it is not there.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from install_env import (
    LOCKS,
    PYPROJECT,
    VERIFIED,
    InstallError,
    build_environment,
    missing_instructions,
    read_stamp,
)
from watched_uv import UvError, WatchedUv, say

TOOLS: Final = PYPROJECT.parent / ".tools" / "venv" / "bin"
NAME: Final = "llama-server"
DIGEST: Final = "sha256"
IN_WHEEL: Final = Path("llama_cpp") / "lib" / NAME
# Over the bindings' flags: one program without libraries of its own, and nothing fetched for its web page.
SERVER_FLAGS: Final[Mapping[str, str]] = {
    "build.targets": NAME,
    "cmake.define.BUILD_SHARED_LIBS": "OFF",
    "cmake.define.LLAMA_BUILD_COMMON": "ON",
    "cmake.define.LLAMA_BUILD_SERVER": "ON",
    "cmake.define.LLAMA_BUILD_TOOLS": "ON",
    "cmake.define.LLAMA_BUILD_UI": "OFF",
    "cmake.define.LLAMA_TOOLS_INSTALL": "OFF",
    "cmake.define.LLAMA_USE_PREBUILT_UI": "OFF",
}


def built() -> Path | None:
    """The program, if it was built from these very sources and flags and is as it was then."""
    program = _home() / NAME
    try:
        known = (program.parent / DIGEST).read_text(encoding="ascii").strip()
        return program if _sha256(program) == known else None
    except OSError:
        return None


def build() -> Path:
    """The program, built first where needed. Errors: `UvError`, `InstallError`, `OSError`."""
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts build one after the other: the second finds it built
        found = built()
        if found is not None:
            return found
        # Beside its last place, so that renaming it there is one step.
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            _make(Path(folder))
            shutil.rmtree(home, ignore_errors=True)
            (Path(folder) / "made").rename(home)
    return home / NAME


def _make(folder: Path) -> None:
    """Build into `folder / "made"`.

    uv runs there, not in the project: it would merge the flags in pyproject.toml with these into lists.
    """
    staging, made, log = folder / "staging", folder / "made", folder.parent / "build.log"
    requirement = folder / "requirement.txt"
    requirement.write_text(_requirement(), encoding="utf-8")
    install = ["pip", "install", *VERIFIED, "--no-deps", *_settings(), "--requirements", str(requirement)]
    with log.open("w", encoding="utf-8") as output:
        environment = build_environment(_cmake_args())
        environment["PATH"] = os.pathsep.join([str(TOOLS), environment.get("PATH", os.defpath)])
        environment.setdefault("UV_SYSTEM_CERTS", "true")
        uv = WatchedUv(folder, output, environment)
        # Offline first, for the reason told in toolchain/install_env.py: uv has the source since it built the bindings.
        try:
            uv.run(*install, "--target", str(staging), "--offline")
        except UvError:
            if not uv.lacked_network():
                raise
            uv.run(*install, "--target", str(staging))
    made.mkdir()
    shutil.move(staging / IN_WHEEL, made / NAME)
    (made / NAME).chmod(0o755)
    (made / DIGEST).write_text(_sha256(made / NAME), encoding="ascii")


def _home() -> Path:
    """A folder for this source and these flags."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification: a relative path is not valid and is ignored
        cache = Path.home() / ".cache"
    made_from = "\n".join([_requirement(), *_settings(), _cmake_args(), platform.machine()])
    return cache / "loosh-miner" / NAME / hashlib.sha256(made_from.encode()).hexdigest()[:16]


def _requirement() -> str:
    """The locked line of the source distribution, with its hash."""
    locked = re.search(
        r"^llama-cpp-python==(?:.*\\\n)*.*\n", LOCKS["runtime"].read_text(encoding="utf-8"), re.MULTILINE
    )
    if locked is None:
        raise InstallError(f"llama-cpp-python is not in {LOCKS['runtime']}: ./justw lock")
    return locked[0]


def _settings() -> list[str]:
    """The flags for uv's command line."""
    project: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    flags: dict[str, str] = project["tool"]["uv"]["config-settings-package"]["llama-cpp-python"]
    flags = flags | {f"cmake.define.{name}": "OFF" for name in missing_instructions()} | dict(SERVER_FLAGS)
    if _cmake_args():  # as in install_env.llama_settings: it tells uv that the wheel is another one
        flags["cmake.define.LOOSH_CMAKE_ARGS"] = hashlib.sha256(_cmake_args().encode()).hexdigest()[:16]
    pairs = [("--config-settings-package", f"llama-cpp-python:{name}={value}") for name, value in flags.items()]
    return [part for pair in pairs for part in pair]


def _cmake_args() -> str:
    """What the operator added when the bindings were built."""
    return os.environ.get("CMAKE_ARGS", read_stamp().get("cmake_args", ""))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Build; 0 when it is there."""
    try:
        program = build()
    except (UvError, InstallError, OSError) as error:
        say(str(error))
        return 1
    sys.stdout.write(f"{program}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
