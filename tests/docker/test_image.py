"""The container image, built and run for real: small, without rights, and it answers a validator."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chain.registered import write_hotkey
from tests.docker.containers import IMAGE, build_image, podman, skip_unless_possible
from tests.miner.http import Connection
from tests.miner.process import fetch, free_port
from tests.miner.validator import Hotkey, Validator

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "docker"
MODEL_BYTES = 98_362_432
LIMIT_BYTES = 400_000_000
READY_SECONDS = 120
USER = "10078"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]


class Container:
    """A running miner in a container, on this machine's network, as the compose files have it, but on loopback."""

    def __init__(self, folder: Path) -> None:
        self.name = f"loosh-miner-test-{secrets.token_hex(4)}"
        self.validator = Hotkey()
        self.port = free_port()
        write_hotkey(folder)
        podman("secret", "create", self.name, folder / "hotkey")
        settings = {
            "HOTKEY_FILE": "/run/secrets/hotkey",
            "API_HOST": "127.0.0.1",
            "API_PORT": self.port,
            "ADMIN_PORT": free_port(),
            "VALIDATOR_HOTKEYS": self.validator.ss58,
            "SUBTENSOR_NETWORK": "local",
            "SUBTENSOR_ADDRESS": "ws://127.0.0.1:9",
            "CHALLENGE_API_URL": "http://127.0.0.1:9",
            "ENABLE_RATE_LIMITS": "false",
        }
        began = time.monotonic()
        podman(
            *("run", "--detach", "--name", self.name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108
            *("--security-opt", "no-new-privileges", "--cgroups", "disabled", "--no-healthcheck"),
            *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"),
            *("--secret", f"{self.name},target=hotkey,uid={USER},gid={USER},mode=0400"),
            *("--network", "host"),  # as the compose files have it
            *(f"--env={name}={value}" for name, value in settings.items()),
            IMAGE,
        )
        self.wait("/livez", b"")
        self.start_seconds = time.monotonic() - began

    def wait(self, path: str, text: bytes) -> None:
        """Wait for a 200 with that text in it."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                status, _, body = fetch(self.port, path)
                if status == 200 and text in body:
                    return
            time.sleep(0.05)
        pytest.fail(f"no {path} within {READY_SECONDS} s: {podman('logs', self.name, check=False)}")

    def exec(self, *command: str) -> str:
        """Run something inside; gives what it said and how it ended."""
        return podman("exec", self.name, "sh", "-c", f"{' '.join(command)}; echo $?")

    def remove(self) -> None:
        """Leave nothing."""
        podman("rm", "--force", "--time", "5", "--volumes", self.name, check=False)
        podman("secret", "rm", self.name, check=False)


@pytest.fixture(scope="module")
def image() -> str:
    """The image, built."""
    skip_unless_possible()
    print(f"the image was built in {build_image():.0f} s")  # noqa: T201
    return IMAGE


@pytest.fixture(scope="module")
def container(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A miner of it."""
    made = Container(tmp_path_factory.mktemp("container"))
    yield made
    made.remove()


async def test_it_answers_a_validator_outside(container: Container) -> None:
    container.wait("/availability", b"true")
    async with Validator(await Connection.open(container.port), container.validator) as validator:
        assert (await validator.ask("What is a subnet?", max_tokens=24))["response_text"]
    print(f"first answer on /livez {container.start_seconds:.2f} s after `podman run`")  # noqa: T201


def test_it_has_no_rights(container: Container) -> None:
    assert container.exec("id", "-u").split() == [USER, "0"]
    assert container.exec("touch", "/opt/loosh-miner/x", "2>/dev/null").split() != ["0"]
    assert container.exec("grep", "CapEff:.0000000000000000", "/proc/1/status", ">/dev/null").split() == ["0"]


def test_its_healthcheck_asks_the_miner(container: Container) -> None:
    (described,) = json.loads(podman("image", "inspect", IMAGE))
    command = described["Healthcheck"]["Test"]
    assert command[0] == "CMD"
    assert not podman("exec", container.name, *command[1:])
    refused = podman("exec", "--env", "API_PORT=9", container.name, *command[1:], "&&", "echo", "fine", check=False)
    assert "fine" not in refused


def test_it_is_small_and_starts_nothing_as_root(image: str) -> None:
    (described,) = json.loads(podman("image", "inspect", image))
    print(f"{described['Size'] / 1e6:.0f} MB, {(described['Size'] - MODEL_BYTES) / 1e6:.0f} MB without the model")  # noqa: T201
    assert described["Size"] - MODEL_BYTES < LIMIT_BYTES
    assert described["Config"]["User"].split(":")[0] == USER


def test_a_stop_is_graceful(image: str, tmp_path: Path) -> None:
    container = Container(tmp_path)
    try:
        container.wait("/availability", b"true")
        podman("stop", "--time", "60", container.name)
        assert podman("inspect", "--format", "{{.State.ExitCode}}", container.name) == "0"
    finally:
        container.remove()


def test_the_images_differ_in_their_bases_only() -> None:
    plain, cuda = ((DEPLOY / name).read_text().splitlines() for name in ("Dockerfile", "Dockerfile.cuda"))
    common = [line for line in plain if line and not line.startswith(("#", "ARG", "FROM"))]
    assert common
    assert [line for line in common if line not in cuda] == []


@pytest.mark.parametrize("name", ["compose.yml", "compose.cpu.yml"])
def test_compose_files_hold_the_miner_tight(name: str) -> None:
    services = yaml.safe_load((DEPLOY / name).read_text())["services"]
    miner = services["miner"]
    assert miner["read_only"]
    assert miner["cap_drop"] == ["ALL"]
    assert int(miner["stop_grace_period"].removesuffix("s")) > 60 + 15
    assert ("vllm" in services) == (name == "compose.yml")
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
