"""Which models come first when the operator names none, and who may have them.

The Qwen2.5 family: answers are compared by embedding with the other miners', and the validator's own default is
Qwen2.5-32B-Instruct. The 32B leaves the most speed on large cards; the 72B is the choice for quality.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from app.domain.compute.catalogue import AllowedModel, Catalogue
from app.domain.compute.profile import Preference, Reason, Wishes

_SPEED: Final = ("qwen2.5-32b-instruct", "qwen2.5-14b-instruct", "qwen2.5-7b-instruct")
_FAMILY: Final[Mapping[Preference, tuple[str, ...]]] = MappingProxyType(
    {"speed": _SPEED, "quality": ("qwen2.5-72b-instruct-awq", *_SPEED)}
)


def preferred(catalogue: Catalogue, tier: str | None, prefer: Preference) -> Iterator[AllowedModel]:
    """The default family's members that a tier (None: any) allows, best first; else all that take no token."""
    order = list(catalogue.tiers)
    within = len(order) if tier is None else order.index(tier) + 1
    models = {name: each for name, each in catalogue.models().items() if catalogue.home_tier(name) in order[:within]}
    family = [models[name] for name in _FAMILY[prefer] if name in models]
    yield from family or [
        model
        for model in reversed(models.values())
        if not model.gated and catalogue.model_facts[model.id].not_recommended is None
    ]


def may_download(model: AllowedModel, repository: str, wishes: Wishes) -> bool:
    """Whether the weights are here, need no token, or there is one."""
    return not model.gated or wishes.token or repository in wishes.revisions


def unknown_model(catalogue: Catalogue, name: str) -> Reason:
    """Say that a model is in no tier's list."""
    return Reason(
        "unknown_model",
        f"{name} is in no allow-list of min_compute.yml, and the subnet rewards only what is",
        f"set DEFAULT_MODEL to one of {', '.join(catalogue.models())}, or leave it empty",
    )
