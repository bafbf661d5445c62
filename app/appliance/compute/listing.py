"""What `loosh-miner models` tells: every allowed model with its fit, and the sum of one."""

from collections.abc import Iterator

import msgspec

from app.appliance.compute.selection import Selection, said
from app.domain.compute.cards import groups, tier_of
from app.domain.compute.catalogue import GB, Tier
from app.domain.compute.fit import gb
from app.domain.compute.hardware import Hardware
from app.domain.compute.profile import EngineProfile, Reason, Reasons
from app.errors import NothingFits


class ListedTier(msgspec.Struct, frozen=True, kw_only=True):
    """A tier, and whether this machine makes it."""

    tier: str
    min_vram_gb: float
    min_compute_capability: str
    recommended_gpu: str
    max_context: int
    retired_upstream: bool
    here: bool


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model, and whether it fits this machine."""

    tier: str
    id: str
    licence: str
    gated: bool
    fits: bool
    context: int | None = None
    quant: str | None = None
    weights_gb: float | None = None
    tokens_per_second_at_most: float | None = None
    reason: Reason | None = None
    """Why it does not fit."""
    chosen: bool = False


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; `chosen` or `reasons` is the answer for this machine."""

    machine: str
    engine: str
    """That the fit is computed for."""
    tiers: tuple[ListedTier, ...]
    models: tuple[ListedModel, ...]
    chosen: EngineProfile | None = None
    reasons: tuple[Reason, ...] = ()


def listing(selection: Selection) -> Listing:
    """List tiers and models with their fit."""
    chosen = selection.chosen if isinstance(selection.chosen, EngineProfile) else None
    return Listing(
        machine=machine(selection.hardware),
        engine=selection.wishes.engine or "vllm",
        tiers=tuple(_tiers(selection)),
        models=tuple(_models(selection, chosen)),
        chosen=chosen,
        reasons=selection.chosen.reasons if isinstance(selection.chosen, Reasons) else (),
    )


def machine(hardware: Hardware) -> str:
    """Describe a machine in one line."""
    cards: dict[str, int] = {}
    for gpu in hardware.nvidia.gpus:
        major, minor = gpu.compute_capability
        name = f"{gpu.name}, {gb(gpu.memory)}, compute capability {major}.{minor}"
        cards[name] = cards.get(name, 0) + 1
    parts = [f"{count} x {name}" for name, count in cards.items()] or ["no NVIDIA GPU"]
    if hardware.cpu is not None:
        parts.append(f"{hardware.cpu.cores or hardware.cpu.threads} cores")
    if hardware.memory is not None:
        parts.append(f"{gb(hardware.memory.total)} RAM")
    return "; ".join(parts)


def explain(selection: Selection, name: str) -> Iterator[str]:
    """Tell the sum of one model on this machine, line by line. Errors: `NothingFits` for an unknown one."""
    model = selection.catalogue.find(name)
    if model is None:
        known = ", ".join(selection.catalogue.models())
        raise NothingFits(f"{name} is no model of min_compute.yml: name one of {known}")
    facts = selection.catalogue.model_facts[model.id]
    yield f"{model.id} ({model.base}; licence {model.license}{', gated' if model.gated else ''})"
    yield f"machine: {machine(selection.hardware)}"
    fit = selection.fit(name)
    if isinstance(fit, Reasons):
        yield "does not fit:"
        for reason in fit.reasons:
            yield f"  {said(reason)}"
        return
    yield f"engine: {fit.engine}, {fit.weights.quant if fit.weights else 'own weights'}"
    if fit.fit is not None:
        yield from (f"  {line}" for line in fit.fit.lines())
    yield f"  the model was made for: {facts.native_context} tokens"
    yield f"  the most we serve of it: {facts.served_context} tokens"
    if fit.tier is not None:
        most = selection.catalogue.tiers[fit.tier].recommended_max_context
        yield f"  the tier {fit.tier} recommends at most: {most} tokens"
    yield f"context served: {fit.context} tokens"
    if fit.decode_ceiling is not None:
        yield f"speed of one answer (computed, memory bandwidth / weights): at most {fit.decode_ceiling:g} tokens/s"
    for note in fit.notes:
        yield f"note: {note.text}"


def _tiers(selection: Selection) -> Iterator[ListedTier]:
    made = {tier_of(selection.catalogue, group) for group in groups(selection.hardware)}
    for name, tier in selection.catalogue.tiers.items():
        yield ListedTier(
            tier=name,
            min_vram_gb=tier.min_vram,
            min_compute_capability=capability(tier),
            recommended_gpu=tier.recommended_gpu,
            max_context=tier.recommended_max_context,
            retired_upstream=tier.retired_upstream,
            here=name in made,
        )


def _models(selection: Selection, chosen: EngineProfile | None) -> Iterator[ListedModel]:
    for model in selection.catalogue.models().values():
        fit = selection.fit(model.id)
        tier = selection.catalogue.home_tier(model.id)
        if isinstance(fit, Reasons):
            yield ListedModel(
                tier=tier,
                id=model.id,
                licence=model.license,
                gated=model.gated,
                fits=False,
                reason=fit.reasons[0],
            )
            continue
        yield ListedModel(
            tier=tier,
            id=model.id,
            licence=model.license,
            gated=model.gated,
            fits=True,
            context=fit.context,
            quant=fit.weights.quant if fit.weights else None,
            weights_gb=round(fit.weights.bytes / GB, 1) if fit.weights else None,
            tokens_per_second_at_most=fit.decode_ceiling,
            chosen=chosen is not None and chosen.model == model.id,
        )


def capability(tier: Tier) -> str:
    """Write a tier's compute capability."""
    major, minor = tier.capability
    return f"{major}.{minor}"
