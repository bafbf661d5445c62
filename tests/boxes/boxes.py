"""Boxes from Python: `with Boxes() as boxes: box = boxes.create("miner", suite="trixie")`."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

HERE: Final = Path(__file__).parent
TOOL: Final = HERE / "box"
HOME: Final = Path(os.environ.get("BOXES_HOME", "/var/tmp/loosh-boxes"))  # noqa: S108 - the tool's own, root's, 0755
NET: Final = os.environ.get("BOXES_NET", "10.217.0")
BRIDGE: Final = os.environ.get("BOXES_BRIDGE", "lmbox0")
HOST: Final = f"{NET}.1"  # the host's address as boxes see it
NEEDED: Final = ("mmdebstrap", "systemd-nspawn", "nft", "ip", "ssh-keygen", "ssh", "zstd", "patchelf", "unshare")

type Done = subprocess.CompletedProcess[str]


def why_not() -> str | None:
    """Why this machine boots no boxes, if so."""
    if os.geteuid() != 0:
        return "boxes need root: run the tests as root to have the playbooks tried on real systems"
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        return f"boxes need {', '.join(missing)}: apt install mmdebstrap systemd-container nftables zstd patchelf"
    return None


class BoxError(AssertionError):
    """A command about a box failed; the text has its output."""


class Box:
    """One machine, made; `start` boots it."""

    def __init__(self, name: str, suite: str) -> None:
        self.name: Final = name
        self.suite: Final = suite
        self.address: Final = _tool("ip", name).stdout.strip()

    def start(self) -> Self:
        """Boot, and wait until ssh answers."""
        _tool("start", self.name)
        return self

    def stop(self) -> None:
        """Shut down in order."""
        _tool("stop", self.name)

    def destroy(self) -> None:
        """End it at once, and remove it."""
        _tool("destroy", self.name)

    def exec(self, *command: str, check: bool = True, timeout: float = 300) -> Done:
        """Run as root inside, without ssh."""
        return _tool("exec", self.name, *command, check=check, timeout=timeout)

    def sh(self, script: str, *, check: bool = True, timeout: float = 300) -> Done:
        """Run a line of shell as root inside."""
        return self.exec("bash", "-c", script, check=check, timeout=timeout)

    def ssh(self, *command: str, check: bool = True, timeout: float = 300) -> Done:
        """Run as the operator's user, over the network."""
        return _tool("ssh", self.name, *command, check=check, timeout=timeout)

    def egress(self, *, on: bool) -> None:
        """Give or cut its way out of the bridge's net."""
        _tool("egress", self.name, "on" if on else "off")

    def read(self, path: str) -> str:
        """A file of the box."""
        return self.exec("cat", path).stdout

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file into the box's tree; works stopped, too."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)

    @property
    def root(self) -> Path:
        """Its tree, as the host sees it."""
        return HOME / BRIDGE / self.name / "root"

    @property
    def ssh_config(self) -> Path:
        """OpenSSH's configuration for it, in a file: testinfra's `--ssh-config`."""
        file = HOME / BRIDGE / self.name / "ssh_config"
        file.write_text(_tool("ssh-config", self.name).stdout, encoding="utf-8")
        return file

    @property
    def host_variables(self) -> dict[str, Any]:
        """What Ansible's inventory says to reach it."""
        directory = HOME / BRIDGE / self.name
        options = f"-o UserKnownHostsFile={directory}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        return {
            "ansible_host": self.address,
            "ansible_user": os.environ.get("BOXES_USER", "admin"),
            "ansible_ssh_private_key_file": str(HOME / "id_ed25519"),
            "ansible_ssh_common_args": options,
        }


class Boxes:
    """The boxes of one test module: none outlives it."""

    def __init__(self) -> None:
        self.made: list[Box] = []

    def create(
        self, name: str, suite: str = "bookworm", *, read_only: Iterable[tuple[Path, str]] = (), start: bool = True
    ) -> Box:
        """A fresh box. `read_only`: what of the host's files it sees, and where. Names are the host's (interfaces):
        choose one that no other module has; what a killed run left under it is removed.
        """
        _tool("destroy", name)
        binds = [argument for source, target in read_only for argument in ("-r", f"{source}:{target}")]
        _tool("create", name, "-s", suite, *binds, timeout=1500)
        box = Box(name, suite)
        self.made.append(box)
        return box.start() if start else box

    def destroy(self) -> None:
        """Remove all, and the network if nobody else's boxes hang on it."""
        for box in self.made:
            box.destroy()
        self.made.clear()
        if not any((HOME / BRIDGE).glob("*/ready")):
            _tool("purge")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def inventory(path: Path, groups: dict[str, list[Box]], **variables: object) -> Path:
    """Write Ansible's inventory: the groups' boxes, and variables for all."""
    children = {group: {"hosts": {box.name: box.host_variables for box in boxes}} for group, boxes in groups.items()}
    path.write_text(yaml.safe_dump({"all": {"vars": variables, "children": children}}), encoding="utf-8")
    path.chmod(0o600)
    return path


def _tool(*arguments: str, check: bool = True, timeout: float = 300) -> Done:
    done = subprocess.run([str(TOOL), *arguments], check=False, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise BoxError(f"box {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done
