"""Make .venv exactly what the locks say, or do nothing if it already is.

    install_env.py [--dev]

Started by the Justfile with whatever python3 there is (>= 3.9), with uv on the PATH. The long part is llama.cpp,
which comes as source: it is built once with the flags in pyproject.toml and kept in uv's cache, from where the next
environment takes it. CMAKE_ARGS, where set, comes after those flags and so wins (CUDA: -DGGML_CUDA=ON; the fastest
code for this very processor: -DGGML_NATIVE=ON); the choice stays until CMAKE_ARGS is set again, to nothing for ours.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from watched_uv import UvError, WatchedUv, cores, say

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-from.json"  # complete only when written last; anything else, and the environment is made again
WORK = ROOT / ".tools"
LOG = WORK / "env.log"
PYTHON_VERSION = ROOT / ".python-version"
PYPROJECT = ROOT / "pyproject.toml"
LOCKS = {"runtime": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
BUILD_LOCK = ROOT / "toolchain" / "build.lock"
INPUTS = (PYTHON_VERSION, PYPROJECT, BUILD_LOCK, *LOCKS.values())

INTO = ("--python", str(VENV))
BUILD_TOOLS = (
    *("--build-constraints", str(BUILD_LOCK)),
    *("--require-build-hashes", "--preview-features", "build-dependency-hashes"),
)
VERIFIED = (*INTO, *BUILD_TOOLS, "--require-hashes")

# What pyproject.toml's x86-64-v3 takes for granted: the flag in /proc/cpuinfo, and llama.cpp's name for it.
BASELINE = {"avx": "GGML_AVX", "avx2": "GGML_AVX2", "fma": "GGML_FMA", "f16c": "GGML_F16C", "bmi2": "GGML_BMI2"}


class InstallError(Exception):
    """The environment cannot be made; the text says what to do about it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    kind = "dev" if parser.parse_args().dev else "runtime"
    inputs = fingerprint()
    if is_current(kind, inputs):
        return 0
    try:
        with only_one():
            if not is_current(kind, inputs):
                install(kind, inputs)
    except (InstallError, UvError, OSError) as error:
        say(f"{error}\n(all of the output: {LOG})")
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


def fingerprint() -> str:
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(kind: str, inputs: str) -> bool:
    made = read_stamp()
    enough = made.get("kind") in {kind, "dev"}
    same_flags = os.environ.get("CMAKE_ARGS", made.get("cmake_args")) == made.get("cmake_args")
    return enough and same_flags and made.get("inputs") == inputs and (VENV / "bin" / "loosh-miner").exists()


def read_stamp() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(made: dict[str, str]) -> None:
    STAMP.write_text(json.dumps(made), encoding="utf-8")


@contextlib.contextmanager
def only_one() -> Generator[None]:
    """Hold a lock beside .venv: the kernel lets go of it however this process ends."""
    WORK.mkdir(exist_ok=True)
    with (WORK / "env.lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is making .venv: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(kind: str, inputs: str) -> None:
    started = time.monotonic()
    before = read_stamp()
    if before.get("kind") == "dev":
        kind = "dev"  # the test tools are not taken away from someone who has them
    cmake_args = os.environ.get("CMAKE_ARGS", before.get("cmake_args", ""))
    say("making .venv from the locks")
    ensure_venv()
    settings = llama_settings(cmake_args)
    made = {"kind": kind, "cmake_args": cmake_args, "llama": llama_fingerprint(settings)}
    write_stamp({**before, "kind": kind, "inputs": ""})  # unfinished, earlier choices kept until the new ones worked
    with LOG.open("w", encoding="utf-8") as log:
        uv = WatchedUv(ROOT, log, build_environment(cmake_args))
        if before.get("llama") != made["llama"]:
            install_llama(uv, settings)
        uv.run("pip", "sync", *VERIFIED, *settings, str(LOCKS[kind]))
        uv.run("pip", "install", *INTO, *BUILD_TOOLS, "--no-deps", "--editable", str(ROOT))
    write_stamp({**made, "inputs": inputs})
    say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def install_llama(uv: WatchedUv, settings: list[str]) -> None:
    """Build llama.cpp, or find it built with these very flags, and only then take the present one away.

    Offline first: behind a registry or proxy that says nothing of how long its files keep, uv fetches the source again
    and forgets what it had built from it. Offline it takes what it has.
    """
    requirement, staging = WORK / "llama.lock", WORK / "llama"
    locked = re.search(
        r"^llama-cpp-python==(?:.*\\\n)*.*\n", LOCKS["runtime"].read_text(encoding="utf-8"), re.MULTILINE
    )
    if locked is None:
        raise InstallError(f"llama-cpp-python is not in {LOCKS['runtime']}: ./justw lock")
    requirement.write_text(locked[0], encoding="utf-8")
    install = ("pip", "install", *VERIFIED, "--no-deps", *settings, "--requirements", str(requirement))
    try:
        uv.run(*install, "--target", str(staging), "--offline")
    except UvError:
        if not uv.lacked_network():
            raise
        uv.run(*install, "--target", str(staging))
    shutil.rmtree(staging)
    # uv looks at the version only, and its --reinstall would forget what it has built.
    uv.run("pip", "uninstall", *INTO, "llama-cpp-python")
    uv.run(*install, "--offline")


def ensure_venv() -> None:
    """Keep an environment whose python works and is the wanted one; otherwise begin anew."""
    wanted = PYTHON_VERSION.read_text(encoding="utf-8").strip()
    probe = [str(VENV / "bin" / "python"), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    with contextlib.suppress(OSError):
        found = subprocess.run(probe, check=False, capture_output=True, text=True)
        if found.returncode == 0 and (found.stdout.strip() == wanted or "UV_PYTHON" in os.environ):
            return
    command = ["uv", "venv", "--quiet", "--clear", str(VENV)]
    made = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        cause = made.stderr.strip()
        raise InstallError(
            f"{cause}\nThere is no python {wanted} here, and uv could not fetch one. Install it (apt install "
            f"python{wanted}, or pyenv install {wanted}), or name another with UV_PYTHON=/path/to/python."
        )


def build_environment(cmake_args: str) -> dict[str, str]:
    environment = {**os.environ, "NO_COLOR": "1", "CMAKE_ARGS": cmake_args}
    environment.pop("RUST_LOG", None)  # uv's own words are read
    # Another checkout may be building the same wheel: waiting for it is quicker than failing, uv's way after 5 minutes.
    environment.setdefault("UV_LOCK_TIMEOUT", "3600")
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(cores()))
    return environment


def llama_settings(cmake_args: str) -> list[str]:
    """Add to pyproject.toml's flags what this machine and its operator want; uv keeps one wheel for each set."""
    defines = dict.fromkeys(missing_instructions(), "OFF")
    if cmake_args:
        # scikit-build-core reads CMAKE_ARGS itself; this mark only tells uv that the wheel is another one.
        defines["LOOSH_CMAKE_ARGS"] = hashlib.sha256(cmake_args.encode()).hexdigest()[:16]
    settings: list[str] = []
    for name, value in defines.items():
        settings += ["--config-settings-package", f"llama-cpp-python:cmake.define.{name}={value}"]
    return settings


def llama_fingerprint(settings: list[str]) -> str:
    """Tell one set of build flags from another: pyproject.toml's (read as text: python 3.9 knows no TOML) and these."""
    table = PYPROJECT.read_text(encoding="utf-8").partition("[tool.uv.config-settings-package.llama-cpp-python]")[2]
    flags = [line for line in table.partition("\n[")[0].splitlines() if not line.startswith("#")]
    return hashlib.sha256("\n".join([*flags, *settings]).encode()).hexdigest()


def missing_instructions() -> list[str]:
    """Name what an older x86 processor (or an emulated one) lacks of the baseline: its own build leaves it out."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return []
    try:
        flags = set(
            Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\nflags")[2].partition("\n")[0].split()
        )
    except OSError:
        return []
    return [option for flag, option in BASELINE.items() if flag not in flags]


if __name__ == "__main__":
    sys.exit(main())
