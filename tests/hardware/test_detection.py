"""Detection: NVIDIA's own binding against a library of our own, hangs, and the host's files."""

import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from app.appliance.hardware.detect import detect
from app.appliance.hardware.host import read_cpu, read_disk, read_memory, read_os
from app.appliance.hardware.nvidia import ask_nvml, read_xids
from app.appliance.hardware.recordings import read_recording, shipped
from app.domain.compute.fit import MIB
from app.domain.compute.hardware import Hardware
from app.errors import ComputeFileError
from tests.hardware.library import build_library


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in for NVIDIA's library."""
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def with_driver(nvml: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The stand-in is what the child loads; NVML_STUB says how it behaves."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml))
    return monkeypatch


def test_all_that_nvml_tells_is_read(with_driver: pytest.MonkeyPatch) -> None:
    nvidia, problem = ask_nvml(60)
    assert problem is None
    assert (nvidia.driver, nvidia.cuda) == ("580.95.05", "13.0")
    (gpu,) = nvidia.gpus
    assert (gpu.name, gpu.memory, gpu.memory_free) == ("NVIDIA A10", 23028 * MIB, 23000 * MIB)
    assert gpu.compute_capability == (8, 6)
    assert (gpu.ecc, gpu.ecc_uncorrected, gpu.mig, gpu.persistence) == (True, 2, False, True)
    assert gpu.throttle == ("power cap", "thermal, hardware")
    assert gpu.temperature == 41
    assert gpu.bandwidth == pytest.approx(600e9, rel=0.001)


def test_eight_gpus_are_eight(with_driver: pytest.MonkeyPatch) -> None:
    with_driver.setenv("NVML_STUB", "eight")
    nvidia, _ = ask_nvml(60)
    assert [gpu.index for gpu in nvidia.gpus] == list(range(8))


def test_what_a_card_does_not_know_is_unknown(with_driver: pytest.MonkeyPatch) -> None:
    with_driver.setenv("NVML_STUB", "old")
    (gpu,) = ask_nvml(60)[0].gpus
    assert (gpu.ecc, gpu.ecc_uncorrected, gpu.mig) == (None, None, None)


def test_a_lost_gpu_is_told_and_the_other_one_kept(with_driver: pytest.MonkeyPatch) -> None:
    with_driver.setenv("NVML_STUB", "lost")
    nvidia, problem = ask_nvml(60)
    assert len(nvidia.gpus) == 1
    assert problem
    assert problem.text == "GPU 1: GPU is lost"


def test_a_driver_that_is_not_loaded_is_told(with_driver: pytest.MonkeyPatch) -> None:
    with_driver.setenv("NVML_STUB", "no-driver")
    nvidia, problem = ask_nvml(60)
    assert not nvidia.gpus
    assert problem
    assert problem.text == "Driver Not Loaded"


def test_a_driver_that_hangs_is_told_and_nobody_waits_for_it(with_driver: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_driver.setenv("NVML_STUB", "hang")
    began = time.monotonic()
    hardware = detect(tmp_path, seconds=2)
    assert time.monotonic() - began < 20
    assert not hardware.nvidia.gpus
    (problem,) = hardware.problems
    assert (problem.probe, "did not answer within 2 s" in problem.text) == ("nvidia", True)
    assert hardware.memory
    assert hardware.cpu


def test_a_child_that_fails_is_told() -> None:
    nvidia, problem = ask_nvml(60, (sys.executable, "-c", "import os; os.abort()"))
    assert not nvidia.gpus
    assert problem
    assert "exit status -6" in problem.text


def test_detection_on_this_machine_gives_a_recording(tmp_path: Path) -> None:
    found = detect(tmp_path / "not" / "there", seconds=60)
    assert found.cpu
    assert found.cpu.threads == len(os.sched_getaffinity(0))
    assert found.memory
    assert found.memory.total > 0
    assert found.disk
    assert found.disk.total >= found.disk.free > 0
    assert found.os
    assert found.os.kernel
    file = tmp_path / "machine.json"
    file.write_bytes(msgspec.json.encode(found))
    assert read_recording(str(file)) == found


def test_hosts_files_are_read(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A processor\nflags\t\t: fpu avx2 fma sse amx_int8\n")
    for thread, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(f"sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list", siblings + "\n")
    for node in (0, 1):
        write(f"sys/devices/system/node/node{node}/cpulist", "0\n")
    cpu = read_cpu(tmp_path)
    assert (cpu.model, cpu.cores, cpu.numa_nodes) == ("A processor", 2, 2)
    assert cpu.isa == ("amx_int8", "avx2", "fma")
    write("proc/meminfo", "MemTotal:       1000 kB\nMemAvailable:    900 kB\nSwapTotal:         50 kB\n")
    assert msgspec.structs.astuple(read_memory(tmp_path)) == (1_024_000, 921_600, 51_200)
    write("proc/self/cgroup", "0::/a/b\n")
    write("sys/fs/cgroup/a/b/memory.max", "max\n")
    write("sys/fs/cgroup/a/memory.max", "500000\n")
    assert msgspec.structs.astuple(read_memory(tmp_path)) == (500_000, 500_000, 51_200)
    assert read_os(tmp_path).id == ""
    assert read_disk(tmp_path, tmp_path).kind is None


def test_xids_are_read_from_the_kernels_log(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("6,1,0,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.\n6,2,0,-;other\n")
    assert read_xids(log) == (79,)
    assert read_xids(tmp_path / "none") is None


@pytest.mark.parametrize("name", shipped())
def test_each_shipped_recording_is_true_to_its_type(name: str) -> None:
    hardware = read_recording(name)
    assert hardware.memory
    assert all(gpu.memory % MIB == 0 and gpu.bandwidth for gpu in hardware.nvidia.gpus)


def test_all_machines_asked_for_are_shipped() -> None:
    assert {
        *("rtx5080", "rtx4090", "a10", "l4", "l40s", "a100-40", "a100-80", "h100", "h200", "2xa100-80", "8xh100"),
        *("rtx5090", "t4", "none"),
    } == set(shipped())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"gpus": []}', '{"nvidia": {"gpus": [{"index": -1}]}}', "[" * 99_999]
)
def test_a_broken_recording_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "machine.json"
    file.write_text(text)
    with pytest.raises(ComputeFileError, match=r"machine\.json.*is no recorded machine"):
        read_recording(str(file))


def test_an_unknown_recording_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ComputeFileError, match=r"h100.*t4"):
        read_recording("h1000")


def test_an_empty_machine_is_a_machine() -> None:
    assert msgspec.json.decode(b"{}", type=Hardware).nvidia.gpus == ()
