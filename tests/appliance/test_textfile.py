"""What node_exporter reads from files: cards and driver, and what the doctor found."""

import stat
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.appliance.driver_state import DriverState
from app.appliance.textfile import gpu_metrics
from app.domain.compute.hardware import Gpu, Nvidia, Problem
from tests.cli.command import run
from tests.doctor.machine import a100, server

STATE = DriverState(module="580.95.05", persistenced=True)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def read(path: Path) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Read the file as the exporter does."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_cards_driver_and_xids_are_told() -> None:
    hot = msgspec.structs.replace(a100(), index=1, temperature=91, throttle=("thermal, hardware",))
    found = server(nvidia=Nvidia(driver="580.95.05", gpus=(a100(), hot)))
    told = gpu_metrics(found, STATE, (79, 13, 79))
    assert value(told, "loosh_gpus") == 2
    assert value(told, "loosh_gpu_driver_mismatch") == 0
    assert value(told, "loosh_gpu_xid_errors", xid="79") == 2
    assert value(told, "loosh_gpu_temperature_celsius", gpu="1") == 91
    assert value(told, "loosh_gpu_throttled", gpu="1", reason="thermal, hardware") == 1
    assert value(told, "loosh_gpu_throttled", gpu="0", reason="thermal, hardware") is None


def test_what_a_card_does_not_tell_is_left_out() -> None:
    told = gpu_metrics(
        server(nvidia=Nvidia(gpus=(Gpu(index=0, name="x", memory=1, compute_capability=(8, 6)),))), STATE, None
    )
    assert value(told, "loosh_gpu_temperature_celsius", gpu="0") is None
    assert value(told, "loosh_gpu_ecc_uncorrected_errors", gpu="0") is None
    assert value(told, "loosh_gpu_xid_readable") == 0


def test_a_mismatch_shows_by_versions_and_by_nvmls_word() -> None:
    assert value(gpu_metrics(server(), DriverState(module="580.82.07"), ()), "loosh_gpu_driver_mismatch") == 1
    said = Problem("nvidia", "Driver/library version mismatch")
    silent = msgspec.structs.replace(server(nvidia=Nvidia()), problems=(said,))
    told = gpu_metrics(silent, STATE, (79,))
    assert value(told, "loosh_gpu_driver_mismatch") == 1
    assert value(told, "loosh_gpus") == 0
    assert value(told, "loosh_gpu_problems") == 1
    assert value(told, "loosh_gpu_xid_errors", xid="79") == 1


def test_the_file_is_replaced_whole_and_the_exporter_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "gpu.prom"
    file.write_text("half of someth")
    done = run(tmp_path, "hardware", "--hardware", "2xa100-80", "--textfile", str(file))
    assert (done.code, done.out) == (0, "")
    assert read(file)["loosh_gpus"] == [({}, 2)]
    assert stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["gpu.prom"]


def test_the_doctors_findings_are_told_by_code(tmp_path: Path) -> None:
    file = tmp_path / "doctor.prom"
    done = run(tmp_path, "doctor", "--json", "--only", "miner-running", "--only", "os", "--textfile", str(file))
    assert done.code == 1
    wanted = {(one["code"], one["status"]) for one in done.object()["findings"]}
    told = read(file)
    assert {(labels["code"], labels["status"]) for labels, _ in told["loosh_doctor_finding"]} == wanted
    assert ("miner-running", "failed") in wanted
    assert told["loosh_doctor_run_timestamp_seconds"][0][1] > 1.7e9


def test_a_file_that_cannot_be_written_is_a_line(tmp_path: Path) -> None:
    done = run(tmp_path, "hardware", "--textfile", str(tmp_path / "none" / "gpu.prom"))
    assert done.code == 1
    assert "No such file" in done.err
