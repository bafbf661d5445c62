"""`models pull`, through the command line and the hub's own library, from stand-ins that are processes of their own."""

import hashlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from app.appliance.compute.lock_file import LockedFile, LockedWeights, read_lock, write_lock
from app.appliance.compute.pull import refuse_too_large
from app.appliance.compute.pull_file import fetch
from app.errors import ComputeFileError, DownloadError
from tests.backends.engines import StubOllama
from tests.cli.command import ROOT, Outcome, command, environment, run
from tests.stubs.hub import COMMIT, MIB, REPOSITORIES
from tests.stubs.ollama import DIGEST

AWQ: Final = "Qwen/Qwen2.5-14B-Instruct-AWQ"
GGUF: Final = "Qwen/Qwen2.5-7B-Instruct-GGUF"
LLAMA: Final = "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"
NOWHERE: Final = "http://127.0.0.1:9"


class Hub:
    """The stand-in for the hub."""

    def __init__(self) -> None:
        stub = [sys.executable, "-m", "tests.stubs.hub"]
        self.process = subprocess.Popen(stub, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _stub(self, method: str, body: bytes = b"") -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, "/stub", body)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def act(self, **behaviour: object) -> None:
        self._stub("POST", json.dumps(behaviour).encode())

    def asked(self) -> list[str]:
        return self._stub("GET")

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.end()


@pytest.fixture
def hub(running_hub: Hub) -> Hub:
    """Behaving well and having seen nothing."""
    running_hub.act(cut_after=0, stall=False, corrupt=False, size=0, requests=[])
    return running_hub


def pull(home: Path, hub: Hub | str, *arguments: str, **given: str) -> Outcome:
    """`models pull` on a recorded A10 unless told otherwise."""
    machine = () if "--hardware" in arguments else ("--hardware", "a10")
    endpoint = hub if isinstance(hub, str) else hub.url
    settings = {"HF_ENDPOINT": endpoint, "NO_PROXY": "*", **given}
    return run(home, "models", "pull", *arguments, *machine, seconds=120, **settings)


def lock_of(home: Path) -> Path:
    """Where the lock is unless --lock says otherwise: in STATE_DIR, wherever the command was started."""
    return home / ".local/state/loosh-miner/models.lock.json"


def snapshot(home: Path, repository: str) -> Path:
    return home / ".cache/huggingface/hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT


def test_the_chosen_weights_are_fetched_checked_and_locked(tmp_path: Path, hub: Hub) -> None:
    done = pull(tmp_path, hub, "--json")
    assert done.code == 0, done.err
    files = {file.name: file.read_bytes() for file in snapshot(tmp_path, AWQ).iterdir()}
    wanted = {name: content for name, content in REPOSITORIES[AWQ].items() if name != "README.md"}
    assert files == wanted
    lock = json.loads(lock_of(tmp_path).read_text())["weights"][AWQ]
    assert lock["revision"] == COMMIT == done.object()["revision"]
    weights = next(file for file in lock["files"] if file["name"] == "model.safetensors")
    assert weights["sha256"] == hashlib.sha256(wanted["model.safetensors"]).hexdigest()
    assert str(tmp_path) not in lock_of(tmp_path).read_text()
    rendered = run(tmp_path, "engine", "render", "--format", "systemd", "--hardware", "a10")
    assert f"--revision {COMMIT}" in rendered.out
    assert "no revision yet" not in rendered.out
    # A second pull finds all of it, and fetches nothing again.
    hub.act(requests=[])
    assert pull(tmp_path, hub).code == 0
    assert not [line for line in hub.asked() if line.startswith("GET /cdn")]
    # A lock that the hub contradicts is refused.
    lock["files"][0]["size"] = 1
    lock_of(tmp_path).write_text(json.dumps({"weights": {AWQ: lock}}))
    done = pull(tmp_path, hub)
    assert (done.code, "is not what models.lock.json says" in done.err) == (1, True)


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path, hub: Hub) -> None:
    """The hub's library writes 10 MiB at a time."""
    hub.act(cut_after=21 * MIB)
    done = pull(tmp_path, hub)
    assert done.code == 0, done.err
    assert f"GET /cdn/{AWQ}/model.safetensors bytes={20 * MIB}-" in hub.asked()
    assert (snapshot(tmp_path, AWQ) / "model.safetensors").read_bytes() == REPOSITORIES[AWQ]["model.safetensors"]


def test_a_pull_that_was_killed_goes_on_at_the_next(tmp_path: Path, hub: Hub) -> None:
    hub.act(cut_after=21 * MIB, stall=True)
    killed = subprocess.Popen(
        command("models", "pull", "--hardware", "a10"),
        cwd=tmp_path,
        env=environment(tmp_path, HF_ENDPOINT=hub.url, NO_PROXY="*"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    blobs = snapshot(tmp_path, AWQ).parents[1] / "blobs"
    until = time.monotonic() + 60
    while not any(file.stat().st_size >= 20 * MIB for file in blobs.glob("*.partial")):
        assert time.monotonic() < until
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    hub.act(stall=False, requests=[])
    done = pull(tmp_path, hub)
    assert done.code == 0, done.err
    assert f"GET /cdn/{AWQ}/model.safetensors bytes={20 * MIB}-" in hub.asked()
    assert (snapshot(tmp_path, AWQ) / "model.safetensors").read_bytes() == REPOSITORIES[AWQ]["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "sha1"),
    [("../../out", "a" * 40), ("/etc/out", "a" * 40), ("a/../../b", "a" * 40), ("a", None), ("a", "../b")],
)
def test_names_and_checksums_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, sha1: str | None) -> None:
    with pytest.raises(DownloadError, match=r"nothing is fetched|it is not fetched"):
        fetch("a/b", COMMIT, LockedFile(name, 1, git_sha1=sha1), tmp_path / "cache", None)
    assert not (tmp_path / "cache").exists()


def test_damaged_weights_are_removed_and_not_locked(tmp_path: Path, hub: Hub) -> None:
    hub.act(corrupt=True)
    done = pull(tmp_path, hub)
    assert done.code == 1
    assert "model.safetensors is damaged" in done.err
    assert "pull again" in done.err
    assert not lock_of(tmp_path).exists()
    hub.act(corrupt=False)
    assert pull(tmp_path, hub).code == 0


def test_a_full_disk_is_told_before_anything_is_downloaded(tmp_path: Path, hub: Hub) -> None:
    hub.act(size=10**16)
    done = pull(tmp_path, hub)
    assert done.code == 1
    assert "takes 10000000.0 GB more" in done.err
    assert "HF_HOME" in done.err
    assert not [line for line in hub.asked() if "/resolve/" in line or "/cdn/" in line]


def test_a_file_that_the_hub_serves_by_another_protocol_only_is_told(tmp_path: Path) -> None:
    """Over 50 GB; the disk need not hold them for this."""
    name, large = "a/b", LockedFile("model.gguf", 51 * 10**9, sha256="a" * 64)
    with pytest.raises(DownloadError, match=r"has 51\.0 GB, and over 50\.0 GB .*`hf download a/b`"):
        refuse_too_large(name, (large, LockedFile("small", 1, sha256="b" * 64)), tmp_path)
    blob = tmp_path / "models--a--b/blobs" / ("a" * 64)
    blob.parent.mkdir(parents=True)
    blob.touch()
    refuse_too_large(name, (large,), tmp_path)  # fetched by other means


def test_gated_weights_without_a_token_are_refused_before_any_request(tmp_path: Path, hub: Hub) -> None:
    done = pull(tmp_path, hub, "llama3.1-8b-instruct")
    assert done.code == 3
    assert "is gated" in done.err
    assert "HF_TOKEN" in done.err
    assert hub.asked() == []


def test_gated_weights_with_a_token_that_may_not_are_refused_before_any_file(tmp_path: Path, hub: Hub) -> None:
    done = pull(tmp_path, hub, "llama3.1-8b-instruct", HF_TOKEN="hf_another_token")
    assert done.code == 1
    assert "is gated" in done.err
    assert "hf_another_token" not in done.err
    assert not [line for line in hub.asked() if "/resolve/" in line]
    granted = pull(tmp_path, hub, "llama3.1-8b-instruct", HF_TOKEN="hf_a_good_token")
    assert granted.code == 0, granted.err
    assert "hf_a_good_token" not in granted.out + granted.err + lock_of(tmp_path).read_text()
    # What is here needs no token any more.
    rendered = run(tmp_path, "engine", "render", "--model", "llama3.1-8b-instruct", "--hardware", "a10")
    assert rendered.code == 0


def test_gguf_weights_for_llama_cpp_are_the_one_quantisation(tmp_path: Path, hub: Hub) -> None:
    done = pull(tmp_path, hub, "qwen2.5-7b-instruct", "--backend", "llamacpp", "--hardware", "none", "--json")
    assert done.code == 0, done.err
    names = sorted(file.name for file in snapshot(tmp_path, GGUF).iterdir())
    assert names == [name for name in REPOSITORIES[GGUF] if "q4_k_m" in name]
    first = snapshot(tmp_path, GGUF) / names[0]
    assert done.object()["path"] == str(first)
    arguments = ("--backend", "llamacpp", "--model", "qwen2.5-7b-instruct", "--hardware", "none")
    rendered = run(tmp_path, "engine", "render", "--format", "miner", *arguments)
    assert f"MODEL_PATH={first}\n" in rendered.out


def test_the_embedded_model_needs_no_pull(tmp_path: Path) -> None:
    done = pull(tmp_path, NOWHERE, "--hardware", "none")
    assert (done.code, "nothing to pull" in done.out) == (0, True)


def test_offline_is_said_at_once(tmp_path: Path, hub: Hub) -> None:
    done = pull(tmp_path, NOWHERE)
    assert done.code == 1
    assert "the hub can't be reached" in done.err
    set_so = pull(tmp_path, hub, HF_HUB_OFFLINE="1")
    assert set_so.code == 1
    assert "HF_HUB_OFFLINE is set" in set_so.err
    assert hub.asked() == []


def test_a_commit_that_is_not_there_is_told(tmp_path: Path, hub: Hub) -> None:
    file = lock_of(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"weights": {AWQ: {"revision": "a" * 40}}}))
    done = pull(tmp_path, hub)
    assert done.code == 1
    assert f"has no commit {'a' * 40}" in done.err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": {"a/b": {"revision": "main"}}}', "\xff"])
def test_a_broken_lock_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.lock.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ComputeFileError, match=r"models\.lock\.json: is no lock of weights"):
        read_lock(file)


@pytest.fixture
def ollama() -> Iterator[StubOllama]:
    with StubOllama(model="another:latest") as running:
        yield running


def test_ollama_pulls_by_its_own_api_and_the_digest_is_locked(tmp_path: Path, ollama: StubOllama) -> None:
    tag = "qwen2.5:14b-instruct-q4_K_M"
    done = pull(tmp_path, NOWHERE, "qwen2.5-14b-instruct", "--backend", "ollama", OLLAMA_BASE_URL=ollama.root)
    assert done.code == 0, done.err
    lock = json.loads(lock_of(tmp_path).read_text())
    assert lock["weights"][tag]["revision"] == f"sha256:{DIGEST}"
    lock["weights"][tag]["revision"] = f"sha256:{'0' * 64}"
    lock_of(tmp_path).write_text(json.dumps(lock))
    moved = pull(tmp_path, NOWHERE, "qwen2.5-14b-instruct", "--backend", "ollama", OLLAMA_BASE_URL=ollama.root)
    assert (moved.code, "the tag moved" in moved.err) == (1, True)


def test_what_ollama_says_of_a_failed_pull_is_told(tmp_path: Path, ollama: StubOllama) -> None:
    arguments = ("qwen2.5-14b-instruct", "--backend", "ollama")
    ollama.act(pull_error="pull model manifest: file does not exist")
    done = pull(tmp_path, NOWHERE, *arguments, OLLAMA_BASE_URL=ollama.root)
    assert (done.code, "file does not exist" in done.err) == (1, True)
    ollama.act(pull_cut=True)
    done = pull(tmp_path, NOWHERE, *arguments, OLLAMA_BASE_URL=ollama.root)
    assert (done.code, "pull again" in done.err) == (1, True)
    done = pull(tmp_path, NOWHERE, *arguments, OLLAMA_BASE_URL=NOWHERE)
    assert (done.code, "can't be reached" in done.err) == (1, True)
    assert not lock_of(tmp_path).exists()


def test_a_lock_that_can_not_be_written_is_told_before_anything_is_asked_for(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "file").touch()
    for place in ("file/models.lock.json", "/proc/models.lock.json"):
        done = pull(tmp_path, hub, "--lock", place)
        assert (done.code, "can't be written" in done.err, "--lock" in done.err) == (2, True, True), done.err
    assert hub.asked() == []
    done = pull(tmp_path, hub, STATE_DIR=str(tmp_path / "file"))
    assert (done.code, "set STATE_DIR" in done.err) == (2, True), done.err


def test_another_lock_is_found_by_every_command(tmp_path: Path) -> None:
    lock = tmp_path / "here.json"
    write_lock(lock, LLAMA, LockedWeights(revision=COMMIT))
    settings: dict[str, Any] = {"DEFAULT_MODEL": "llama3.1-8b-instruct", "LLM_BACKEND": "vllm"}
    for command_line in (("models", "--json"), ("engine", "render", "--format", "json")):
        without = run(tmp_path, *command_line, "--hardware", "a10", **settings)
        assert COMMIT not in without.out
        assert COMMIT in run(tmp_path, *command_line, "--hardware", "a10", "--lock", str(lock), **settings).out
    doctor = ("doctor", "--json", "--only", "gpu-fit", "--hardware", "a10")
    assert run(tmp_path, *doctor, **settings).code == 1
    assert run(tmp_path, *doctor, "--lock", str(lock), **settings).code == 0


def test_the_lock_is_written_whole_through_a_link_and_by_many_at_once(tmp_path: Path) -> None:
    real, link = tmp_path / "kept/lock.json", tmp_path / "lock.json"
    real.parent.mkdir()
    link.symlink_to(real)
    names = [f"a/{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        for name in names:
            threads.submit(write_lock, link, name, LockedWeights(revision=COMMIT))
    assert link.is_symlink()
    assert set(read_lock(real).weights) == set(names)
    assert [file.name for file in real.parent.iterdir()] == ["lock.json"]


def test_an_unknown_model_is_refused_with_what_there_is_for_llama_cpp_too(tmp_path: Path) -> None:
    done = pull(tmp_path, NOWHERE, "gpt-2", "--backend", "llamacpp", "--hardware", "none")
    assert (done.code, "nothing to pull" in done.out) == (3, False)
    assert "gpt-2 is in no allow-list" in done.err
    assert "qwen2.5-7b-instruct" in done.err
