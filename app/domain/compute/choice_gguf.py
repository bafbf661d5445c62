"""The choice for engines that read GGUF files: Ollama, and llama.cpp inside the miner."""

from collections.abc import Iterator
from typing import Final

from app.domain.compute.cards import Group, best, groups, shards
from app.domain.compute.catalogue import GB, AllowedModel, Catalogue, ModelFacts
from app.domain.compute.context import served_context
from app.domain.compute.fit import GIB, Fit, gpu_overhead
from app.domain.compute.hardware import Hardware
from app.domain.compute.preference import may_download, preferred, unknown_model
from app.domain.compute.profile import (
    EMBEDDED_CONTEXT,
    EMBEDDED_MODEL,
    Cards,
    EngineProfile,
    Note,
    Reason,
    Reasons,
    Weights,
    Wishes,
)

_RAM_SHARE: Final = 0.75
"""The rest is for the system, the miner, and the cache of the weights' file."""
_RAM_OVERHEAD: Final = 2 * GIB
_OLLAMA_CAPABILITY: Final = (5, 0)
_EMBEDDED_PARALLEL: Final = 8


def choose_ollama(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> EngineProfile | Reasons:
    """Choose for Ollama: by memory, on GPUs if there are any that it can use, else in RAM."""
    chosen = best(catalogue, (group for group in groups(hardware) if _can_ollama(group)))
    tier, group = chosen or (None, None)
    if wishes.model is not None:
        model = catalogue.find(wishes.model)
        if model is None:
            return Reasons((unknown_model(catalogue, wishes.model),))
        each = _ollama(model, tier, group, hardware, catalogue, wishes)
        return each if isinstance(each, EngineProfile) else Reasons((each,))
    models = list(preferred(catalogue, tier, wishes.prefer))
    if group is None:
        models = models[-1:]  # in RAM only the smallest writes a sentence in time
    tried = [_ollama(model, tier, group, hardware, catalogue, wishes) for model in models]
    profiles = [each for each in tried if isinstance(each, EngineProfile)]
    reasons = Reasons(tuple(each for each in tried if isinstance(each, Reason)))
    return max(profiles, key=lambda profile: profile.context, default=reasons)


def choose_llamacpp(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> EngineProfile | Reasons:
    """Choose for llama.cpp in the process: the operator's file, a model of the allow-list, or the embedded one."""
    if wishes.model_path is not None or wishes.model is None or wishes.model == EMBEDDED_MODEL:
        return _embedded(wishes) if wishes.model_path is None else _own_file(wishes)
    model = catalogue.find(wishes.model)
    if model is None:
        return Reasons((unknown_model(catalogue, wishes.model),))
    facts = catalogue.model_facts[model.id]
    for repository in model.quants.get("gguf", ()):
        if not may_download(model, repository, wishes):
            continue
        fit = _ram_fit(hardware, facts, facts.weights[repository].gb)
        if isinstance(fit, Reason):
            return Reasons((fit,))
        context = served_context(model, facts, None, fit, wishes)
        if isinstance(context, Reason):
            return Reasons((context,))
        weights = facts.weights[repository]
        return EngineProfile(
            engine="llamacpp",
            purpose="earning",
            model=model.id,
            served_name=model.base,
            context=context,
            parallel=_side_by_side(fit, context, min(wishes.concurrent, _EMBEDDED_PARALLEL)),
            licence=model.license,
            gated=model.gated,
            weights=Weights(
                quant="gguf",
                bytes=fit.weights,
                repository=repository,
                revision=weights.revision or wishes.revisions.get(repository),
                files=tuple(weights.files),
            ),
            fit=fit,
            notes=(_SLOW,),
        )
    return Reasons(tuple(_no_gguf(model)))


_SLOW: Final = Note(
    "slow", "in RAM an answer is written slowly: expect a part of the 12288 tokens asked for within 50 seconds"
)


def _ollama(
    model: AllowedModel,
    tier: str | None,
    group: Group | None,
    hardware: Hardware,
    catalogue: Catalogue,
    wishes: Wishes,
) -> EngineProfile | Reason:
    facts = catalogue.model_facts[model.id]
    if group is None:
        fit = _ram_fit(hardware, facts, facts.ollama.gb)
        if isinstance(fit, Reason):
            return fit
        used = ()
    else:
        used = group.gpus[: shards(group, facts)]
        fit = Fit(
            place="gpu",
            memory=group.memory,
            cards=len(used),
            utilisation=wishes.utilisation,
            weights=int(facts.ollama.gb * GB),
            overhead=gpu_overhead(group.memory, wishes.utilisation),
            kv_bytes_per_token=facts.kv_bytes_per_token,
        )
    context = served_context(model, facts, catalogue.tiers[tier] if tier else None, fit, wishes)
    if isinstance(context, Reason):
        return context
    return EngineProfile(
        engine="ollama",
        purpose="earning",
        model=model.id,
        served_name=facts.ollama.tag,
        context=context,
        parallel=_side_by_side(fit, context, wishes.concurrent),
        tier=tier,
        licence=model.license,
        weights=Weights(quant="q4_K_M", bytes=fit.weights, ollama_tag=facts.ollama.tag),
        cards=_cards(group, len(used), hardware) if group else None,
        utilisation=wishes.utilisation,
        fit=fit,
        decode_ceiling=_ceiling(group, fit),
        notes=tuple(_notes(model, facts, tier, group, catalogue)),
    )


def _notes(
    model: AllowedModel, facts: ModelFacts, tier: str | None, group: Group | None, catalogue: Catalogue
) -> Iterator[Note]:
    if group is None:
        yield _SLOW
    elif tier is None:
        yield Note("no_tier", "the GPU makes none of the subnet's tiers")
    elif catalogue.tiers[tier].retired_upstream:
        yield Note("retired_upstream", f"the tier {tier} is retired upstream: it works, and the subnet may drop it")
    if facts.not_recommended:
        yield Note("not_recommended", f"{model.id} is not recommended: {facts.not_recommended}")


def _embedded(wishes: Wishes) -> EngineProfile:
    return EngineProfile(
        engine="llamacpp",
        purpose="development",
        model=EMBEDDED_MODEL,
        served_name=EMBEDDED_MODEL,
        context=EMBEDDED_CONTEXT,
        parallel=min(wishes.concurrent, _EMBEDDED_PARALLEL),
        licence="Apache-2.0",
        notes=(
            Note(
                "embedded",
                f"{EMBEDDED_MODEL} runs anywhere and earns nothing: its context of {EMBEDDED_CONTEXT} is under the"
                " 16384 that validators' challenges take",
            ),
        ),
    )


def _own_file(wishes: Wishes) -> EngineProfile:
    path = wishes.model_path or ""
    name = wishes.model or path.rpartition("/")[2].removesuffix(".gguf")
    return EngineProfile(
        engine="llamacpp",
        purpose="development",
        model=name,
        served_name=name,
        context=0,
        parallel=min(wishes.concurrent, _EMBEDDED_PARALLEL),
        model_path=path,
        notes=(Note("own_file", f"{path} is your own file: nothing is known of it, so no fit was computed"),),
    )


def _ram_fit(hardware: Hardware, facts: ModelFacts, gigabytes: float) -> Fit | Reason:
    if hardware.memory is None:
        return Reason("memory", "the machine's RAM could not be read", "see what `loosh-miner doctor` says of it")
    return Fit(
        place="ram",
        memory=hardware.memory.total,
        cards=1,
        utilisation=_RAM_SHARE,
        weights=int(gigabytes * GB),
        overhead=_RAM_OVERHEAD,
        kv_bytes_per_token=facts.kv_bytes_per_token,
    )


def _side_by_side(fit: Fit, context: int, most: int) -> int:
    """How many whole contexts fit: these engines set memory aside for each."""
    return max(1, min(fit.tokens // context, most))


def _can_ollama(group: Group) -> bool:
    return group.gpus[0].compute_capability >= _OLLAMA_CAPABILITY


def _ceiling(group: Group | None, fit: Fit) -> float | None:
    bandwidth = group.gpus[0].bandwidth if group else None
    # Layers lie on one card after the other, so several cards are no faster than one.
    return round(bandwidth / fit.weights, 1) if bandwidth else None


def _cards(group: Group, count: int, hardware: Hardware) -> Cards:
    used = group.gpus[:count]
    return Cards(
        indices=tuple(gpu.index for gpu in used),
        name=used[0].name,
        memory=group.memory,
        capability=used[0].compute_capability,
        of=len(hardware.nvidia.gpus),
    )


def _no_gguf(model: AllowedModel) -> Iterator[Reason]:
    if "gguf" in model.quants:
        yield Reason(
            "gated",
            f"{model.id} is gated: its weights can be downloaded only after the licence of {model.base} is accepted",
            f"accept it at https://huggingface.co/{model.base}, then set HF_TOKEN to a token of that account",
        )
    else:
        yield Reason(
            "weights_missing",
            f"{model.id} has no GGUF weights in min_compute.yml, which llama.cpp needs",
            "choose another model, or name a file of your own in MODEL_PATH",
        )
