"""The miner under a real PM2: started, killed, started again, stopped without losing an answer."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from tests.miner.canary import API_KEY
from tests.miner.http import Connection
from tests.miner.process import StubEngine, fetch, free_port
from tests.miner.validator import Validator, challenge
from tests.pm2.pm2 import ECOSYSTEM, Pm2, installed_pm2

READY_SECONDS = 90


class Operator:
    """An operator's directory with a `.env`, and the PM2 that runs the miner in it."""

    def __init__(self, program: Path, folder: Path, engine: StubEngine) -> None:
        self.workdir = folder / "miner"
        self.workdir.mkdir()
        self.port = free_port()
        settings = {
            "DEVELOPMENT_MODE": "on",
            "LLM_BACKEND": "vllm",
            "VLLM_API_BASE": engine.base_url,
            "DEFAULT_MODEL": engine.model,
            "ADMIN_PORT": free_port(),
            "STATE_DIR": folder / "state",
            "ENABLE_RATE_LIMITS": "false",
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.workdir / ".env").write_text(text)
        shell = {
            "HOME": str(folder),
            "MINER_WORKDIR": str(self.workdir),
            "PYTHON_INTERPRETER": sys.executable,
            "API_HOST": "127.0.0.1",
            "API_PORT": str(self.port),
            "SOME_SECRET": API_KEY,
        }
        self.pm2 = Pm2(program, folder / "pm2", shell)

    async def wait_ready(self) -> None:
        """Wait until validators are served."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            try:
                if b"true" in (await asyncio.to_thread(fetch, self.port, "/availability"))[2]:
                    return
            except (OSError, HTTPException):
                pass
            await asyncio.sleep(0.2)
        raise AssertionError(self.pm2.log()[-3000:])

    async def validator(self) -> Validator:
        """A validator on a connection of its own."""
        return Validator(await Connection.open(self.port))


@pytest.fixture(scope="module")
def program() -> Path:
    """PM2 itself."""
    return installed_pm2()


@pytest.fixture
def operator(program: Path, tmp_path: Path, engine: StubEngine) -> Iterator[Operator]:
    """Nothing started yet; all ended afterwards."""
    operator = Operator(program, tmp_path, engine)
    yield operator
    operator.pm2.close()


async def test_killed_it_is_back_and_a_stop_loses_no_answer(operator: Operator, engine: StubEngine) -> None:
    pm2 = operator.pm2
    pm2.run("start", str(ECOSYSTEM))
    await operator.wait_ready()
    first = pm2.app()["pid"]
    running = psutil.Process(first)
    async with await operator.validator() as validator:
        assert (await validator.ask("a first"))["response_text"]

    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(psutil.wait_procs, [running], 30)
    await operator.wait_ready()
    assert pm2.wait_status("online")["pid"] != first
    assert pm2.app()["pm2_env"]["restart_time"] == 1

    async with await operator.validator() as validator:
        assert (await validator.ask("after the crash"))["response_text"]
        engine.behave(first_token_ms=4000)
        slow = asyncio.create_task(validator.send(challenge("in flight")))
        while not engine.stats().running:  # noqa: ASYNC110 - the stub can only be asked
            await asyncio.sleep(0.05)
        await asyncio.to_thread(pm2.run, "stop", "loosh-miner")
        assert validator.opened(await slow)["response_text"]
    app = pm2.wait_status("stopped")
    assert app["pm2_env"]["exit_code"] == 0
    assert app["pm2_env"]["restart_time"] == 1

    pm2.run("save")
    kept = (pm2.home / "dump.pm2").read_text()
    assert API_KEY not in kept, "PM2 keeps what is in the operator's shell"
    assert str(operator.port) in kept


async def test_wrong_settings_are_said_once(operator: Operator) -> None:
    with (operator.workdir / ".env").open("a") as file:
        file.write("LLM_BACKEND=oracle\n")
    operator.pm2.run("start", str(ECOSYSTEM))
    # PM2 shows the delay that it would have waited although it starts the app no more.
    app = await asyncio.to_thread(operator.pm2.wait_status, "waiting restart")
    assert app["pm2_env"]["exit_code"] == 2
    await asyncio.sleep(3)  # the first delay is half a second
    app = operator.pm2.app()
    assert app["pm2_env"]["status"] == "waiting restart"
    assert app["pm2_env"]["restart_time"] == 0
    assert operator.pm2.log().count("LLM_BACKEND") == 1


def _config(script: str, **environment: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("PM2'S CONFIGURATION IS NOT TESTED: there is no node here (apt install nodejs)")
    program = f"const app = require({str(ECOSYSTEM)!r}).apps[0]; console.log({script})"
    shell = {"PATH": os.environ["PATH"]} | environment
    return subprocess.run([node, "-e", program], env=shell, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def config() -> Callable[..., str]:
    """An expression on the app that PM2 is told to run."""
    return _config


def test_the_operators_variables(config: Callable[..., str]) -> None:
    assert config("app.cwd") == str(ECOSYSTEM.parents[2])
    assert config("app.script", MINER_WORKDIR="/srv/miner") == "/srv/miner/.venv/bin/python"
    assert config("app.script", PYTHON_INTERPRETER="/opt/python") == "/opt/python"
    assert config("app.env.API_HOST + ' ' + app.env.API_PORT") == "undefined undefined"
    assert config("app.env.API_HOST + ' ' + app.env.API_PORT", API_HOST="::", API_PORT="8123") == ":: 8123"


def test_the_kill_comes_after_the_drain(config: Callable[..., str]) -> None:
    """The drain (60 s) and the closing of connections (15 s) end before PM2 kills."""
    assert int(config("app.kill_timeout")) > (60 + 15) * 1000
