#!/usr/bin/env python3
"""One training example, taken through ten steps by hand, with main.py's own functions.

python3 more/by_hand.py
"""

import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx
import mlx.optimizers as optim
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

import main
from lesson import models, screen
from lesson.dataset import load_examples

mx.random.seed(0)
folder = os.path.relpath(ROOT / "assets" / "base-model")
model, tokenizer, config = models.load(folder)
screen.describe_model(folder, model, tokenizer, config)
example = next(e for e in load_examples(ROOT / "data" / "train.jsonl") if "Whit" in e.completion)
print(f"\n{example.prompt} -> {example.completion}\n")

tokens, prompt_length = main.encode(tokenizer, example)
logits = model(mx.array([tokens[:-1]]))[0]
print(f"{len(tokens)} tokens; the logits for the next one: {' x '.join(map(str, logits.shape))}\n")
print("   id  token        counts  probability    loss  likeliest instead")
losses = main.cross_entropy(logits, mx.array(tokens[1:]))
for position, token in enumerate(tokens):
    text = repr(tokenizer.decode([token])) if token != tokenizer.eos_token_id else "end of text"
    if position == 0:  # nothing stands before it, so nothing foretells it
        print(f"{token:>5}  {text:<12}")
        continue
    loss, best = losses[position - 1].item(), logits[position - 1].argmax().item()
    instead = "" if best == token else repr(tokenizer.decode([best]))
    counts = "yes" if position >= prompt_length else "no"
    probability = mx.exp(-losses[position - 1]).item()
    print(f"{token:>5}  {text:<12} {counts:<6} {probability:>11.4%} {loss:>8.3f}  {instead}")

model.freeze()
linear_to_lora_layers(model, -1, main.LORA)
batch = next(main.batches([(tokens, prompt_length)], 1, random.Random(0)))
(loss, counted), gradients = nn.value_and_grad(model, main.loss_fn)(model, batch)
means = {name: gradient / counted for name, gradient in tree_flatten(gradients)}
name = "model.layers.0.self_attn.q_proj.lora_b"
mean = (loss / counted).item()
print(f"\nloss: the mean over the {counted.item():.0f} tokens that count: {mean:.3f} nats")
print(f"gradients: {sum(g.size for g in means.values()):,} numbers, for example of {name}:")
print(
    f"  {means[name].shape}, from {means[name].min().item():.4f} to {means[name].max().item():.4f}"
)

optimizer = optim.Adam(1e-3, bias_correction=True)
for step in range(1, 11):
    (loss, _), gradients = nn.value_and_grad(model, main.loss_fn)(model, batch)
    optimizer.update(model, optim.clip_grad_norm(gradients, counted)[0])
    after = (main.loss_fn(model, batch)[0] / counted).item()
    if step in (1, 2, 5, 10):
        print(f"  loss after {step:>2} steps: {after:.3f}")


def lora_numbers(layers: int, rank: int, shapes: list[tuple[int, int]]) -> int:
    """How many numbers LoRA adds: for each matrix (in, out) an (in, rank) and a (rank, out)."""
    return layers * sum(rank * (wide + high) for wide, high in shapes)


print("\nadapters of rank 16 on all seven matrices of every layer:")
for name, layers, width, keys, inner, size in (
    ("this model", 4, 256, 256, 640, 3_279_104),
    ("Llama 3.1 8B", 32, 4096, 1024, 14336, 8_030_261_248),
):
    attention = [(width, width), (width, keys), (width, keys), (width, width)]
    numbers = lora_numbers(layers, 16, [*attention, (width, inner), (width, inner), (inner, width)])
    print(f"  {name:<13} {numbers:>11,} of {size:>13,}, or {numbers / size:.1%}")
