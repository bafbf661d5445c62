"""llama.cpp's own server, built once from the source that llama-cpp-python's lock names, and kept in the user's cache.

    python -m tests.peers.llama_build     build it where it is missing; its path goes to stdout

The same source, by hash, and linked with the very libraries that the bindings in `.venv` load, so that the two can be
measured side by side; copies of these lie beside the program. It takes minutes: neither tests nor the benchmark build
it, they go without where it is not there.
"""

import fcntl
import hashlib
import importlib.util
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
LIBRARIES: Final = "*.dylib" if sys.platform == "darwin" else "*.so"
GGML: Final = Path("cmake") / "ggml"
RECIPE: Final = Path(__file__).with_name("llama_server.cmake")
# Over the bindings' flags: the server alone, and nothing fetched for its web page.
SERVER_FLAGS: Final[Mapping[str, str]] = {
    "build.targets": NAME,
    "install.components": "server",
    "cmake.define.BUILD_SHARED_LIBS": "OFF",
    "cmake.define.LLAMA_BUILD_COMMON": "ON",
    "cmake.define.LLAMA_BUILD_SERVER": "ON",
    "cmake.define.LLAMA_BUILD_TOOLS": "ON",
    "cmake.define.LLAMA_BUILD_UI": "OFF",
    "cmake.define.LLAMA_TOOLS_INSTALL": "OFF",
    "cmake.define.LLAMA_USE_PREBUILT_UI": "OFF",
    "cmake.define.LLAMA_USE_SYSTEM_GGML": "ON",
}


def built() -> Path | None:
    """The program, if it was built from these very sources, flags and libraries and is as it was then."""
    try:
        program = _home() / NAME
        known = (program.parent / DIGEST).read_text(encoding="ascii").strip()
        return program if _sha256(program, *_libraries(program.parent)) == known else None
    except (InstallError, OSError):
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
    where = {"cmake.define.CMAKE_PROJECT_INCLUDE": str(RECIPE), "cmake.define.ggml_DIR": str(_installed() / GGML)}
    settings = _for_uv(_flags() | where)
    install = ["pip", "install", *VERIFIED, "--no-deps", *settings, "--requirements", str(requirement)]
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
    for library in _libraries(_installed()):
        shutil.copy(library, made / library.name)
    (made / DIGEST).write_text(_sha256(made / NAME, *_libraries(made)), encoding="ascii")


def _home() -> Path:
    """A folder for this source, these flags and these libraries."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification: a relative path is not valid and is ignored
        cache = Path.home() / ".cache"
    parts = [_requirement(), *_for_uv(_flags()), _cmake_args(), platform.machine()]
    made_from = "\n".join([*parts, _sha256(RECIPE, *_libraries(_installed()))])
    return cache / "loosh-miner" / NAME / hashlib.sha256(made_from.encode()).hexdigest()[:16]


def _requirement() -> str:
    """The locked line of the source distribution, with its hash."""
    locked = re.search(
        r"^llama-cpp-python==(?:.*\\\n)*.*\n", LOCKS["runtime"].read_text(encoding="utf-8"), re.MULTILINE
    )
    if locked is None:
        raise InstallError(f"llama-cpp-python is not in {LOCKS['runtime']}: ./justw lock")
    return locked[0]


def _flags() -> dict[str, str]:
    """What the build is told, but for where things are on this machine."""
    project: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    flags: dict[str, str] = project["tool"]["uv"]["config-settings-package"]["llama-cpp-python"]
    flags = flags | {f"cmake.define.{name}": "OFF" for name in missing_instructions()} | dict(SERVER_FLAGS)
    if _cmake_args():  # as in install_env.llama_settings: it tells uv that the wheel is another one
        flags["cmake.define.LOOSH_CMAKE_ARGS"] = hashlib.sha256(_cmake_args().encode()).hexdigest()[:16]
    return flags


def _for_uv(flags: Mapping[str, str]) -> list[str]:
    """The flags for uv's command line."""
    pairs = [("--config-settings-package", f"llama-cpp-python:{name}={value}") for name, value in flags.items()]
    return [part for pair in pairs for part in pair]


def _installed() -> Path:
    """The folder of the libraries that the bindings load. Errors: `InstallError`."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise InstallError("llama-cpp-python is not installed: ./justw test installs it")
    return Path(spec.origin).parent / "lib"


def _libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob(LIBRARIES))


def _cmake_args() -> str:
    """What the operator added when the bindings were built."""
    return os.environ.get("CMAKE_ARGS", read_stamp().get("cmake_args", ""))


def _sha256(*paths: Path) -> str:
    """Of all files together, and of where one ends."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


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
