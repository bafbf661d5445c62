"""`min_compute.yml`: its facts, its errors, its schema, and that it comes with the wheel."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from app.appliance.compute import docs
from app.appliance.compute.catalogue_file import SHIPPED, read_catalogue
from app.errors import ComputeFileError
from tests.compute.machines import CATALOGUE

ROOT: Final = Path(__file__).parents[2]
UV: Final = shutil.which("uv", path=f"{ROOT}/.tools/venv/bin:{os.environ['PATH']}")
TEXT: Final = (ROOT / "min_compute.yml").read_text()

type Change = Callable[[dict[str, Any]], None]


def changed(tmp_path: Path, change: Change) -> Path:
    """A copy of the file with something else in it."""
    tree: dict[str, Any] = yaml.safe_load(TEXT)
    change(tree)
    file = tmp_path / "min_compute.yml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def miner(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["compute_spec"]["miner"]


def test_the_subnets_paths_are_kept() -> None:
    tree = yaml.safe_load(TEXT)
    assert {"version", "compute_spec"} <= set(tree)
    assert set(miner(tree)) == {"cpu", "gpu", "memory", "storage", "os", "network_spec", "model_allowlist"}
    assert set(miner(tree)["gpu"]) == {"required", "profiles"}
    assert list(miner(tree)["gpu"]["profiles"]) == list(miner(tree)["model_allowlist"])


def test_the_tiers_are_the_subnets() -> None:
    tiers = CATALOGUE.tiers
    assert {name: (t.min_vram, t.capability, t.recommended_max_context) for name, t in tiers.items()} == {
        "rtx_5080_16gb": (16, (12, 0), 16384),
        "a10_24gb": (24, (8, 6), 32768),
        "a100_40gb": (40, (8, 0), 65536),
        "a100_80gb": (80, (8, 0), 131072),
        "h100_80gb": (80, (9, 0), 131072),
    }
    assert [name for name, tier in tiers.items() if tier.retired_upstream] == ["rtx_5080_16gb"]


def test_bytes_per_token_are_those_of_the_models() -> None:
    assert {name: facts.kv_bytes_per_token for name, facts in CATALOGUE.model_facts.items()} == {
        "phi-3.5-mini-instruct": 393216,
        "qwen2.5-7b-instruct": 57344,
        "llama3.1-8b-instruct": 131072,
        "mistral-nemo-instruct-2407": 163840,
        "qwen2.5-14b-instruct": 196608,
        "qwen2.5-coder-14b-instruct": 196608,
        "qwen2.5-32b-instruct": 262144,
        "llama3.1-70b-instruct": 327680,
        "qwen2.5-72b-instruct-awq": 327680,
        "mixtral-8x22b-instruct": 229376,
    }


def test_a_yaml_float_22_04_is_refused_with_quotes_as_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "min_compute.yml"
    file.write_text(TEXT.replace('version: "22.04"', "version: 22.04"))
    with pytest.raises(ComputeFileError) as caught:
        read_catalogue(file)
    assert str(caught.value).startswith(f"{file}: compute_spec.miner.os.version: 22.04: ")
    assert 'write "22.04"' in str(caught.value)


def set_layers(tree: dict[str, Any]) -> None:
    tree["model_facts"]["qwen2.5-7b-instruct"]["layers"] = "many"


def set_vram(tree: dict[str, Any]) -> None:
    miner(tree)["gpu"]["profiles"]["a10_24gb"]["min_vram"] = -1


def set_revision(tree: dict[str, Any]) -> None:
    tree["model_facts"]["qwen2.5-7b-instruct"]["weights"]["Qwen/Qwen2.5-7B-Instruct-AWQ"]["revision"] = "main"


def set_quant(tree: dict[str, Any]) -> None:
    miner(tree)["model_allowlist"]["a10_24gb"][1]["quants"]["awq"] = ["a/b"]


def set_typing_error(tree: dict[str, Any]) -> None:
    miner(tree)["cpu"]["min_core"] = 8


def set_context(tree: dict[str, Any]) -> None:
    tree["model_facts"]["qwen2.5-7b-instruct"]["served_context"] = 65536


def set_small_context(tree: dict[str, Any]) -> None:
    tree["model_facts"]["qwen2.5-7b-instruct"]["served_context"] = 4096


def drop_facts(tree: dict[str, Any]) -> None:
    del tree["model_facts"]["qwen2.5-7b-instruct"]


def set_repository(tree: dict[str, Any]) -> None:
    miner(tree)["model_allowlist"]["rtx_5080_16gb"][1]["quants"]["awq_int4"] = ["someone/else"]


def set_tier(tree: dict[str, Any]) -> None:
    miner(tree)["model_allowlist"]["b200"] = []


def drop_list(tree: dict[str, Any]) -> None:
    del miner(tree)["model_allowlist"]["a10_24gb"]


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        (set_layers, "model_facts.qwen2.5-7b-instruct.layers", "'many'"),
        (set_vram, "compute_spec.miner.gpu.profiles.a10_24gb.min_vram", "-1"),
        (
            set_revision,
            "model_facts.qwen2.5-7b-instruct.weights.Qwen/Qwen2.5-7B-Instruct-AWQ.revision",
            "'main'",
        ),
        (set_quant, "compute_spec.miner.model_allowlist.a10_24gb[1].quants", "'awq'"),
        (set_typing_error, "compute_spec.miner.cpu", "`min_core`"),
        (set_context, "model_facts.qwen2.5-7b-instruct.served_context", "65536"),
        (set_small_context, "model_facts.qwen2.5-7b-instruct.served_context", "4096"),
        (drop_facts, "compute_spec.miner.model_allowlist.rtx_5080_16gb[1].id", "'qwen2.5-7b-instruct'"),
        (set_repository, "compute_spec.miner.model_allowlist.rtx_5080_16gb[1].quants.awq_int4[0]", "'someone/else'"),
        (set_tier, "compute_spec.miner.model_allowlist.b200", "'b200'"),
        (drop_list, "compute_spec.miner.model_allowlist.a10_24gb", "is missing"),
    ],
)
def test_errors_name_file_place_and_value(tmp_path: Path, change: Change, place: str, value: str) -> None:
    file = changed(tmp_path, change)
    with pytest.raises(ComputeFileError) as caught:
        read_catalogue(file)
    line = str(caught.value).splitlines()[0]
    assert line.startswith(f"{file}: {place}: ")
    assert value in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "line 1: is not YAML"),
        ("version: '1'\nversion: '2'\n", "line 2: is not YAML: version stands there twice"),
        ("a: 2026-99-99", "is not YAML: month"),
        ("a: !!python/object:os.system 1", "is not YAML: could not determine a constructor"),
        ('"\0"', "is not YAML"),
        ("[" * 20_000, "is not YAML"),
        ("", "the whole file: None: expected `object`"),
        ("- 1", "the whole file: expected `object`, got `array`"),
        ("\xff", "is not UTF-8"),
        ("a" * 1_100_000, "is larger than 1 MiB"),
    ],
)
def test_what_is_no_catalogue_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "min_compute.yml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ComputeFileError) as caught:
        read_catalogue(file)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_catalogue_is_told(tmp_path: Path) -> None:
    with pytest.raises(ComputeFileError, match="can't be read"):
        read_catalogue(tmp_path / "none.yml")


def test_editors_find_the_schema_and_it_is_that_of_the_types() -> None:
    first = TEXT.splitlines()[0]
    assert first == f"# yaml-language-server: $schema={docs.SCHEMA}"
    text = (ROOT / docs.SCHEMA).read_text()
    assert text == docs.schema(), "run python -m app.appliance.compute.docs"
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(TEXT), schema)


@pytest.mark.parametrize("change", [set_layers, set_vram, set_revision, set_quant, set_typing_error])
def test_the_schema_refuses_what_the_types_refuse(tmp_path: Path, change: Change) -> None:
    tree = yaml.safe_load(changed(tmp_path, change).read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, json.loads(docs.schema()))


def test_the_tables_of_the_page_are_true() -> None:
    page = (ROOT / docs.PAGE).read_text()
    between = page.split(docs.BEGIN)[1].split(docs.END)[0]
    assert between == f"\n{docs.tables()}\n", "run python -m app.appliance.compute.docs"


def test_the_file_in_the_package_is_the_one_at_the_root() -> None:
    assert SHIPPED.is_symlink()
    assert SHIPPED.resolve() == ROOT / "min_compute.yml"


@pytest.mark.skipif(UV is None, reason="needs uv, which ./justw brings")
def test_the_wheel_brings_catalogue_and_recordings(tmp_path: Path) -> None:
    """The build back-end puts the file itself where the link is."""
    assert UV
    build = [UV, "build", "--wheel", "--offline", "--quiet", "--python", sys.executable, "--out-dir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=200)
    (found,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(found) as wheel:
        assert wheel.read("app/appliance/compute/min_compute.yml").decode() == TEXT
        assert "app/appliance/hardware/recordings/h100.json" in wheel.namelist()
