#!/usr/bin/env python3
"""What some models of the Hub take to download and to fine-tune, computed from their shapes.

python3 more/choose.py

Nothing is downloaded: MLX makes arrays only when they are needed, so even a large model can be
built from its shape and measured, and costs nothing. For memory see memory_needed() in
lesson/models.py: as on Apple's GPU, in bfloat16 or 4 bits, with main.py's defaults (LoRA of rank
16 on at most 16 layers, 4 examples in a step).
"""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

import main
from lesson.models import memory_needed

# name, base or chat, bits, architecture; width, inner width, layers, heads, their keys', vocabulary
MODELS = [
    ("HuggingFaceTB/SmolLM2-135M-Instruct", "chat", 16, "llama", 576, 1536, 30, 9, 3, 49152),
    ("HuggingFaceTB/SmolLM2-360M-Instruct", "chat", 16, "llama", 960, 2560, 32, 15, 5, 49152),
    ("Qwen/Qwen3-0.6B-Base", "base", 16, "qwen3", 1024, 3072, 28, 16, 8, 151936),
    ("google/gemma-3-1b-it", "chat", 16, "gemma3_text", 1152, 6912, 26, 4, 1, 262144),
    ("meta-llama/Llama-3.2-1B", "base", 16, "llama", 2048, 8192, 16, 32, 8, 128256),
    ("mlx-community/Qwen3-4B-4bit", "chat", 4, "qwen3", 2560, 9728, 36, 32, 8, 151936),
    (
        "mlx-community/Mistral-7B-Instruct-v0.3-4bit",
        "chat",
        4,
        "llama",
        4096,
        14336,
        32,
        32,
        8,
        32768,
    ),
]
UNTIED = {"mlx-community/Mistral-7B-Instruct-v0.3-4bit"}  # the rest use their embeddings twice
HEAD = {"qwen3": 128, "gemma3_text": 256}  # elsewhere it is width / heads


def build(name: str, bits: int, kind: str, *sizes: int) -> tuple[nn.Module, dict]:
    """(the model, with weights that are never computed; its config)."""
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = dict(zip((*keys, "num_key_value_heads", "vocab_size"), sizes))
    config |= {"model_type": kind, "rms_norm_eps": 1e-6, "tie_word_embeddings": name not in UNTIED}
    config |= {"head_dim": HEAD.get(kind, config["hidden_size"] // config["num_attention_heads"])}
    config |= {"max_position_embeddings": 32768, "rope_theta": 1e6}
    module = import_module(f"mlx_lm.models.{kind}")
    model = module.Model(module.ModelArgs.from_dict(config))
    if kind == "gemma3_text":  # whose checkpoints have no output matrix of its own
        model.tie_word_embeddings = True
        model.pop("lm_head", None)
    model.set_dtype(mx.bfloat16)
    if bits < 16:
        nn.quantize(model, group_size=64, bits=bits)
    return model, config


def row(name: str, use: str, bits: int, kind: str, *sizes: int) -> str:
    """A line of the table; sizes in GB of 1,000,000,000 bytes."""
    model, config = build(name, bits, kind, *sizes)
    numbers = get_total_parameters(model)
    download = sum(array.nbytes for _, array in tree_flatten(model.parameters())) / 1e9
    model.freeze()
    linear_to_lora_layers(model, min(16, len(model.layers)), main.LORA)
    takes = [sum(memory_needed(model, config, 4, n, False)) / 1e9 for n in (25, 500)]
    sizes = (
        f"{numbers / 1e6:>8,.0f} M  {download:>7.1f} GB  {takes[0]:>7.1f} GB  {takes[1]:>8.1f} GB"
    )
    return f"{name:<43}  {use}  {sizes}"


if __name__ == "__main__":
    print(f"{'name on the Hub':<43}  kind  parameters    download   25 tokens   500 tokens")
    print("\n".join(row(*model) for model in MODELS))
