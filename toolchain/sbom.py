"""Write what the product is made of as a CycloneDX file: dist/loosh-miner-VERSION.cdx.json.

    sbom.py [DIRECTORY]

The packages and their hashes come from requirements.lock, by cyclonedx-py; the JavaScript that stands in app/web is
added from the list beside it. The same input gives the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PYPROJECT = ROOT / "pyproject.toml"
VENDORED = ROOT / "app" / "web" / "apidocs" / "SOURCES.toml"


class SbomError(Exception):
    """The bill of materials can't be made; the text says why."""


def write_sbom(folder: Path) -> Path:
    """Write the file into `folder` and give its path. Errors: `SbomError`, `OSError`."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", str(LOCK)]
    command += ["--pyproject", str(PYPROJECT), "--mc-type", "application", "--output-reproducible", "--of", "JSON"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SbomError(done.stderr.strip() or "cyclonedx-py said nothing")
    bill: dict[str, Any] = json.loads(done.stdout)
    for component in bill["components"]:
        component.pop("description", None)  # the lock's own line, hashes and all, once more
    bill["components"] += vendored()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"loosh-miner-{version()}.cdx.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def version() -> str:
    """Read the project's version."""
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]


def vendored() -> list[dict[str, Any]]:
    """Name the packages from npm whose files are in the product."""
    sources: dict[str, dict[str, Any]] = tomllib.loads(VENDORED.read_text(encoding="utf-8"))
    return [
        {
            "type": "library",
            "bom-ref": f"vendored-{name}",
            "name": name,
            "version": source["version"],
            "purl": f"pkg:npm/{name}@{source['version']}",
            "licenses": [{"license": {"id": source["license"]}}],
        }
        for name, source in sources.items()
    ]


if __name__ == "__main__":
    try:
        print(write_sbom(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
    except (SbomError, OSError) as error:
        sys.exit(f"sbom: {error}")
