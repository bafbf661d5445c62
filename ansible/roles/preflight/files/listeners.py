"""Print `PORT NAME` of each TCP port that a process listens on which is none of our own units'."""

import re
import subprocess
from pathlib import Path

# Our units' cgroups end so; a second run of the playbook finds their ports taken, as they should be.
OURS = re.compile(r"/(loosh-miner|vllm|vllm-router|ollama|ray|prometheus|alertmanager|grafana)[^/]*\.service")


def main() -> None:
    listening = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
    for line in listening.splitlines():
        port = line.split()[3].rpartition(":")[2]
        for name, pid in re.findall(r'"([^"]+)",pid=(\d+)', line) or [("a process", "")]:
            if not is_ours(pid):
                print(port, name)


def is_ours(pid: str) -> bool:
    try:
        return bool(OURS.search(Path("/proc", pid, "cgroup").read_text(encoding="utf-8")))
    except OSError:
        return False


main()
