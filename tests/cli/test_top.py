"""`loosh-miner top`, of a running miner and without one."""

import os
import pty
import subprocess
import time
from pathlib import Path

from tests.cli.command import command, environment, run
from tests.conftest import StartMiner
from tests.miner.process import fetch, free_port
from tests.must_hold.conftest import NewValidator, new_validator

__all__ = ["new_validator"]


async def test_one_look(start_miner: StartMiner, new_validator: NewValidator, tmp_path: Path) -> None:
    miner = start_miner()
    validator = await new_validator(miner)
    await validator.ask("seen?")
    seen = run(tmp_path, "top", "--once", ADMIN_PORT=str(miner.admin_port))
    assert seen.code == 0, seen.err
    assert "READY" in seen.out
    assert "1 ok, 0 cut" in seen.out
    assert validator.hotkey.ss58 in seen.out
    assert "stub/model" in seen.out
    told = run(tmp_path, "top", "--json", ADMIN_PORT=str(miner.admin_port)).object()
    assert told["banner"]["state"] == "ready"
    assert told["last"][0]["outcome"] == "ok"
    token = {"authorization": f"Bearer {miner.admin_token}"}
    assert fetch(miner.admin_port, "/drain", method="POST", headers=token)[0] == 200
    drained = run(tmp_path, "top", ADMIN_PORT=str(miner.admin_port))
    assert drained.code == 3
    assert "DRAINING" in drained.out


def test_no_miner(tmp_path: Path) -> None:
    done = run(tmp_path, "top", ADMIN_PORT=str(free_port()))
    assert done.code == 1
    assert "no miner runs here" in done.err


def test_it_lives_in_a_terminal_until_interrupted(start_miner: StartMiner, tmp_path: Path) -> None:
    miner = start_miner()
    ours, its = pty.openpty()
    given = environment(tmp_path, ADMIN_PORT=str(miner.admin_port), TERM="xterm-256color", COLUMNS="100", LINES="40")
    process = subprocess.Popen(
        [*command(), "top"], cwd=tmp_path, env=given, stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    os.set_blocking(ours, False)
    shown = b""
    try:
        until = time.monotonic() + 120
        # The second drawing: it does look again.
        while shown.count(b"stub/model") < 2:
            assert time.monotonic() < until, shown[-2000:]
            assert process.poll() is None
            time.sleep(0.1)
            try:
                shown += os.read(ours, 65536)
            except BlockingIOError:
                continue
        process.send_signal(2)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"READY" in shown
