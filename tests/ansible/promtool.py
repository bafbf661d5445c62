"""Prometheus' own checker: from the machine, else out of Debian's package, unpacked and never installed."""

import shutil
import subprocess
from pathlib import Path

import pytest


def find_promtool(folder: Path) -> Path:
    """Give the program; skips the test, and says so, where it can't be had."""
    installed = shutil.which("promtool")
    if installed:
        return Path(installed)
    apt = shutil.which("apt-get")
    if apt is None:
        pytest.skip("no promtool here, and no apt to fetch it with: the alerts are NOT checked")
    fetched = subprocess.run([apt, "download", "-q", "prometheus"], cwd=folder, capture_output=True, check=False)
    packages = sorted(folder.glob("prometheus_*.deb"))
    if fetched.returncode or not packages:
        pytest.skip("Debian's package `prometheus` can't be fetched (apt-get update?): the alerts are NOT checked")
    subprocess.run(["dpkg-deb", "-x", str(packages[-1]), "tree"], cwd=folder, check=True)
    return folder / "tree/usr/bin/promtool"
