"""Our NixOS modules, evaluated with Debian's Nix and without nixpkgs: `evaluate.nix` and `lib.nix` stand in for it.

What this shows is what our modules declare and make of a configuration. Whether nixpkgs has the options that they give
values to is seen where Nix has a network: `nix flake check`.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, cast

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).parent
NIX: Final = shutil.which("nix-instantiate")
needs_nix: Final = pytest.mark.skipif(
    NIX is None, reason="nix-instantiate is not installed: `apt install nix-bin` to try the Nix files"
)
_SECONDS: Final = 120


def nix_files() -> list[Path]:
    """All Nix files of the project, but those that are rendered for tests."""
    return [ROOT / "flake.nix", *sorted((ROOT / "nix").rglob("*.nix")), *sorted(HERE.glob("*.nix"))]


def own_nix(folder: Path) -> dict[str, str]:
    """An environment in which Nix keeps whatever it keeps in `folder`."""
    names = ("NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR", "HOME")
    return {**os.environ, **{name: str(folder) for name in names}}


def run_nix(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nix-instantiate to its end."""
    assert NIX
    return subprocess.run(
        [NIX, *arguments], env=own_nix(folder), capture_output=True, text=True, check=False, timeout=_SECONDS
    )


def evaluate(folder: Path, configuration: str, what: str = "config") -> Any:  # noqa: ANN401 - JSON
    """Give the declared options, or what comes of a configuration."""
    file = folder / "configuration.nix"
    file.write_text(configuration)
    arguments = ("--arg", "configuration", str(file), "--argstr", "what", what)
    done = run_nix(folder, "--eval", "--strict", "--json", str(HERE / "evaluate.nix"), *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def rendered_unit(service: dict[str, Any]) -> str:
    """Write a service as NixOS does."""
    lines = ["[Unit]", f"Description={service['description']}"]
    orders = ("after", "wants", "requires", "before")
    lines += [f"{name.capitalize()}={' '.join(service[name])}" for name in orders if service.get(name)]
    lines += ["", "[Service]"]
    lines += [f"Environment={json.dumps(f'{name}={value}')}" for name, value in service.get("environment", {}).items()]
    settings: dict[str, Any] = dict(service["serviceConfig"])
    if "script" in service:
        settings["ExecStart"] = "/nix/store/00000000000000000000000000000000-unit-script/bin/start"
    for name, value in settings.items():
        several = cast("list[object]", value) if isinstance(value, list) else [value]
        lines += [f"{name}={_text(each)}" for each in several]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
