"""npm's `pm2`, pinned, fetched once into the user's cache; and one daemon of it for a test."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import psutil
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ECOSYSTEM: Final = ROOT / "deploy" / "pm2" / "ecosystem.config.js"
VERSION: Final = "7.0.4"
FETCH_SECONDS: Final = 240
COMMAND_SECONDS: Final = 150


def installed_pm2() -> Path:
    """The program; skips the test where npm or its registry can't be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("PM2 IS NOT TESTED: there is no npm here (apt install npm)")
    home = _cache() / f"pm2-{VERSION}"
    program = home / "node_modules" / "pm2" / "bin" / "pm2"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "pm2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _fetch(npm, home)
    return program


def _fetch(npm: str, home: Path) -> None:
    """Install beside its last place, so that a half installed one is never found there."""
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        command = [npm, "install", "--prefix", scratch, "--no-audit", "--no-fund", "--ignore-scripts", f"pm2@{VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"PM2 IS NOT TESTED: pm2 {VERSION} did not come from the registry within {FETCH_SECONDS} s")
        if done.returncode:
            pytest.skip(f"PM2 IS NOT TESTED: pm2 {VERSION} could not be fetched: {done.stderr.strip()[-300:]}")
        shutil.rmtree(home, ignore_errors=True)
        Path(scratch).rename(home)
        Path(scratch).mkdir()  # for its clean-up


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "loosh-miner"


class Pm2:
    """A PM2 daemon with a home of its own, as one operator has it."""

    def __init__(self, program: Path, home: Path, environment: Mapping[str, str]) -> None:
        self.program = program
        self.home = home
        # With this PM2 asks nobody in the internet for its latest version.
        quiet = {"PM2_HOME": str(home), "PM2_DISABLE_VERSION_CHECK": "true", "PM2_DISCRETE_MODE": "true"}
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | dict(environment) | quiet

    def run(self, *arguments: str, check: bool = True) -> str:
        """One command; gives its standard output."""
        done = subprocess.run(
            ["node", str(self.program), *arguments],
            env=self.environment,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def app(self) -> dict[str, Any]:
        """What PM2 says of its only app."""
        listed = cast("list[dict[str, Any]]", json.loads(self.run("jlist", "--silent").strip().splitlines()[-1]))
        assert len(listed) == 1
        return listed[0]

    def wait_status(self, status: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the app is `online`, `stopped`, ...; gives what PM2 says of it then."""
        until = time.monotonic() + seconds
        while (app := self.app())["pm2_env"]["status"] != status:
            assert time.monotonic() < until, app["pm2_env"]["status"]
            time.sleep(0.3)
        return app

    def log(self) -> str:
        """All that the app has written."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.home / "logs").glob("*.log")))

    def daemon(self) -> psutil.Process | None:
        """The daemon, if it runs."""
        try:
            return psutil.Process(int((self.home / "pm2.pid").read_text()))
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    def close(self) -> None:
        """End daemon and app; by their ids if they don't end when told to."""
        daemon = self.daemon()
        ours = [daemon, *daemon.children(recursive=True)] if daemon is not None else []
        try:
            self.run("kill", check=False)
        except subprocess.TimeoutExpired:
            sys.stderr.write("pm2 kill did not end: killing what it runs\n")
        _, alive = psutil.wait_procs(ours, timeout=10)
        for process in alive:
            process.kill()
