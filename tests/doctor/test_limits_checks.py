"""What the doctor says of limits: those of a unit that runs, else of the shell it was started in."""

import os
from pathlib import Path

import pytest

from app.doctor.check import Verdict
from app.doctor.limits_checks import LimitsChecks
from tests.doctor.machine import look, write

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max processes             {processes:<20} 95951                processes
Max open files            {files:<20} 524288               files
Max locked memory         {locked:<20} 8388608              bytes
Max realtime timeout      unlimited            unlimited            us
"""
UNIT = 4711


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a systemctl that knows no unit; rewrite the file to have one run."""
    folder = tmp_path / "bin"
    write(folder, "systemctl", "#!/bin/sh\necho 0\n")
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def runs(systemctl: Path, unit: str) -> None:
    (systemctl / "systemctl").write_text(f'#!/bin/sh\n[ "$2" = {unit}.service ] && echo {UNIT} || echo 0\n')


def limits(
    root: Path, who: str = "self", *, files: str = "524288", processes: str = "95951", locked: str = "8"
) -> None:
    write(root, f"proc/{who}/limits", LIMITS.format(files=files, processes=processes, locked=locked))


async def _judge(root: Path, code: str, engine: str = "vllm") -> Verdict:
    return await look(LimitsChecks(engine, root), code)


@pytest.mark.parametrize(("files", "status"), [("1024", "warning"), ("4096", "ok"), ("unlimited", "ok")])
async def test_open_files(systemctl: Path, tmp_path: Path, files: str, status: str) -> None:
    limits(tmp_path, files=files)
    verdict = await _judge(tmp_path, "open-files")
    assert verdict.status == status
    assert files in verdict.what
    assert "this shell" in verdict.what
    assert ("LimitNOFILE" in verdict.fix) == (status == "warning")


async def test_a_running_units_limit_is_what_counts(systemctl: Path, tmp_path: Path) -> None:
    runs(systemctl, "loosh-miner")
    limits(tmp_path, files="1024")
    limits(tmp_path, str(UNIT), files="65536")
    verdict = await _judge(tmp_path, "open-files")
    assert verdict == Verdict("ok", "65536 for the unit loosh-miner")


async def test_threads_are_those_that_user_and_control_groups_still_take(systemctl: Path, tmp_path: Path) -> None:
    runs(systemctl, "loosh-miner")
    limits(tmp_path, str(UNIT))
    assert (await _judge(tmp_path, "processes")).what == "95951 for the unit loosh-miner"
    write(tmp_path, f"proc/{UNIT}/cgroup", "0::/system.slice/loosh-miner.service\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/loosh-miner.service/pids.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/loosh-miner.service/pids.current", "30\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/pids.max", "600\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/pids.current", "100\n")
    verdict = await _judge(tmp_path, "processes")
    assert (verdict.status, "TasksMax" in verdict.fix) == ("warning", True)
    assert verdict.what.startswith("500 more")
    limits(tmp_path, str(UNIT), processes="100")
    assert (await _judge(tmp_path, "processes")).what.startswith("100 more")


@pytest.mark.parametrize(("locked", "status"), [("8388608", "warning"), ("unlimited", "ok")])
async def test_vllms_unit_may_lock_memory(systemctl: Path, tmp_path: Path, locked: str, status: str) -> None:
    runs(systemctl, "vllm")
    limits(tmp_path, str(UNIT), locked=locked)
    verdict = await _judge(tmp_path, "memory-lock")
    assert verdict.status == status
    assert ("LimitMEMLOCK=infinity" in verdict.fix) == (status == "warning")
    assert (await _judge(tmp_path, "memory-lock", "ollama")).status == "skipped"


async def test_without_a_unit_of_vllm_nothing_is_said_of_locked_memory(systemctl: Path, tmp_path: Path) -> None:
    limits(tmp_path)
    assert (await _judge(tmp_path, "memory-lock")).status == "skipped"


async def test_shared_memory_only_matters_to_vllm(systemctl: Path, tmp_path: Path) -> None:
    assert (await _judge(tmp_path, "shared-memory", "llamacpp")).status == "skipped"
    assert (await _judge(tmp_path, "shared-memory")).what == "there is no /dev/shm"
    (tmp_path / "dev/shm").mkdir(parents=True)
    assert (await _judge(tmp_path, "shared-memory")).status in {"ok", "warning"}


@pytest.mark.parametrize("code", ["open-files", "memory-lock"])
async def test_what_can_not_be_read_is_skipped(systemctl: Path, tmp_path: Path, code: str) -> None:
    runs(systemctl, "vllm")
    assert (await _judge(tmp_path, code)).status == "skipped"
