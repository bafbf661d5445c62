"""The API pages' files are the ones that SOURCES.toml names (threat 25)."""

import hashlib
import tomllib
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "app" / "web" / "apidocs"


def test_threat_25_vendored_files_have_their_stated_sums() -> None:
    sources = tomllib.loads((FOLDER / "SOURCES.toml").read_text())
    named = {name: digest for source in sources.values() for name, digest in source["files"].items()}
    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in named} == named
    ours = {"swagger-start.js"}
    assert {path.name for path in FOLDER.iterdir() if path.suffix in {".js", ".css"}} == named.keys() | ours
