"""What must hold between the parts of `min_compute.yml`, which types alone can't say."""

from collections.abc import Iterator
from typing import Final

import msgspec

from app.domain.compute.catalogue import AllowedModel, Catalogue

LEAST_CONTEXT: Final = 16384
"""Validators ask for 12288 new tokens, and vLLM answers 400 to prompt + max_tokens over its context."""


class Fault(msgspec.Struct, frozen=True):
    """One value that can't be, by its place in the file."""

    path: str
    value: object
    text: str


def faults(catalogue: Catalogue) -> tuple[Fault, ...]:
    """Name everything wrong; empty when all is well."""
    return (*_tiers(catalogue), *_models(catalogue), *_facts(catalogue))


def _tiers(catalogue: Catalogue) -> Iterator[Fault]:
    profiles, listed = catalogue.tiers, catalogue.compute_spec.miner.model_allowlist
    if not profiles:
        yield Fault("compute_spec.miner.gpu.profiles", {}, "names no tier")
    for name in sorted(listed.keys() - profiles.keys()):
        yield Fault(f"compute_spec.miner.model_allowlist.{name}", name, "is no tier of compute_spec.miner.gpu.profiles")
    for name in sorted(profiles.keys() - listed.keys()):
        yield Fault(f"compute_spec.miner.model_allowlist.{name}", None, "is missing: a tier needs its list of models")
    before = 0.0
    for name, tier in profiles.items():
        path = f"compute_spec.miner.gpu.profiles.{name}"
        if tier.min_vram < before:
            yield Fault(f"{path}.min_vram", tier.min_vram, f"is less than the tier before needs ({before:g})")
        before = tier.min_vram
        if tier.recommended_max_context < LEAST_CONTEXT:
            yield Fault(
                f"{path}.recommended_max_context",
                tier.recommended_max_context,
                f"is under {LEAST_CONTEXT}, with which no challenge of 12288 tokens can be answered",
            )


def _models(catalogue: Catalogue) -> Iterator[Fault]:
    first: dict[str, AllowedModel] = {}
    for tier, models in catalogue.compute_spec.miner.model_allowlist.items():
        for index, model in enumerate(models):
            path = f"compute_spec.miner.model_allowlist.{tier}[{index}]"
            facts = catalogue.model_facts.get(model.id)
            if facts is None:
                yield Fault(f"{path}.id", model.id, "has no entry in model_facts")
                continue
            if first.setdefault(model.id, model).base != model.base:
                yield Fault(f"{path}.base", model.base, f"is another one in an earlier tier ({first[model.id].base})")
            for quant, repositories in model.quants.items():
                for place, repository in enumerate(repositories):
                    if repository not in facts.weights:
                        where = f"{path}.quants.{quant}[{place}]"
                        yield Fault(where, repository, f"is not in model_facts.{model.id}.weights")


def _facts(catalogue: Catalogue) -> Iterator[Fault]:
    listed = {model.id for models in catalogue.compute_spec.miner.model_allowlist.values() for model in models}
    for name, facts in catalogue.model_facts.items():
        path = f"model_facts.{name}"
        if name not in listed:
            yield Fault(path, name, "is in no tier's allow-list: remove it, or correct the id")
        if facts.served_context > facts.native_context:
            yield Fault(
                f"{path}.served_context",
                facts.served_context,
                f"is more than native_context ({facts.native_context}), which vLLM refuses",
            )
        if facts.served_context < LEAST_CONTEXT:
            yield Fault(f"{path}.served_context", facts.served_context, f"is under {LEAST_CONTEXT}")
