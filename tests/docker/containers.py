"""Images and containers made here by buildah and podman, without any image registry."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "localhost/loosh-miner-base:trixie-slim"
IMAGE: Final = "localhost/loosh-miner:test"
NEEDED: Final = ("buildah", "podman", "crun", "mmdebstrap", "unshare")
UV: Final = ROOT / ".tools" / "venv" / "bin" / "uv"
PYTHON_OF_BASE: Final = "3.13"
UNREACHABLE: Final = re.compile(
    r"Could not resolve|Temporary failure|Unable to fetch|Failed to fetch|Connection timed out"
)
SLOW_SECONDS: Final = 1500
# What Debian's own slim images leave out.
SLIM: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def skip_unless_possible() -> None:
    """Skip, loudly, where images can't be built."""
    if os.geteuid() != 0:
        pytest.skip("THE CONTAINER IMAGE IS NOT TESTED: it takes root here")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or not UV.exists():
        pytest.skip(
            f"THE CONTAINER IMAGE IS NOT TESTED: missing {missing or UV.name} (apt install buildah podman crun)"
        )


def run(*command: str | Path, check: bool = True, seconds: float = SLOW_SECONDS) -> str:
    """Run a command to its end; gives its standard output."""
    # Files, not pipes: what watches a container keeps podman's pipes open for as long as the container runs.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            timeout=seconds,
            env=os.environ | {"UV_SYSTEM_CERTS": "true"},
        )
        out.seek(0)
        err.seek(0)
        said, complained = out.read(), err.read()
    if check and done.returncode and UNREACHABLE.search(said + complained):
        pytest.skip(f"THE CONTAINER IMAGE IS NOT TESTED: packages can't be had: {(said + complained)[-500:]}")
    if check and done.returncode:
        pytest.fail(f"{command[0]} {command[1]} ended with {done.returncode}: {(said + complained)[-3000:]}")
    return said.strip()


def podman(*arguments: str | Path, check: bool = True) -> str:
    """Run podman. crun refuses machines that mount both kinds of cgroups: there it is shown the second kind only."""
    both = Path("/sys/fs/cgroup/unified")
    if not both.is_dir():
        return run("podman", *arguments, check=check)
    script = f'mount --bind {both} /sys/fs/cgroup && exec podman "$@"'
    return run("unshare", "--mount", "sh", "-c", script, "podman", *arguments, check=check)


def build_image() -> float:
    """Build the CPU image as a user does, but from what uv has in its cache; gives the seconds it took."""
    began = time.monotonic()
    base = _base()
    podman("import", "--quiet", base, BASE)
    _fill_cache()
    cache = run(UV, "cache", "dir")
    run(
        *("buildah", "build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--network", "host"),
        *("--build-arg", f"BASE={BASE}", "--build-arg", "BUILD_TOOLS="),
        *("--build-arg", "UV_CACHE_DIR=/uv-cache", "--build-arg", "UV_OFFLINE=true"),
        *("--volume", f"{cache}:/uv-cache", "--volume", f"{UV}:/usr/local/bin/uv:ro"),
        *("--file", "deploy/docker/Dockerfile", "--tag", IMAGE, "."),
    )
    return time.monotonic() - began


def _base() -> Path:
    """Debian's slim base, bootstrapped once into the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    cache = (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "loosh-miner"
    made = cache / "debian-trixie-slim.tar"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / "debian-trixie-slim.new.tar"
        without = [f"--dpkgopt=path-exclude={path}" for path in SLIM]
        run("mmdebstrap", "--variant=minbase", *without, "trixie", fresh, f"deb {_mirror()} trixie main")
        fresh.replace(made)
    return made


def _mirror() -> str:
    """Where this machine itself has Debian's packages from."""
    kinds = run("apt-get", "indextargets", "--format", "$(CREATED_BY) $(RELEASE) $(REPO_URI)").splitlines()
    split = [line.split() for line in kinds]
    return next(uri for made_by, release, uri in split if made_by == "Packages" and release.isalpha())


def _fill_cache() -> None:
    """Have uv fetch for the image's Python what it has for ours; llama.cpp is there, built."""
    lock = (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    wanted = "\n".join(line for line in lock if not line.startswith("llama-cpp-python=="))
    scratch = Path(run("mktemp", "--directory"))
    try:
        (scratch / "wanted.lock").write_text(wanted)
        run(
            *(UV, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", scratch / "target"),
            *("--python-version", PYTHON_OF_BASE, "--python-platform", "linux", "-r", scratch / "wanted.lock"),
        )
    finally:
        shutil.rmtree(scratch)
