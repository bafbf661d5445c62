"""`min_compute.yml` for editors and people: its JSON Schema, and the tables of docs/compute.md.

`python -m app.appliance.compute.docs` writes both anew; a test holds them true.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import msgspec

from app.appliance.compute.catalogue_file import read_catalogue
from app.appliance.compute.listing import capability
from app.appliance.hardware.recordings import read_recording, shipped
from app.domain.compute.catalogue import Catalogue, Quant
from app.domain.compute.choice import choose
from app.domain.compute.fit import MIB
from app.domain.compute.profile import EngineProfile, Wishes

BEGIN: Final = "<!-- tables: made by `python -m app.appliance.compute.docs`, do not edit -->"
END: Final = "<!-- /tables -->"
_ROOT: Final = Path(__file__).resolve().parents[3]
SCHEMA: Final = Path("docs/min_compute.schema.json")
PAGE: Final = Path("docs/compute.md")


def schema() -> str:
    """Build the JSON Schema of `min_compute.yml`, for editors."""
    tree = msgspec.json.schema(Catalogue)
    # msgspec says nothing of the keys that a map may have.
    quants = tree["$defs"]["AllowedModel"]["properties"]["quants"]
    quants["propertyNames"] = {"enum": list(get_args(Quant.__value__))}
    return msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n"


def tables() -> str:
    """Build the tables of docs/compute.md."""
    catalogue = read_catalogue()
    return "\n".join([*_tiers(catalogue), "", *_models(catalogue), "", *_machines(catalogue), ""])


def write(root: Path) -> None:
    """Bring both files up to date."""
    (root / SCHEMA).write_text(schema(), "utf-8")
    page = root / PAGE
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", "utf-8")


def _tiers(catalogue: Catalogue) -> Iterator[str]:
    yield "\n**Tiers**\n"
    yield "| tier | memory | compute capability | for instance | context at most |"
    yield "|---|---|---|---|---|"
    for name, tier in catalogue.tiers.items():
        retired = ", retired upstream" if tier.retired_upstream else ""
        memory, card = f"{tier.min_vram:g} GB", tier.recommended_gpu
        yield f"| {name}{retired} | {memory} | {capability(tier)} | {card} | {tier.recommended_max_context} |"


def _models(catalogue: Catalogue) -> Iterator[str]:
    yield "**Models**\n"
    yield "| model | from the tier | licence | weights for vLLM | bytes a token | own context | served | Ollama |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in catalogue.models().values():
        facts = catalogue.model_facts[model.id]
        weights = ", ".join(
            f"{quant} {facts.weights[repositories[0]].gb:g} GB"
            for quant, repositories in model.quants.items()
            if quant != "gguf"
        )
        licence = f"{model.license}, gated" if model.gated else model.license
        ollama = f"`{facts.ollama.tag}` {facts.ollama.gb:g} GB"
        yield (
            f"| {model.id} | {catalogue.home_tier(model.id)} | {licence} | {weights} | {facts.kv_bytes_per_token} |"
            f" {facts.native_context} | {facts.served_context} | {ollama} |"
        )


def _machines(catalogue: Catalogue) -> Iterator[str]:
    yield "**What is chosen on the recorded machines**\n"
    yield "| machine | GPUs | tier | model | context | fits | tokens/s at most |"
    yield "|---|---|---|---|---|---|---|"
    for name in shipped():
        hardware = read_recording(name)
        chosen = choose(hardware, catalogue, Wishes())
        if not isinstance(chosen, EngineProfile):
            continue
        gpus = hardware.nvidia.gpus
        cards = f"{len(gpus)} x {gpus[0].name}, {gpus[0].memory // MIB} MiB" if gpus else "none"
        fits = chosen.fit.tokens if chosen.fit else "-"
        yield (
            f"| {name} | {cards} | {chosen.tier or '-'} | {chosen.model} | {chosen.context} | {fits} |"
            f" {chosen.decode_ceiling or '-'} |"
        )


if __name__ == "__main__":
    write(_ROOT)
