"""What can be set: by the operator, and by tests and benchmarks."""

from pathlib import Path

import msgspec


class LlamaLocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's part."""

    parallel: int
    """Requests written at the same time."""
    model_path: Path | None = None
    """A GGUF file; None for the one that an installed package ships."""
    context_tokens: int = 0
    """Prompt and answer of one request; 0 for the model's own context, as far as memory allows."""
    threads: int = 0
    """0 for as many as there are physical cores."""
    gpu_layers: int = -1
    """Layers in GPU memory where the build can; -1 for all."""
    rewrite_folder: Path | None = None
    """Keeps the embedded model's weights in this processor's fastest form; None to use them as shipped."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works inside. Production keeps the defaults; the other values make it comparable to others."""

    batch_tokens: int = 512
    """The most tokens of one step."""
    step_seconds: float = 0.15
    """How long a step that reads prompts should take: a newcomer, or a cancel, waits for one step."""
    prefix_reuse: bool = True
    mixed_chunks: bool = True
    """Read prompts in the same steps in which others write; off: a prompt is read alone, as a single `Llama` does."""
    shared_cells: bool = True
    """One pool of memory for all requests, instead of an equal part for each: see `engine.sizes`."""
    cells: int = 0
    """Tokens in that pool; 0 for what memory allows."""
    flash_attention: bool = True
    idle_cells: int = 4096
    """Tokens of finished requests that are kept for their beginnings: they cost a little time in every step."""
