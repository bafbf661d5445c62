"""Alerts and dashboard, without a box: the rules hold their own tests, and every metric they name is one there is."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.appliance.driver_state import DriverState
from app.appliance.textfile import gpu_metrics
from app.doctor.check import Finding, Report
from app.doctor.exposition import report_metrics
from app.doctor.gpu_checks import GRAVE_XIDS
from app.domain.compute.hardware import Nvidia
from tests.ansible.promtool import find_promtool
from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.chain.registered import NETUID, on_chain, write_hotkey
from tests.conftest import StartMiner
from tests.doctor.machine import a100, server
from tests.miner.process import fetch
from tests.miner.validator import Hotkey

ROLE: Final = Path(__file__).parents[2] / "ansible/roles/monitoring"
RULES: Final = ROLE / "files/loosh-miner.rules.yml"
DASHBOARD: Final = ROLE / "files/loosh-miner.json"
UNIT_TESTS: Final = Path(__file__).parent / "rules/loosh-miner.test.yml"
METRIC: Final = re.compile(r"\b((?:loosh|node|vllm)[_:][a-z][a-zA-Z0-9_:]*)")
# Those of node_exporter 1.3 and newer that are used; test_monitoring.py asks a real one for them.
NODE: Final = frozenset(
    {
        *("node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"),
        *("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
        *("node_network_receive_bytes_total", "node_network_transmit_bytes_total"),
        *("node_systemd_unit_state", "node_timex_sync_status"),
        *("node_textfile_mtime_seconds", "node_textfile_scrape_error"),
    }
)
# As vLLM documents them; it needs a GPU's box to be asked.
VLLM: Final = frozenset({"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"})


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_promtool(tmp_path_factory.mktemp("prometheus"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    """Everything that is asked of Prometheus, by alerts and dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [rule["expr"] for rule in rules()] + [
        target["expr"] for panel in panels for target in panel.get("targets", [])
    ]


def named() -> set[str]:
    return {name for query in queries() for name in METRIC.findall(query)}


def told(text: str) -> set[str]:
    """Names of all metrics and samples in an exposition, also of those without any sample yet."""
    names: set[str] = set()
    for family in text_string_to_metric_families(text):
        names |= {family.name, *(sample.name for sample in family.samples)}
        if family.type == "counter":
            names.add(f"{family.name}_total")
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def of_tools() -> set[str]:
    """What `hardware` and `doctor` write for node_exporter."""
    card = msgspec.structs.replace(a100(), memory_free=1, throttle=("power cap",))
    gpus = gpu_metrics(server(nvidia=Nvidia(driver="1", gpus=(card,))), DriverState(module="1"), (79,))
    finding = Finding(code="os", section="system", status="ok", what="", fix="", seconds=0)
    return told(exposed(gpus)) | told(exposed(report_metrics(Report("ok", (finding,), 0))))


def exposed(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_the_alerts_hold_their_unit_tests(promtool: Path) -> None:
    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = subprocess.run([promtool, "test", "rules", UNIT_TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test_a_severity_and_a_remedy() -> None:
    tested = UNIT_TESTS.read_text()
    for rule in rules():
        name = rule["alert"]
        assert re.search(rf"\b{name}\b", tested) or (name.startswith("NoAnswer") and "NoAnswer.*" in tested), name
        assert rule["labels"]["severity"] in {"warning", "critical", "page"}, name
        assert set(rule["annotations"]) == {"summary", "description"}, name


def test_every_alert_is_in_the_roles_document() -> None:
    document = (ROLE / "README.md").read_text()
    assert [rule["alert"] for rule in rules() if not re.search(rf"\b{rule['alert']}\b", document)] == []


def test_every_metric_that_is_asked_for_exists(
    start_miner: StartMiner, chain: ChainNode, challenge_api: ChallengeApiProcess, tmp_path: Path
) -> None:
    me, validator = write_hotkey(tmp_path), Hotkey()
    chain.add_subnet(NETUID)
    chain.register(NETUID, validator.ss58, permit=True, stake=2000.0, axon="203.0.113.1:8000")
    chain.register(NETUID, me.ss58, incentive=0.5)
    challenge_api.behave({"hotkey_ss58": validator.ss58, "status": "active", "ip": "203.0.113.2"})
    miner = start_miner(home=tmp_path, **on_chain(tmp_path, chain, challenge_api))
    _, _, text = fetch(miner.admin_port, "/metrics")
    assert named() - told(text.decode()) - of_tools() - NODE - VLLM == set()


def test_no_metric_is_excused_that_nobody_asks_for() -> None:
    assert named() >= NODE | VLLM


def test_grave_xids_are_those_of_the_doctor() -> None:
    grave = [rule["expr"] for rule in rules() if rule["alert"] == "GpuXid"]
    assert set(map(int, re.findall(r"\d+", grave[0]))) - {0} == GRAVE_XIDS


def test_the_dashboard_asks_the_provisioned_source() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert "uid: loosh-miner" in (ROLE / "templates/datasources.yml.j2").read_text()
    assert {target["datasource"]["uid"] for panel in board["panels"] for target in panel.get("targets", [])} == {
        "loosh-miner"
    }
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
