"""The roles `model_store`, `vllm` and `ollama`: by hash, with the app's own units; stand-ins answer for the engines."""

import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.playing import EACH_ROLE
from tests.ansible.role_play import RolePlay
from tests.ansible.stub_vllm import wheelhouse
from tests.boxes.boxes import Box, Boxes, why_not
from tests.boxes.offline import ROOT, offline_dir
from tests.cli.command import run

pytestmark = [
    pytest.mark.slow,
    EACH_ROLE,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(1200),
]

REPOSITORY = "Qwen/Qwen2.5-32B-Instruct-AWQ"
MODEL = "Qwen/Qwen2.5-32B-Instruct"
REVISION = "5c3b5d2f0e8a7c6b9d4e1f2a3b4c5d6e7f801234"
WEIGHTS = b"not really nineteen gigabytes"
MESH = "10.99.0.2/24"
TAG = "qwen2.5:32b-instruct-q4_K_M"
# What `models pull` asks Ollama for.
PULL = f"""
import json, urllib.request
body = json.dumps({{"model": "{TAG}", "stream": False}}).encode()
urllib.request.urlopen("http://127.0.0.1:11434/api/pull", body).read()
"""
# The stand-in reads Ollama's own environment, as the real one does; the interpreter is that of the other tests.
OLLAMA = """#!/bin/sh
[ "$1" = serve ] || exit 2
[ "$HOME" = /var/lib/ollama ] && mkdir -p "$OLLAMA_MODELS" || exit 3
here=$(dirname "$(dirname "$0")")
cd "$here/lib/ollama"
sleep infinity | exec /opt/vllm/bin/python -m tests.stubs.ollama --empty --model %s --host "${OLLAMA_HOST%%:*}" \\
  --port "${OLLAMA_HOST##*:}" --context "${STUB_CONTEXT:-$OLLAMA_CONTEXT_LENGTH}" --keep-alive="${OLLAMA_KEEP_ALIVE}s"
"""
# The box has no card: the app's answers for a recorded machine are played back, just as it gave them here.
APP = """#!/bin/sh
case "$*" in
  "models pull --backend ollama"*) exec /opt/vllm/bin/python /opt/stub-app/pull.py ;;
  "engine render --backend ollama"*) net=ollama ;;
  "engine render"*"--listen 10.99"*) net=mesh ;;
  "engine render"*) net=loopback ;;
  *) exit 2 ;;
esac
while [ $# -gt 0 ]; do [ "$1" != --format ] || format=$2; [ "$1" != --lock ] || lock=$2; shift; done
[ $net = ollama ] || [ -e "$lock" ] || net=unpinned
cat /opt/stub-app/$net.$format
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the controller has: wheels, lock, weights; and what the app renders."""
    folder = tmp_path_factory.mktemp("given")
    wheelhouse(folder, offline_dir() / "wheels")
    weights = folder / "weights"
    snapshot = weights / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(WEIGHTS)
    with tarfile.open(weights / f"models--{REPOSITORY.replace('/', '--')}.tar", "w") as packed:
        packed.add(snapshot.parents[1], arcname=snapshot.parents[1].name)
    file = {"name": "model.safetensors", "size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    lock = {"version": 1, "weights": {REPOSITORY: {"revision": REVISION, "files": [file]}}}
    (weights / "models.lock.json").write_text(json.dumps(lock))
    for name, home, listen in (
        ("unpinned", folder, "127.0.0.1/8"),
        ("loopback", weights, "127.0.0.1/8"),
        ("mesh", weights, MESH),
    ):
        for form in ("json", "systemd", "compose"):
            options = (
                "--hardware",
                "a100-80",
                "--format",
                form,
                "--listen",
                listen,
                "--lock",
                str(home / "models.lock.json"),
            )
            done = run(home, "engine", "render", *options)
            assert done.code == 0, done.err
            (folder / "app").mkdir(exist_ok=True)
            (folder / "app" / f"{name}.{form}").write_text(done.out)
    for form in ("json", "systemd"):
        done = run(folder, "engine", "render", "--backend", "ollama", "--hardware", "a100-80", "--format", form)
        assert done.code == 0, done.err
        (folder / "app" / f"ollama.{form}").write_text(done.out)
    (folder / "app" / "pull.py").write_text(PULL)
    release(folder)
    return folder


def release(folder: Path) -> None:
    """Pack the stand-in as Ollama's release is."""
    made = folder / "release"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "ollama").write_text(OLLAMA.replace("%s", TAG))
    (made / "bin" / "ollama").chmod(0o755)
    stubs = made / "lib/ollama/tests/stubs"
    stubs.mkdir(parents=True)
    for name in ("engine.py", "ollama.py"):
        shutil.copy(ROOT / "tests" / "stubs" / name, stubs)
    with tarfile.open(folder / "ollama-linux-amd64.tgz", "w:gz") as packed:
        for part in ("bin", "lib"):
            packed.add(made / part, arcname=part)


@pytest.fixture(scope="module")
def box(given: Path) -> Iterator[Box]:
    offline = offline_dir()
    with Boxes() as boxes:
        box = boxes.create(
            "vllm", read_only=[(given / "app", "/opt/stub-app"), (offline / "python", str(offline / "python"))]
        )
        box.write("/usr/bin/nvidia-modprobe", "#!/bin/sh\n", 0o755)
        box.write("/opt/loosh-miner/current/bin/loosh-miner", APP, 0o755)
        # base's and the mesh's part.
        box.sh("apt-get -qq update && apt-get -qq -y install python3-apt python3-venv >/dev/null")
        box.sh("ip addr add 10.99.0.2/24 dev lo")
        yield box


@pytest.fixture
def play(box: Box, given: Path, tmp_path: Path) -> RolePlay:
    return RolePlay(
        box,
        tmp_path,
        python_runtime_lock=str(ROOT / "toolchain" / "tools.lock"),
        python_runtime_offline_dir=str(offline_dir()),
        model_store_offline_dir=str(given / "weights"),
        vllm_lock_file=str(given / "vllm.lock"),
        vllm_offline_wheels=str(given / "wheels"),
        vllm_disk_gb=0,
        vllm_start_timeout=120,
    )


@pytest.fixture
def served(box: Box, play: RolePlay) -> RolePlay:
    """The roles played once: whichever test comes first."""
    if not (box.root / "opt/vllm/complete").exists():
        done = play("python_runtime", "model_store", "vllm")
        assert not done.failed, done.output
    return play


def listening(box: Box) -> str:
    return box.sh("ss -Hltn 'sport = :8001' | awk '{print $4}'").stdout.strip()


def test_vllm_serves_on_loopback_from_hashed_wheels_and_locked_weights(box: Box, served: RolePlay) -> None:
    assert listening(box) == "127.0.0.1:8001"
    answer = box.sh(
        "curl -sf http://127.0.0.1:8001/v1/models || python3 -c 'import urllib.request as r;"
        'print(r.urlopen("http://127.0.0.1:8001/v1/models").read().decode())\''
    ).stdout
    assert MODEL in answer
    unit = box.sh(
        "systemctl show vllm -p User -p TimeoutStartUSec -p ActiveState -p UnitFileState -p DevicePolicy"
    ).stdout
    assert set(unit.split()) == {
        "User=vllm",
        "TimeoutStartUSec=45min",
        "ActiveState=active",
        "UnitFileState=enabled",
        "DevicePolicy=closed",
    }
    assert f"--revision {REVISION}" in box.read("/etc/systemd/system/vllm.service")
    assert box.sh("stat -c '%a %U' /var/cache/vllm").stdout.split() == ["700", "vllm"]
    assert box.sh("id -un vllm; getent passwd vllm").stdout.strip().endswith("/usr/sbin/nologin")
    again = served("python_runtime", "model_store", "vllm")
    assert not again.failed, again.output
    assert again.changed == 0, again.output
    checked = served("model_store", "vllm", check=True)
    assert not checked.failed, checked.output
    assert checked.changed == 0, checked.output


@pytest.mark.usefixtures("served")
def test_the_units_exposure_is_within_its_bound(box: Box) -> None:
    command = "systemd-analyze security --offline=true --no-pager /etc/systemd/system/vllm.service"
    found = re.search(r"Overall exposure level for vllm.service: ([\d.]+)", box.sh(command).stdout)
    assert found
    assert float(found[1]) <= 2.5


def test_the_mesh_address_is_the_only_other_one(box: Box, served: RolePlay) -> None:
    try:
        done = served("vllm", vllm_listen=MESH)
        assert not done.failed, done.output
        assert listening(box) == "10.99.0.2:8001"
        assert "IPAddressAllow=10.99.0.0/24" in box.read("/etc/systemd/system/vllm.service")
    finally:
        assert not served("vllm").failed


def test_weights_that_differ_from_their_lock_are_refused(box: Box, served: RolePlay) -> None:
    hub = "/var/cache/vllm/huggingface/hub"
    file = f"{hub}/models--{REPOSITORY.replace('/', '--')}/snapshots/{REVISION}/model.safetensors"
    box.sh(f"printf 'X' | dd of={file} conv=notrunc bs=1 count=1 status=none")
    try:
        told = served("model_store")
    finally:
        box.sh(f"printf 'n' | dd of={file} conv=notrunc bs=1 count=1 status=none")
    assert told.failed
    assert f"{REPOSITORY}: model.safetensors differs from models.lock.json" in told.said


def test_what_cannot_work_is_refused_with_its_remedy(box: Box, served: RolePlay, given: Path, tmp_path: Path) -> None:
    lock = tmp_path / "no.lock"
    lock.write_text("msgspec==0.22.0\n")
    assert "does not lock vllm" in served("vllm", vllm_lock_file=str(lock)).said
    tag = served("vllm", vllm_method="container", vllm_image="docker.io/vllm/vllm-openai:latest")
    assert "a tag can be moved" in tag.said
    assert "takes 100000: make room" in served("vllm", vllm_venv="/opt/other", vllm_disk_gb=100000).said
    box.sh("mv /etc/loosh-miner/models.lock.json /etc/loosh-miner/aside")
    try:
        assert "run the role model_store first" in served("vllm").said
    finally:
        box.sh("mv /etc/loosh-miner/aside /etc/loosh-miner/models.lock.json")
    assert (given / "weights" / "models.lock.json").exists()


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(
    box: Box, served: RolePlay, given: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "vllm.lock"
    text = (given / "vllm.lock").read_text()
    lock.write_text(re.sub(r"(vllm==\S+ --hash=sha256:)[0-9a-f]{8}", r"\g<1>00000000", text))
    try:
        told = served("vllm", vllm_lock_file=str(lock))
        assert told.failed
        assert "hash" in told.said.lower()
        assert not (box.root / "opt/vllm/complete").exists()
    finally:
        assert not served("vllm").failed
    assert listening(box) == "127.0.0.1:8001"


def test_an_engine_that_does_not_come_up_is_told_with_its_last_words(box: Box, served: RolePlay) -> None:
    try:
        told = served("vllm", vllm_environment={"HF_HUB_OFFLINE": "0"}, vllm_start_timeout=10)
        assert told.failed
        assert "vLLM does not answer at http://127.0.0.1:8001" in told.said
        assert "would download" in told.said
    finally:
        assert not served("vllm").failed
    assert not (box.root / "etc/systemd/system/vllm.service.d/loosh.conf").exists()


def test_the_image_is_run_by_its_digest_with_the_same_start(box: Box, served: RolePlay) -> None:
    # Plays podman: the container's command runs in the environment that the other tests made.
    box.write(
        "/usr/bin/podman",
        "#!/bin/sh\n"
        'echo "$@" >>/run/stub-podman\n'
        '[ "$1" = run ] || exit 0\n'
        "while [ $# -gt 0 ]; do\n"
        '  case $1 in --env) export "$2"; shift ;; *@sha256:*) shift; break ;; esac\n'
        "  shift\n"
        "done\n"
        'exec runuser -u vllm -- /opt/vllm/bin/vllm serve "$@"\n',
        0o755,
    )
    image = "docker.io/vllm/vllm-openai@sha256:" + "ab" * 32
    try:
        done = served("vllm", vllm_method="container", vllm_image=image, vllm_container_packages=[])
        assert not done.failed, done.output
        started = box.read("/run/stub-podman").splitlines()[-1]
        assert f" {image} {REPOSITORY} --revision {REVISION} " in started
        assert "--publish 127.0.0.1:8001:8001" in started
        assert "--device nvidia.com/gpu=all" in started
        assert "--shm-size 8g" in started
    finally:
        box.sh("rm /usr/bin/podman")
        assert not served("vllm").failed


def test_ollama_serves_with_the_context_that_the_miner_counts_on(box: Box, served: RolePlay, given: Path) -> None:
    tarball = given / "ollama-linux-amd64.tgz"
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    wrong = served("ollama", ollama_release_src=str(tarball), ollama_release_sha256="0" * 64)
    assert wrong.failed
    assert "nothing was unpacked" in wrong.said
    assert "sha256sum.txt" in served("ollama").said

    tried = served("ollama", check=True, ollama_release_src=str(tarball), ollama_release_sha256=digest)
    assert not tried.failed, tried.output
    done = served("ollama", ollama_release_src=str(tarball), ollama_release_sha256=digest)
    assert not done.failed, done.output
    assert box.sh("ss -Hltn 'sport = :11434' | awk '{print $4}'").stdout.strip() == "127.0.0.1:11434"
    assert "OLLAMA_CONTEXT_LENGTH=32768" in box.sh("systemctl show ollama -p Environment").stdout
    found = re.search(
        r"Overall exposure level for ollama.service: ([\d.]+)",
        box.sh("systemd-analyze security --offline=true --no-pager /etc/systemd/system/ollama.service").stdout,
    )
    assert found
    assert float(found[1]) <= 2.5
    again = served("ollama", ollama_release_src=str(tarball), ollama_release_sha256=digest)
    assert not again.failed, again.output
    assert again.changed == 0, again.output

    # As with a Modelfile of its own: what was loaded counts, not what was asked for.
    box.write("/etc/systemd/system/ollama.service.d/zz.conf", "[Service]\nEnvironment=STUB_CONTEXT=4096\n")
    box.sh("systemctl daemon-reload && systemctl restart ollama")
    short = served("ollama", ollama_release_src=str(tarball), ollama_release_sha256=digest)
    assert short.failed
    assert "with a context of 4096 and not 32768: longer prompts would be cut without a word" in short.said
