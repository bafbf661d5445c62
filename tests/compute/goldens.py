"""The golden files: what is rendered for every recorded machine, in every format.

`python -m tests.compute.goldens` writes them anew; look at the difference before you commit it. Reviewed against the
table of models and the rules of docs/compute.md.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.appliance.compute.catalogue_file import read_catalogue
from app.appliance.compute.rendering import FORMATS
from app.appliance.compute.rendering.plan import Where, plan
from app.appliance.hardware.recordings import read_recording, shipped
from app.domain.compute.choice import choose
from app.domain.compute.profile import Reasons, Wishes

FOLDER: Final = Path(__file__).with_name("golden")
NAMES: Final = {
    "env": "engine.env",
    "systemd": "engine.service",
    "compose": "compose.yml",
    "nix": "engine.nix",
    "json": "plan.json",
}
_REVISION: Final = "0123456789abcdef" * 2 + "01234567"
# A machine, and what is wished over the defaults; the name is the folder's.
VARIANTS: Final = {
    **{name: (name, Wishes()) for name in shipped()},
    "a10-ollama": ("a10", Wishes(engine="ollama")),
    "none-ollama": ("none", Wishes(engine="ollama")),
    "none-gguf": ("none", Wishes(engine="llamacpp", model="qwen2.5-7b-instruct")),
    "h100-quality": ("h100", Wishes(prefer="quality")),
    "h100-mixtral": ("h100", Wishes(model="mixtral-8x22b-instruct", utilisation=0.95)),
    "a10-fp8": ("a10", Wishes(model="mistral-nemo-instruct-2407")),
    "2xa100-80-llama": ("2xa100-80", Wishes(model="llama3.1-70b-instruct", token=True, tensor_parallel=1)),
    "8xh100-pinned": (
        "8xh100",
        Wishes(model="qwen2.5-7b-instruct", revisions={"Qwen/Qwen2.5-7B-Instruct-AWQ": _REVISION}),
    ),
}


def rendered(variant: str) -> Iterator[tuple[str, str]]:
    """File name and text of each format; a refusal is one file of reasons."""
    machine, wishes = VARIANTS[variant]
    chosen = choose(read_recording(machine), read_catalogue(), wishes)
    if isinstance(chosen, Reasons):
        yield "reasons.txt", "\n".join(f"{each.code}: {each.text}: {each.remedy}" for each in chosen.reasons) + "\n"
        return
    start = plan(chosen, Where())
    for form, name in NAMES.items():
        yield name, FORMATS[form](start)


def write() -> None:
    """Write all of them anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for variant in VARIANTS:
        (FOLDER / variant).mkdir(parents=True)
        for name, text in rendered(variant):
            (FOLDER / variant / name).write_text(text)


if __name__ == "__main__":
    write()
