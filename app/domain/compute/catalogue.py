"""The types of `min_compute.yml`: the subnet's requirements and allow-list, and the facts that we add per model.

Sizes written as GB are 10^9 bytes. What types can't say is in `app.domain.compute.catalogue_rules`.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

GB: Final = 10**9

type Quant = Literal["awq_int4", "gptq_int4", "fp8_vllm", "gguf"]
type Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]
type Gigabytes = Annotated[float, Meta(gt=0, le=100_000)]
type Count = Annotated[int, Meta(ge=1, le=100_000)]
type Capability = tuple[int, int]
"""CUDA's compute capability, major and minor: 8.6 is (8, 6)."""


class Cpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Processors of the host; cores are physical ones."""

    architecture: str
    min_cores: Count
    recommended_cores: Count


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU profile of the subnet."""

    min_vram: Annotated[float, Meta(gt=0, le=10_000)]
    """GB, 10^9 bytes: a card "of 16 GB" shows 16303 MiB, which is more than 16 GB and less than 16 GiB."""
    min_compute_capability: Annotated[float, Meta(ge=1, le=99)]
    recommended_gpu: str
    recommended_max_context: Tokens
    retired_upstream: bool = False
    """Ours: the subnet calls the tier retired; it is kept working, and told."""

    @property
    def min_bytes(self) -> int:
        """Memory in bytes."""
        return int(self.min_vram * GB)

    @property
    def capability(self) -> Capability:
        """The least compute capability."""
        major, _, minor = f"{self.min_compute_capability:.1f}".partition(".")
        return int(major), int(minor)


class GpuNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tiers by name, smallest first."""

    required: bool
    profiles: dict[str, Tier]


class MemoryNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RAM and swap in GB."""

    min_ram: Count
    min_swap: Count
    recommended_swap: Count
    ram_type: str


class StorageNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Disk in GB, and its operations a second."""

    min_space: Count
    recommended_space: Count
    type: str
    min_iops: Count
    recommended_iops: Count


class OsNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operating system; `version` is a text, so it is quoted in YAML."""

    name: str
    version: str


class Bandwidth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mbit/s."""

    download: Count
    upload: Count


class NetworkNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The host's line."""

    bandwidth: Bandwidth


class AllowedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model that the subnet allows in a tier, with the repositories of its quantised weights."""

    id: str
    base: str
    """The repository it comes from, which is also the name it is served under."""
    license: str
    tool_calling: bool
    quants: dict[Quant, Annotated[list[str], Meta(min_length=1)]]
    gated: bool = False
    """Its licence must be accepted on the hub, so downloading takes a token."""
    max_context_advertised: Tokens | None = None


class MinerNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`compute_spec.miner`."""

    cpu: Cpu
    gpu: GpuNeeds
    memory: MemoryNeeds
    storage: StorageNeeds
    os: OsNeeds
    network_spec: NetworkNeeds
    model_allowlist: dict[str, list[AllowedModel]]


class ComputeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`compute_spec`."""

    miner: MinerNeeds


class OllamaFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same model in Ollama's library."""

    tag: str
    gb: Gigabytes


class WeightFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One repository of weights."""

    gb: Gigabytes
    revision: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")] | None = None
    """The commit, 40 hex digits; null until somebody pins it."""
    files: list[str] = []
    """Patterns of the files wanted, where a repository holds many quantisations; empty: all."""


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is needed to say whether a model fits, and how an engine must be told to serve it."""

    layers: Count
    kv_heads: Count
    head_dim: Count
    native_context: Tokens
    """Of the model's own config; vLLM refuses more."""
    served_context: Tokens
    """The most we serve."""
    tool_call_parser: str | None
    """vLLM's name; null: tools go by the prompt."""
    ollama: OllamaFacts
    weights: dict[str, WeightFacts]
    chat_template: str | None = None
    """A file among vLLM's examples, where its own template writes no tool calls the parser reads."""
    max_tensor_parallel: Count | None = None
    """Where quantised layers can't be cut into more parts than that."""
    not_recommended: str | None = None
    """Why, if so."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one token's keys and values over all layers, two bytes a number."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `min_compute.yml`."""

    version: str
    compute_spec: ComputeSpec
    model_facts: dict[str, ModelFacts]

    @property
    def tiers(self) -> dict[str, Tier]:
        """The GPU profiles by name, smallest first."""
        return self.compute_spec.miner.gpu.profiles

    def allowed(self, tier: str) -> list[AllowedModel]:
        """List the models of one tier."""
        return self.compute_spec.miner.model_allowlist[tier]

    def models(self) -> dict[str, AllowedModel]:
        """Every model by its id, smallest tier first; where two tiers list one, the first's entry."""
        found: dict[str, AllowedModel] = {}
        for tier in self.tiers:
            for model in self.allowed(tier):
                found.setdefault(model.id, model)
        return found

    def home_tier(self, model_id: str) -> str:
        """Name the smallest tier that allows the model."""
        return next(tier for tier in self.tiers if any(model.id == model_id for model in self.allowed(tier)))

    def find(self, name: str) -> AllowedModel | None:
        """Find a model by what operators call it: id, base, a repository of its weights, or its Ollama tag."""
        wanted = name.lower()
        for model in self.models().values():
            facts = self.model_facts[model.id]
            names = {model.id, model.base, facts.ollama.tag, *facts.weights}
            if wanted in {each.lower() for each in names}:
                return model
        return None
