"""Turn a GGUF file into the directory that vLLM reads: bfloat16 weights, configuration, tokenizer, chat template.

    to_hugging_face.py MODEL.gguf DIRECTORY

Runs in vLLM's own environment (python 3.11), which brings what it needs.
"""

# pyright: basic, reportMissingImports=false

import sys
from pathlib import Path
from typing import Final

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

_CHAT_TEMPLATE: Final = "tokenizer.chat_template"


def convert(source: Path, target: Path) -> None:
    """Write `target`, a new directory."""
    unpacked = GgufConfig(gguf_file=source.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, quantization_config=unpacked
    )
    # The weights are plain from here on; left in, vLLM would look for a GGUF file.
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.chat_template = _chat_template(source)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _chat_template(source: Path) -> str:
    field = GGUFReader(source).fields[_CHAT_TEMPLATE]
    return bytes(field.parts[field.data[0]]).decode()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
