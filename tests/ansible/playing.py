"""Runs the appliance's own playbooks against boxes, as an operator does: ansible-playbook over ssh."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.boxes.boxes import Box

ROOT: Final = Path(__file__).parents[2]
ANSIBLE: Final = ROOT / "ansible"
EACH_ROLE: Final = pytest.mark.skipif(
    os.environ.get("BOXES") != "all", reason="NOT RUN: one role after the other takes long: ./justw test-ansible"
)
"""For tests of a single role; the whole way from bare box to answer is in the plain suite."""
_RECAP: Final = re.compile(r"^(\S+)\s*: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a run came to."""

    output: str
    seconds: float
    changed: int
    failed: int

    @property
    def said(self) -> str:
        """The output as a person reads it, in one line: Ansible folds messages."""
        return " ".join(self.output.replace("\\n", " ").split())


class Site:
    """An inventory of boxes in their groups, and playbooks over it."""

    def __init__(self, folder: Path, groups: dict[str, list[Box]], **variables: Any) -> None:  # noqa: ANN401 - Ansible's
        self.folder: Final = folder
        self.groups = groups
        self.variables = variables

    def play(
        self,
        book: str = "site.yml",
        *options: str,
        check: bool = False,
        fails: bool = False,
        **variables: Any,  # noqa: ANN401 - Ansible's variables
    ) -> Played:
        """Play a book of `ansible/`; `variables` come over all others (-e). A failure is one of the test, unless
        `fails` says that it is wanted.
        """
        if variables:
            options = (*options, "-e", json.dumps(variables))
        if check:
            options = (*options, "--check", "--diff")
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self._inventory())]
        began = time.monotonic()
        done = subprocess.run(
            [*command, str(ANSIBLE / book), *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=1500,
            env=self._environment(),
            cwd=ROOT,
        )
        output = done.stdout + done.stderr
        recap = _RECAP.findall(done.stdout)
        assert recap, output
        assert not any(int(row[3]) for row in recap), output
        assert (done.returncode != 0) == fails, output
        return Played(
            output=output,
            seconds=time.monotonic() - began,
            changed=sum(int(row[2]) for row in recap),
            failed=sum(int(row[4]) for row in recap),
        )

    def _inventory(self) -> Path:
        file = self.folder / "inventory.yml"
        # Variables stand with the hosts: those of a group would lose against ansible/group_vars.
        children = {
            group: {"hosts": {box.name: box.host_variables | self.variables for box in boxes}}
            for group, boxes in self.groups.items()
        }
        file.write_text(yaml.safe_dump({"all": {"children": children}}), encoding="utf-8")
        file.chmod(0o600)
        return file

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible-home"),
            "ANSIBLE_NOCOLOR": "true",
            "PYTHONWARNINGS": "",
        }
