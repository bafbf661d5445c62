"""The embedded model in another form: written once, whole or not at all, and still the same model."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from app.backends.llama_local import rewrite
from app.backends.llama_local.model_file import find_model
from app.backends.llama_local.options import LlamaLocalSettings
from app.backends.llama_local.rewrite import Form, fastest_form, rewritten
from tests.backends.llama_local.asking import ask, engine_of, opened

FORM = fastest_form(gpu_layers=0)
pytestmark = pytest.mark.skipif(FORM is None, reason="no form is known to be faster on this processor")


class Usage(NamedTuple):
    """As the standard library tells it."""

    total: int
    used: int
    free: int


def write(folder: Path) -> Path:
    assert FORM is not None
    return rewritten(find_model(None), folder, FORM, threads=1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, written once for all tests here."""
    return write(tmp_path_factory.mktemp("state") / "models")


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A folder of the test's own that holds it."""
    shutil.copy(kept, tmp_path)
    return tmp_path


def test_it_is_written_once_and_for_the_miner_alone(kept: Path) -> None:
    before = kept.stat()
    assert write(kept.parent) == kept
    assert kept.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in kept.parent.iterdir()] == [kept.name], "a draft was left"
    assert kept.parent.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped"])
def test_a_damaged_file_is_written_again(kept: Path, folder: Path, damage: str) -> None:
    path = folder / kept.name
    with path.open("r+b") as file:
        if damage == "cut short":
            file.truncate(50_000_000)
        else:
            file.seek(60_000_000)
            byte = file.read(1)[0]
            file.seek(60_000_000)
            file.write(bytes([byte ^ 1]))
    with capture_logs() as logs:
        assert write(folder) == path
    assert path.read_bytes() == kept.read_bytes()
    assert [line["event"] for line in logs] == [
        "rewritten model is damaged", "embedded model rewritten for this processor",
    ]  # fmt: skip


def test_a_new_model_takes_the_place_of_the_old_one_and_old_drafts_go(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(_source: Path, draft: Path, _form: Form, _threads: int) -> None:
        shutil.copy(kept, draft)

    monkeypatch.setattr(rewrite, "_quantise", copy)
    monkeypatch.setattr(rewrite, "_STALE_SECONDS", -1.0)
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1-Q8_0-0123456789abcdef-0123456789abcdef.gguf").write_bytes(b"old")
    (tmp_path / "killed.part").write_bytes(b"half")
    assert write(tmp_path).name == kept.name
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_without_room_the_shipped_model_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> Usage:
        return Usage(0, 0, 100_000_000)

    monkeypatch.setattr(rewrite.shutil, "disk_usage", full)
    with capture_logs() as logs:
        assert write(tmp_path) == find_model(None)
    assert [line["event"] for line in logs] == ["embedded model not rewritten"]
    assert "95 MB left" in logs[0]["reason"]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_no_half_file(tmp_path: Path) -> None:
    """Once llama.cpp itself can't, as on a disk that fills up meanwhile; once there is no folder."""
    assert FORM is not None
    odd = Form(FORM.name, 9999)
    with capture_logs() as logs:
        assert rewritten(find_model(None), tmp_path, odd, 1) == find_model(None)
    assert "llama.cpp could not write" in logs[0]["reason"]
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert write(tmp_path / "file") == find_model(None)


async def test_a_backend_loads_it_and_the_operators_own_model_is_left_alone(kept: Path, tmp_path: Path) -> None:
    async with opened(LlamaLocalSettings(parallel=2, context_tokens=512, rewrite_folder=kept.parent)) as backend:
        assert engine_of(backend).path == kept
        text = (await ask(backend, "What is 2+2?", max_tokens=24)).text
    assert "4" in text
    own = LlamaLocalSettings(
        parallel=1, context_tokens=512, model_path=find_model(None), rewrite_folder=tmp_path / "unused"
    )
    async with opened(own) as backend:
        assert engine_of(backend).path == find_model(None)
    assert not (tmp_path / "unused").exists()


def test_gpus_keep_the_weights_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def yes() -> bool:
        return True

    monkeypatch.setattr(rewrite, "can_use_gpu", yes)
    assert fastest_form(gpu_layers=-1) is None
    assert fastest_form(gpu_layers=0) == FORM
