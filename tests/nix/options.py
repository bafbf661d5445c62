"""docs/nix-options.md: every option of our NixOS modules, out of their declarations.

`python -m tests.nix.options` writes it anew; a test holds it true.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from tests.nix.evaluation import ROOT, evaluate

PAGE: Final = ROOT / "docs" / "nix-options.md"
_NOTHING: Final = "{ services.loosh-miner.enable = false; }"
_HEAD: Final = """\
# Options of the NixOS modules

Made by `just nix-write` out of `nix/modules`, do not edit. How they are used: [nix/README.md](../nix/README.md).
"""


def declared(folder: Path) -> list[dict[str, Any]]:
    """All options of ours, by name."""
    return sorted(evaluate(folder, _NOTHING, "options"), key=lambda option: option["name"])


def page(options: list[dict[str, Any]]) -> str:
    """Build the page."""
    return "\n".join([_HEAD, *(line for option in options for line in _section(option))])


def _section(option: dict[str, Any]) -> Iterator[str]:
    yield f"## {option['name']}"
    yield ""
    yield " ".join(option["description"].replace("{option}", "").split())
    yield ""
    yield f"- Type: {option['type']}"
    if not option["required"]:
        yield f"- Default: `{_one_line(option['default'], code=option['defaultCode'])}`"
    if option["example"] is not None:
        yield f"- Example: `{_one_line(option['example'], code=option['exampleCode'])}`"
    yield ""


def _one_line(value: object, *, code: bool) -> str:
    if code and isinstance(value, str):
        return " ".join(value.split()).replace("`", "")
    return _nix(value)


def _nix(value: object) -> str:
    match value:
        case list():
            members = cast("list[object]", value)
            return f"[ {' '.join(map(_nix, members))} ]" if members else "[ ]"
        case dict():
            return "{ }"
        case _:
            return json.dumps(value)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        PAGE.write_text(page(declared(Path(temporary))))
