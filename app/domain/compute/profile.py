"""What a choice gives: one engine profile, or the reasons why there is none. Ansible, Nix and the doctor use it too."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from app.domain.compute.catalogue import Capability
from app.domain.compute.fit import Fit

EMBEDDED_MODEL: Final = "SmolLM2-135M-Instruct"
EMBEDDED_CONTEXT: Final = 8192
"""Of that model's own config: too little for what validators ask."""

type Engine = Literal["vllm", "ollama", "llamacpp"]
type Preference = Literal["speed", "quality"]
type ReasonCode = Literal[
    "no_gpu", "mig", "memory", "capability", "tier", "unknown_model", "weights_missing", "context_too_small",
    "context_too_long", "tensor_parallel", "gated", "concurrency",
]  # fmt: skip
type NoteCode = Literal[
    "retired_upstream", "fp8_weight_only", "not_recommended", "unused_gpus", "no_tier", "embedded", "own_file",
    "no_tool_parser", "slow", "licence", "tool_parser", "context_lowered", "chat_template",
]  # fmt: skip


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for; None leaves it to the choice."""

    engine: Engine | None = None
    model: str | None = None
    """Any of the names that `Catalogue.find` knows."""
    prefer: Preference = "speed"
    min_context: int = 16384
    """Raises the least context; nothing lowers it."""
    context: int | None = None
    tensor_parallel: int | None = None
    utilisation: float = 0.9
    concurrent: int = 10
    """Challenges answered at the same time."""
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    auto_tool_choice: bool = True
    tool_call_parser: str | None = None
    prefix_caching: bool = True
    token: bool = False
    """Whether gated repositories can be downloaded."""
    revisions: Mapping[str, str] = {}
    """Commits of weights already pulled, by repository: those need no token any more."""
    model_path: str | None = None
    """The operator's own GGUF file."""


class Note(msgspec.Struct, frozen=True):
    """Something the operator should know of a profile that works."""

    code: NoteCode
    text: str


class Reason(msgspec.Struct, frozen=True):
    """Why something can't work, with the numbers, and what to do."""

    code: ReasonCode
    text: str
    remedy: str


class Reasons(msgspec.Struct, frozen=True):
    """No profile is possible."""

    reasons: tuple[Reason, ...]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What must be downloaded before the engine starts."""

    quant: str
    bytes: int
    repository: str | None = None
    """On the Hugging Face hub; None for Ollama's own library."""
    revision: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")] | None = None
    files: tuple[str, ...] = ()
    """Patterns; empty: all."""
    ollama_tag: str | None = None


class Cards(msgspec.Struct, frozen=True, kw_only=True):
    """Which GPUs serve the model, all equal."""

    indices: tuple[int, ...]
    name: str
    memory: int
    capability: Capability
    of: int
    """How many GPUs the machine has."""


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine must be told, and what it will take."""

    engine: Engine
    purpose: Literal["earning", "development"]
    """`development`: runs, but with a model that no validator will like."""
    model: str
    """The id in `min_compute.yml`, or a name where the model is not from there."""
    served_name: str
    """What DEFAULT_MODEL must be for the miner."""
    context: int
    """Tokens of prompt and answer; 0: the model's own (an operator's file)."""
    parallel: int
    """Sequences at once."""
    tier: str | None = None
    licence: str = ""
    gated: bool = False
    weights: Weights | None = None
    cards: Cards | None = None
    utilisation: float = 0.9
    tool_call_parser: str | None = None
    chat_template: str | None = None
    prefix_caching: bool = True
    max_num_batched_tokens: int | None = None
    model_path: str | None = None
    fit: Fit | None = None
    decode_ceiling: float | None = None
    """Tokens a second of one answer that the memory's bandwidth allows at most; computed."""
    notes: tuple[Note, ...] = ()

    @property
    def tensor_parallel(self) -> int:
        """GPUs that share the model."""
        return len(self.cards.indices) if self.cards else 1
