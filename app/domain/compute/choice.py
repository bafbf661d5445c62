"""The choice: hardware, catalogue and wishes in, one engine profile or the reasons out. Pure.

vLLM where the machine makes one of the subnet's tiers, else llama.cpp in the miner's process; Ollama when asked for.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from app.domain.compute.cards import Group, best, groups, needs, owned, power_of_two, shards, tier_of, why_no_tier
from app.domain.compute.catalogue import GB, AllowedModel, Catalogue, ModelFacts
from app.domain.compute.choice_gguf import choose_llamacpp, choose_ollama
from app.domain.compute.context import served_context
from app.domain.compute.fit import Fit, gpu_overhead
from app.domain.compute.hardware import Hardware
from app.domain.compute.preference import may_download, preferred, unknown_model
from app.domain.compute.profile import Cards, EngineProfile, Note, Reason, Reasons, Weights, Wishes

_VLLM_QUANTS: Final = ("awq_int4", "gptq_int4", "fp8_vllm")
_FP8_NATIVE: Final = (8, 9)
_SEQUENCES: Final = 64
"""vLLM takes them side by side as far as its memory goes, and lets the rest wait."""


def choose(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> EngineProfile | Reasons:
    """Choose engine, model, quantisation and context for a machine, or say why nothing can work."""
    match wishes.engine:
        case "vllm":
            return choose_vllm(hardware, catalogue, wishes)
        case "ollama":
            return choose_ollama(hardware, catalogue, wishes)
        case "llamacpp":
            return choose_llamacpp(hardware, catalogue, wishes)
        case None:
            chosen = choose_vllm(hardware, catalogue, wishes)
    if isinstance(chosen, EngineProfile) or _tier(hardware, catalogue, wishes) is not None:
        return chosen
    fallen = choose_llamacpp(hardware, catalogue, wishes)
    if isinstance(fallen, Reasons):
        return Reasons((*chosen.reasons, *fallen.reasons))
    told = tuple(Note("no_tier", reason.text) for reason in chosen.reasons)
    return msgspec.structs.replace(fallen, notes=(*told, *fallen.notes))


def choose_vllm(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> EngineProfile | Reasons:
    """Choose for vLLM: the operator's model, or of the default family the first that gets the most context."""
    found = _tier(hardware, catalogue, wishes)
    if found is None:
        return Reasons(tuple(_why_no_tier(hardware, catalogue, wishes)))
    tier, group = found
    if wishes.model is not None:
        model = catalogue.find(wishes.model)
        if model is None:
            return Reasons((unknown_model(catalogue, wishes.model),))
        return for_model(model, tier, group, hardware, catalogue, wishes)
    profiles: list[EngineProfile] = []
    reasons: list[Reason] = []
    for model in preferred(catalogue, tier, wishes.prefer):
        each = for_model(model, tier, group, hardware, catalogue, wishes)
        if isinstance(each, EngineProfile):
            profiles.append(each)
        else:
            reasons.extend(each.reasons)
    # The first of the greatest: the order is the preference.
    return max(profiles, key=lambda profile: profile.context, default=Reasons(tuple(dict.fromkeys(reasons))))


def for_model(
    model: AllowedModel, tier: str, group: Group, hardware: Hardware, catalogue: Catalogue, wishes: Wishes
) -> EngineProfile | Reasons:
    """Give the profile of one model on equal GPUs that make `tier`, with the first of its weights that works."""
    home = catalogue.home_tier(model.id)
    order = list(catalogue.tiers)
    if order.index(home) > order.index(tier):
        return Reasons((_above(model, home, group, catalogue),))
    facts = catalogue.model_facts[model.id]
    equal = next(each for each in groups(hardware) if group.gpus[0] in each.gpus)
    wrong = tuple(_tensor_parallel_faults(model, facts, group, equal, wishes))
    if wrong:
        return Reasons(wrong)
    reasons: list[Reason] = []
    for quant, repository in _repositories(model, wishes):
        if not may_download(model, repository, wishes):
            reasons.append(_gated(model, repository))
            continue
        each = _with_weights(model, quant, repository, tier, group, hardware, catalogue, wishes)
        if isinstance(each, EngineProfile):
            return each
        reasons.append(each)
    return Reasons(tuple(dict.fromkeys(reasons)) or (_no_weights(model),))


def _tier(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> tuple[str, Group] | None:
    """Find the best tier of the machine, of as many cards as the operator wants."""
    chosen = best(catalogue, _wanted(hardware, wishes))
    if chosen is None or chosen[0] is None:
        return None
    return chosen[0], chosen[1]


def _wanted(hardware: Hardware, wishes: Wishes) -> tuple[Group, ...]:
    """Give the equal GPUs, of each kind no more than the operator wants."""
    found = groups(hardware)
    if wishes.tensor_parallel is None:
        return found
    return tuple(Group(group.gpus[: max(1, wishes.tensor_parallel)]) for group in found)


def _why_no_tier(hardware: Hardware, catalogue: Catalogue, wishes: Wishes) -> Iterator[Reason]:
    more = best(catalogue, groups(hardware))
    if more is not None and more[0] is not None:
        yield Reason(
            "tensor_parallel",
            f"with TENSOR_PARALLEL_SIZE={wishes.tensor_parallel} this machine makes no tier: {more[1].usable} of its"
            f" GPUs make {more[0]}",
            f"set TENSOR_PARALLEL_SIZE={more[1].usable}, or leave it empty",
        )
    yield from why_no_tier(catalogue, hardware, _wanted(hardware, wishes))


def _repositories(model: AllowedModel, wishes: Wishes) -> Iterator[tuple[str, str]]:
    """Weights that vLLM serves, best first; only the one that the operator named, if a name was that exact."""
    wanted = (wishes.model or "").lower()
    pairs = [(quant, repository) for quant in _VLLM_QUANTS for repository in model.quants.get(quant, ())]
    exact = [pair for pair in pairs if pair[1].lower() == wanted]
    yield from exact or pairs


def _with_weights(
    model: AllowedModel,
    quant: str,
    repository: str,
    tier: str,
    group: Group,
    hardware: Hardware,
    catalogue: Catalogue,
    wishes: Wishes,
) -> EngineProfile | Reason:
    facts = catalogue.model_facts[model.id]
    weights = facts.weights[repository]
    count = wishes.tensor_parallel or shards(group, facts)
    fit = Fit(
        place="gpu",
        memory=group.memory,
        cards=count,
        utilisation=wishes.utilisation,
        weights=int(weights.gb * GB),
        overhead=gpu_overhead(group.memory, wishes.utilisation),
        kv_bytes_per_token=facts.kv_bytes_per_token,
    )
    context = served_context(model, facts, catalogue.tiers[tier], fit, wishes)
    if isinstance(context, Reason):
        return context
    used = group.gpus[:count]
    bandwidth = used[0].bandwidth
    return EngineProfile(
        engine="vllm",
        purpose="earning",
        model=model.id,
        served_name=model.base,
        context=context,
        parallel=max(wishes.max_num_seqs or _SEQUENCES, wishes.concurrent),
        tier=tier,
        licence=model.license,
        gated=model.gated,
        weights=Weights(
            quant=quant,
            bytes=fit.weights,
            repository=repository,
            revision=weights.revision or wishes.revisions.get(repository),
            files=tuple(weights.files),
        ),
        cards=Cards(
            indices=tuple(gpu.index for gpu in used),
            name=used[0].name,
            memory=group.memory,
            capability=used[0].compute_capability,
            of=len(hardware.nvidia.gpus),
        ),
        utilisation=wishes.utilisation,
        tool_call_parser=(wishes.tool_call_parser or facts.tool_call_parser) if wishes.auto_tool_choice else None,
        chat_template=facts.chat_template,
        prefix_caching=wishes.prefix_caching,
        max_num_batched_tokens=wishes.max_num_batched_tokens,
        fit=fit,
        decode_ceiling=round(bandwidth * count / fit.weights, 1) if bandwidth else None,
        notes=tuple(_notes(model, facts, quant, tier, group, count, hardware, catalogue)),
    )


def _notes(
    model: AllowedModel,
    facts: ModelFacts,
    quant: str,
    tier: str,
    group: Group,
    count: int,
    hardware: Hardware,
    catalogue: Catalogue,
) -> Iterator[Note]:
    if catalogue.tiers[tier].retired_upstream:
        yield Note("retired_upstream", f"the tier {tier} is retired upstream: it works, and the subnet may drop it")
    major, minor = group.gpus[0].compute_capability
    if quant == "fp8_vllm" and (major, minor) < _FP8_NATIVE:
        yield Note(
            "fp8_weight_only",
            f"compute capability {major}.{minor} has no FP8 arithmetic (8.9 has): the weights are kept in FP8 and"
            " computed in 16 bits, which saves memory and no time",
        )
    if facts.not_recommended:
        yield Note("not_recommended", f"{model.id} is not recommended: {facts.not_recommended}")
    if facts.chat_template is not None:
        yield Note(
            "chat_template",
            f"tools of {model.id} need vLLM's example {facts.chat_template}, which its wheel lacks: put that file from"
            " the folder examples of vLLM's source into /opt/vllm/share (the container has it)",
        )
    if facts.tool_call_parser is None:
        yield Note("no_tool_parser", f"vLLM reads no tool calls of {model.id}: tools go by the prompt")
    if count < len(hardware.nvidia.gpus):
        yield Note(
            "unused_gpus",
            f"{count} of {len(hardware.nvidia.gpus)} GPUs serve it: equal ones, a power of two that divides its"
            f" {facts.kv_heads} kv heads",
        )


def _near(count: int, facts: ModelFacts, equal: Group) -> int:
    """Give the number of GPUs that works and is not under `count`, else the largest that works."""
    most = shards(equal, facts)
    return min(most, power_of_two(2 * count - 1))


def _tensor_parallel_faults(
    model: AllowedModel, facts: ModelFacts, group: Group, equal: Group, wishes: Wishes
) -> Iterator[Reason]:
    """Say what is wrong with the number wished for; `group` has no more cards than that, `equal` has all of them."""
    count = wishes.tensor_parallel
    if count is None:
        return
    most = facts.max_tensor_parallel or facts.kv_heads
    remedy = f"set TENSOR_PARALLEL_SIZE={_near(count, facts, equal)}, or leave it empty"
    if count > len(group.gpus):
        text = f"TENSOR_PARALLEL_SIZE={count}, and there are {len(group.gpus)} equal GPUs"
        yield Reason("tensor_parallel", text, remedy)
    elif count & (count - 1):
        yield Reason("tensor_parallel", f"TENSOR_PARALLEL_SIZE={count} is not a power of two", remedy)
    elif facts.kv_heads % count:
        text = f"TENSOR_PARALLEL_SIZE={count} does not divide the {facts.kv_heads} kv heads of {model.id}"
        yield Reason("tensor_parallel", text, remedy)
    elif count > most:
        text = f"TENSOR_PARALLEL_SIZE={count}: the quantised layers of {model.id} can be cut into {most} parts at most"
        yield Reason("tensor_parallel", text, remedy)


def _above(model: AllowedModel, home: str, group: Group, catalogue: Catalogue) -> Reason:
    return Reason(
        "tier",
        f"{model.id} belongs to the tier {home}, which needs {needs(catalogue.tiers[home])}; there is {owned(group)}",
        f"leave DEFAULT_MODEL empty, or take a model of the tier {tier_of(catalogue, group)} or below",
    )


def _gated(model: AllowedModel, repository: str) -> Reason:
    return Reason(
        "gated",
        f"{model.id} is gated: {repository} can be downloaded only after the licence of {model.base} is accepted",
        f"accept it at https://huggingface.co/{model.base}, then set HF_TOKEN to a token of that account",
    )


def _no_weights(model: AllowedModel) -> Reason:
    return Reason(
        "weights_missing",
        f"{model.id} has no weights that vLLM serves, only {', '.join(model.quants)}",
        "choose another model, or LLM_BACKEND=ollama or llamacpp",
    )
