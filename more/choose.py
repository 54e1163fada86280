#!/usr/bin/env python3
"""What some models of the Hub take to download and to fine-tune, computed from their shapes.

python3 more/choose.py

Nothing is downloaded: MLX makes arrays only when they are needed, so even a large model can be
built from its shape and measured, and costs nothing. For memory see memory_needed() in
lesson/models.py: as on Apple's GPU, in bfloat16 or 4 bits, with main.py's defaults (LoRA of rank
16 on at most 16 layers, 4 examples in a step), and with --batch-size 1 --grad-checkpoint.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

import main
from lesson.models import memory_needed

GB = 1e9  # bytes
SHARE_FOR_GPU = 2 / 3  # of a Mac's memory: about what macOS lets its GPU use


class Candidate(NamedTuple):
    """A model of the Hub: its shape as its config.json has it, and under which terms it comes."""

    name: str
    use: str  # base or chat
    license: str
    bits: int
    kind: str  # the architecture, as mlx-lm names it
    shape: dict


def shape(
    width: int, inner: int, layers: int, heads: int, key_heads: int, words: int, **others: object
) -> dict:
    """The keys of a config.json that say how large a model is."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": words,
        "head_dim": width // heads,
        "tie_word_embeddings": True,
        **others,
    }


QWEN = {"head_dim": 128}
QWEN_UNTIED = {"head_dim": 128, "tie_word_embeddings": False}
QWEN3_5 = {  # three of four layers have, in place of attention, a gated delta net
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
GEMMA3 = {"head_dim": 256}
UNTIED = {"tie_word_embeddings": False}
MODELS = [
    Candidate(
        "HuggingFaceTB/SmolLM2-135M-Instruct", "chat", "Apache 2.0", 16, "llama",
        shape(576, 1536, 30, 9, 3, 49152),
    ),
    Candidate(
        "HuggingFaceTB/SmolLM2-360M-Instruct", "chat", "Apache 2.0", 16, "llama",
        shape(960, 2560, 32, 15, 5, 49152),
    ),
    Candidate(
        "Qwen/Qwen3-0.6B-Base", "base", "Apache 2.0", 16, "qwen3",
        shape(1024, 3072, 28, 16, 8, 151936, **QWEN),
    ),
    Candidate(
        "Qwen/Qwen3.5-0.8B", "chat", "Apache 2.0", 16, "qwen3_5",
        shape(1024, 3584, 24, 8, 2, 248320, **QWEN3_5),
    ),
    Candidate(
        "google/gemma-3-1b-it", "chat", "Gemma", 16, "gemma3_text",
        shape(1152, 6912, 26, 4, 1, 262144, **GEMMA3),
    ),
    Candidate(
        "meta-llama/Llama-3.2-1B", "base", "Llama 3.2", 16, "llama",
        shape(2048, 8192, 16, 32, 8, 128256),
    ),
    Candidate(
        "mlx-community/Qwen3-4B-4bit", "chat", "Apache 2.0", 4, "qwen3",
        shape(2560, 9728, 36, 32, 8, 151936, **QWEN),
    ),
    Candidate(
        "mlx-community/Mistral-7B-Instruct-v0.3-4bit", "chat", "Apache 2.0", 4, "llama",
        shape(4096, 14336, 32, 32, 8, 32768, **UNTIED),
    ),
    Candidate(
        "mlx-community/Qwen3-14B-4bit", "chat", "Apache 2.0", 4, "qwen3",
        shape(5120, 17408, 40, 40, 8, 151936, **QWEN_UNTIED),
    ),
    Candidate(
        "mlx-community/Qwen3-32B-4bit", "chat", "Apache 2.0", 4, "qwen3",
        shape(5120, 25600, 64, 64, 8, 151936, **QWEN_UNTIED),
    ),
]  # fmt: skip


def build(kind: str, bits: int, sizes: dict) -> tuple[nn.Module, dict]:
    """(the model, with weights that are never computed; its config)."""
    config = {"model_type": kind, "rms_norm_eps": 1e-6, "rope_theta": 1e6, **sizes}
    config |= {"max_position_embeddings": 32768}
    module = import_module(f"mlx_lm.models.{kind}")
    model = module.Model(module.ModelArgs.from_dict(config))
    if kind == "gemma3_text":  # whose checkpoints have no output matrix of its own
        model.tie_word_embeddings = True
        model.pop("lm_head", None)
    model.set_dtype(mx.bfloat16)
    if bits < 16:
        nn.quantize(model, group_size=64, bits=bits)
    return model, config


def measured(candidate: Candidate) -> tuple[int, float, list[float]]:
    """(parameters, bytes to download, bytes that training takes in the three cases)."""
    model, config = build(candidate.kind, candidate.bits, candidate.shape)
    download = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    parameters = get_total_parameters(model)
    model.freeze()
    linear_to_lora_layers(model, min(16, len(model.layers)), main.LORA)
    cases = ((4, 25, False), (4, 500, False), (1, 500, True))
    return parameters, download, [sum(memory_needed(model, config, *case)) for case in cases]


if __name__ == "__main__":
    figures = {candidate.name: measured(candidate) for candidate in MODELS}
    print(f"{'memory to train, GB':>100}")
    print(
        f"{'name on the Hub':43}  {'kind':4}  {'license':10} {'million':>7} {'download':>9}"
        f" {'25 tokens':>9} {'500':>6} {'least':>6}"
    )
    for name, use, terms, *_ in MODELS:
        parameters, download, takes = figures[name]
        short, long, least = (needed / GB for needed in takes)
        print(
            f"{name:43}  {use}  {terms:10} {parameters / 1e6:>7,.0f} {download / GB:>6.1f} GB"
            f" {short:>9.1f} {long:>6.1f} {least:>6.1f}"
        )
    print("\nThe largest of these that fit into a Mac's memory, with examples of 500 tokens:")
    print(f"{'':8} {'with the defaults':45} --batch-size 1 --grad-checkpoint")
    for memory in (8, 16, 32, 64):
        fitting = [
            max(names, key=lambda name: figures[name][0], default="none")
            for names in (
                [n for n, (*_, takes) in figures.items() if takes[i] < memory * SHARE_FOR_GPU * GB]
                for i in (1, 2)
            )
        ]
        print(f"{memory:>5} GB {fitting[0]:45} {fitting[1]}")
