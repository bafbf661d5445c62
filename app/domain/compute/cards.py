"""Which GPUs of a machine count together, and what tier they make: by memory and capability, never by name."""

from collections.abc import Iterable
from typing import Final

import msgspec

from app.domain.compute.catalogue import Catalogue, ModelFacts, Tier
from app.domain.compute.fit import MIB, gb
from app.domain.compute.hardware import Gpu, Hardware
from app.domain.compute.profile import Reason

_NEARLY_EQUAL: Final = 0.98
"""Of two cards of one kind, ECC or a display takes a little from one."""


class Group(msgspec.Struct, frozen=True):
    """Equal GPUs."""

    gpus: tuple[Gpu, ...]

    @property
    def memory(self) -> int:
        """Bytes of the least of them."""
        return min(gpu.memory for gpu in self.gpus)

    @property
    def usable(self) -> int:
        """How many can share a model: a power of two."""
        return power_of_two(len(self.gpus))

    @property
    def total(self) -> int:
        """Bytes of those that can share a model."""
        return self.usable * self.memory


def power_of_two(count: int) -> int:
    """Give the largest power of two that is not more than `count` (at least 1)."""
    return 1 << (count.bit_length() - 1)


def groups(hardware: Hardware) -> tuple[Group, ...]:
    """Put equal GPUs together; those cut up by MIG are left out."""
    found: list[list[Gpu]] = []
    whole = [gpu for gpu in hardware.nvidia.gpus if not gpu.mig]
    for gpu in sorted(whole, key=lambda each: (each.compute_capability, each.memory), reverse=True):
        last = found[-1][0] if found else None
        if (
            last is not None
            and last.compute_capability == gpu.compute_capability
            and gpu.memory >= last.memory * _NEARLY_EQUAL
        ):
            found[-1].append(gpu)
        else:
            found.append([gpu])
    return tuple(Group(tuple(sorted(group, key=lambda gpu: gpu.index))) for group in found)


def tier_of(catalogue: Catalogue, group: Group) -> str | None:
    """Name the highest tier whose memory and capability the group has."""
    met = [
        name
        for name, tier in catalogue.tiers.items()
        if group.total >= tier.min_bytes and group.gpus[0].compute_capability >= tier.capability
    ]
    return met[-1] if met else None


def best(catalogue: Catalogue, found: Iterable[Group]) -> tuple[str | None, Group] | None:
    """Pick the group that makes the highest tier, then the one with the most memory."""
    order = [None, *catalogue.tiers]
    ranked = [(tier_of(catalogue, group), group) for group in found]
    return max(ranked, key=lambda each: (order.index(each[0]), each[1].total), default=None)


def shards(group: Group, facts: ModelFacts) -> int:
    """How many of the GPUs can share a model: a power of two that divides its kv heads."""
    count = group.usable
    while count > 1 and (facts.kv_heads % count or count > (facts.max_tensor_parallel or count)):
        count //= 2
    return count


def why_no_tier(catalogue: Catalogue, hardware: Hardware, found: Iterable[Group]) -> tuple[Reason, ...]:
    """Say of every GPU why it makes no tier; empty hands, too. `found` are the groups that were to make one."""
    gpus = hardware.nvidia.gpus
    if not gpus:
        seen = next((problem.text for problem in hardware.problems if problem.probe == "nvidia"), "")
        text = f"no NVIDIA GPU was found ({seen})" if seen else "no NVIDIA GPU was found"
        return (Reason("no_gpu", text, _least_words(catalogue)),)
    reasons: list[Reason] = [_cut_up(gpu) for gpu in gpus if gpu.mig]
    reasons += [_short_of(catalogue, group) for group in found if tier_of(catalogue, group) is None]
    return tuple(reasons)


def needs(tier: Tier) -> str:
    """Write what a tier needs."""
    major, minor = tier.capability
    return f"{tier.min_vram:g} GB ({tier.min_bytes} bytes) and compute capability {major}.{minor}"


def owned(group: Group) -> str:
    """Write what a group has."""
    major, minor = group.gpus[0].compute_capability
    times = f"{group.usable} x " if group.usable > 1 else ""
    memory = f"{times}{group.memory // MIB} MiB = {gb(group.total)} ({group.total} bytes)"
    return f"{memory} and compute capability {major}.{minor}"


def _cut_up(gpu: Gpu) -> Reason:
    return Reason(
        "mig",
        f"GPU {gpu.index} ({gpu.name}) is cut into MIG instances, and an engine needs it whole",
        f"nvidia-smi -i {gpu.index} -mig 0, then reboot",
    )


def _short_of(catalogue: Catalogue, group: Group) -> Reason:
    """The memory is too small for every tier, or it is the capability."""
    fitting = [(name, tier) for name, tier in catalogue.tiers.items() if group.total >= tier.min_bytes]
    name = group.gpus[0].name
    if not fitting:
        low, tier = next(iter(catalogue.tiers.items()))
        return Reason(
            "memory",
            f"{name} has {owned(group)}, and the smallest tier, {low}, needs {needs(tier)}",
            _least_words(catalogue),
        )
    least = min((tier.capability, tier_name) for tier_name, tier in fitting)[1]
    return Reason(
        "capability",
        f"{name} has {owned(group)}: enough memory for the tier {least}, which needs {needs(catalogue.tiers[least])}",
        _least_words(catalogue),
    )


def _least_words(catalogue: Catalogue) -> str:
    cards = ", ".join(tier.recommended_gpu for tier in catalogue.tiers.values())
    return f"earning takes one of the subnet's tiers: {cards} or better; llama.cpp runs on this machine meanwhile"
