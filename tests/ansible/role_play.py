"""Runs one role against a box, by Ansible itself over ssh, as site.yml would."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.boxes.boxes import Box, inventory

ROLES: Final = Path(__file__).parents[2] / "ansible" / "roles"
_RECAP: Final = re.compile(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a run came to."""

    output: str
    changed: int
    failed: int

    @property
    def said(self) -> str:
        """The output in one line, as a person reads it: Ansible folds messages."""
        return " ".join(self.output.replace("\\n", " ").split())


class RolePlay:
    """Plays roles on one box; variables given here hold for all of them."""

    def __init__(self, box: Box, folder: Path, **variables: Any) -> None:  # noqa: ANN401 - Ansible's variables
        self._box = box
        self._folder = folder
        self.variables = variables

    def __call__(self, *roles: str, check: bool = False, **variables: Any) -> Played:  # noqa: ANN401 - same
        """Play; never fails by itself."""
        hosts = inventory(self._folder / "inventory.yml", {"inference": [self._box]})
        play = {
            "hosts": "inference",
            "become": True,
            "gather_subset": ["min"],
            "vars": self.variables | variables,
            "roles": list(roles),
        }
        book = self._folder / "play.yml"
        book.write_text(yaml.safe_dump([play]), encoding="utf-8")
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(hosts), str(book)]
        environment = os.environ | {
            "ANSIBLE_ROLES_PATH": str(ROLES),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_RETRY_FILES_ENABLED": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_HOME": str(self._folder / "home"),
        }
        done = subprocess.run(
            [*command, "--check", "--diff"] if check else command,
            check=False,
            capture_output=True,
            text=True,
            timeout=900,
            env=environment,
            cwd=self._folder,
        )
        output = done.stdout + done.stderr
        recap = _RECAP.search(done.stdout)
        assert recap, output
        changed, unreachable, failed = (int(recap[number]) for number in (2, 3, 4))
        assert not unreachable, output
        assert bool(failed) == bool(done.returncode), output
        return Played(output=output, changed=changed, failed=failed)
