"""What is rendered: the golden files, and what systemd, YAML and our own settings say of it."""

import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from app.appliance.compute.rendering import FORMATS
from app.appliance.compute.rendering.plan import Plan, Where, plan
from app.domain.compute.profile import Wishes
from app.settings import load
from tests.compute.goldens import FOLDER, VARIANTS, rendered
from tests.compute.machines import accepted, machine

ANALYZE: Final = shutil.which("systemd-analyze")
NIX: Final = shutil.which("nix-instantiate")
MOST_EXPOSURE: Final = 15
"""Tenths, for a unit with a GPU."""


def example(wishes: Wishes | None = None, where: Where | None = None) -> Plan:
    return plan(accepted(machine(81920, (8, 0), 2), wishes), where or Where())


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_recorded_machine_gives_its_golden_files(variant: str) -> None:
    there = {file.name: file.read_text() for file in (FOLDER / variant).iterdir()}
    assert dict(rendered(variant)) == there, "run python -m tests.compute.goldens and look at the difference"


def test_there_is_no_golden_file_too_many() -> None:
    assert {folder.name for folder in FOLDER.iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_miner_takes_its_own_lines_and_chooses_the_same_again(variant: str, tmp_path: Path) -> None:
    start = msgspec.json.decode((FOLDER / variant / "plan.json").read_bytes(), type=Plan)
    file = tmp_path / ".env"
    file.write_text(FORMATS["miner"](start))
    settings = load({"HOME": str(tmp_path)}, file).settings
    assert settings.llm_backend == start.profile.engine
    if start.profile.engine != "llamacpp":
        assert settings.default_model == start.profile.served_name


def test_the_command_has_every_flag_once_with_its_value() -> None:
    wishes = Wishes(
        model="llama3.1-70b-instruct",
        token=True,
        context=40960,
        utilisation=0.875,
        concurrent=100,
        max_num_batched_tokens=8192,
        prefix_caching=False,
        revisions={"hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": "b" * 40},
    )
    command = example(wishes, Where(vllm_port=9001)).command
    assert command[:3] == ("/opt/vllm/bin/vllm", "serve", "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4")
    assert dict(pairwise(command)) | {
        "--revision": "b" * 40,
        "--served-model-name": "meta-llama/Llama-3.1-70B-Instruct",
        "--host": "127.0.0.1",
        "--port": "9001",
        "--max-model-len": "40960",
        "--gpu-memory-utilization": "0.875",
        "--tensor-parallel-size": "2",
        "--max-num-seqs": "100",
        "--max-num-batched-tokens": "8192",
        "--tool-call-parser": "llama3_json",
        "--chat-template": "/opt/vllm/share/tool_chat_template_llama3.1_json.jinja",
        "--generation-config": "vllm",
    } == dict(pairwise(command))
    assert {"--enable-auto-tool-choice", "--no-enable-prefix-caching"} <= set(command)
    assert len([word for word in command if word.startswith("--")]) == len({w for w in command if w.startswith("--")})


def test_without_tool_choice_no_parser_is_named() -> None:
    command = example(Wishes(auto_tool_choice=False)).command
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--chat-template"} & set(command)


def test_the_operators_parser_wins() -> None:
    assert "hermes2" in example(Wishes(tool_call_parser="hermes2")).command


def test_gpus_that_are_not_used_are_hidden() -> None:
    start = plan(accepted(machine(81920, (8, 0), 3)), Where())
    assert start.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert start.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    compose: Any = yaml.safe_load(FORMATS["compose"](start))
    assert compose["services"]["vllm"]["devices"] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert "CUDA_VISIBLE_DEVICES" not in example().environment


def test_the_chat_template_that_the_wheel_lacks_is_told_and_asserted() -> None:
    start = example(Wishes(model="llama3.1-70b-instruct", token=True))
    template = "tool_chat_template_llama3.1_json.jinja"
    assert f"AssertPathExists=/opt/vllm/share/{template}\n" in FORMATS["systemd"](start)
    assert any(template in note.text for note in start.profile.notes if note.code == "chat_template")
    assert "AssertPathExists" not in FORMATS["systemd"](example())


@pytest.mark.parametrize(("engine", "variable"), [("vllm", "VLLM_IMAGE"), ("ollama", "OLLAMA_IMAGE")])
def test_an_image_can_be_pinned_by_its_digest(engine: Any, variable: str) -> None:  # noqa: ANN401 - a literal
    text = FORMATS["compose"](example(Wishes(engine=engine)))
    image: str = yaml.safe_load(text)["services"][engine]["image"]
    assert image.startswith(f"${{{variable}:-{engine}/")
    assert f"# {variable} pins the image" in text


@pytest.mark.parametrize("variant", VARIANTS)
def test_compose_is_yaml_and_publishes_on_loopback_only(variant: str) -> None:
    services: dict[str, Any] = yaml.safe_load((FOLDER / variant / "compose.yml").read_text())["services"]
    (service,) = services.values()
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert all(isinstance(value, str) for value in service["environment"].values())


@pytest.mark.skipif(NIX is None, reason="needs nix-instantiate (Debian: nix-bin)")
def test_nix_reads_every_module(tmp_path: Path) -> None:
    assert NIX
    odd = tmp_path / "odd.nix"
    odd.write_text(FORMATS["nix"](example(where=Where(hf_home='/srv/a b/${x}/$HOME/"q"\\'))))
    files = [str(odd), *map(str, sorted(FOLDER.glob("*/engine.nix")))]
    own = {name: str(tmp_path) for name in ("NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "HOME")}
    done = subprocess.run(
        [NIX, "--parse", *files], capture_output=True, text=True, check=False, env={**os.environ, **own}
    )
    assert done.returncode == 0, done.stderr


def test_odd_folders_stay_one_word_in_every_format() -> None:
    folder = '/srv/a b/50%/$HOME/"q"'
    start = example(where=Where(hf_home=folder, hub_cache="/home/operator/hub"))
    unit = FORMATS["systemd"](start)
    assert 'Environment="HF_HOME=/srv/a b/50%%/$HOME/\\"q\\""' in unit
    assert "ProtectHome=tmpfs\n" in unit
    assert "BindPaths=/home/operator/hub\n" in unit
    compose: Any = yaml.safe_load(FORMATS["compose"](start).replace("$$", "$"))
    assert compose["services"]["vllm"]["environment"]["HF_HOME"] == folder
    assert '"/srv/a b/50%/$HOME/\\"q\\""' in FORMATS["nix"](start)


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("variant", [name for name in VARIANTS if "vllm" in (FOLDER / name / "plan.json").read_text()])
def test_systemd_takes_the_unit_and_finds_little_exposed(variant: str, tmp_path: Path) -> None:
    assert ANALYZE
    text = (FOLDER / variant / "engine.service").read_text()
    if "/vllm.service\n" not in text:
        pytest.skip("a drop-in for a unit that others bring")
    unit = tmp_path / "vllm.service"
    # systemd looks whether the programs are there; here they are not.
    unit.write_text(re.sub(r"/opt/vllm/bin/vllm|/usr/bin/nvidia-modprobe", "/bin/true", text))
    command = [ANALYZE, "verify", "--man=no", str(unit)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LANG": "C"})
    assert checked.returncode == 0, checked.stderr
    assert "vllm.service" not in checked.stderr, checked.stderr
    rated = subprocess.run(
        [ANALYZE, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout
