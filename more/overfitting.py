#!/usr/bin/env python3
"""Trains for too long on too little, and draws what becomes of it: assets/overfitting.png.

python3 more/overfitting.py

It practises eight of the orders in data/orders, with nothing to rehearse and no early stop, and
looks every few steps at those in valid.jsonl. It takes half a minute on 2 cores.
"""

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx
from matplotlib.figure import Figure

import main
from lesson import machine, models, recipes
from lesson.dataset import load_data

STEPS, EVERY, BATCH = 120, 4, 4
BASE = str(ROOT / "assets" / "base-model")
BLUE, ORANGE, GREEN = "#1f77b4", "#d95f02", "#1b7837"


def train_too_long() -> list[tuple[int, float, float, int]]:
    """(step, loss on what it practises, loss on valid, right answers of valid) at each look."""
    mx.random.seed(0)
    data = load_data(str(ROOT / "data" / "orders"), BASE)
    model, tokenizer, _ = models.load(BASE)
    practised = [main.encode(tokenizer, e) for e in data["train"][:8]]
    valid = [main.encode(tokenizer, e) for e in data["valid"]]
    main.add_adapters(model, len(model.layers), "lora", main.LORA)
    rate = recipes.rate_for(recipes.RECIPES["narrow"], 256, "lora")
    take_step, _ = main.make_step(model, STEPS, rate)
    examples = main.endless_batches(practised, BATCH, random.Random(0))
    looks = []
    for step in range(STEPS + 1):
        if step:
            take_step(next(examples), None)
        if step % EVERY == 0:
            (known, *_), (loss, _, right) = (
                main.held_out_loss(model, rows) for rows in (practised, valid)
            )
            looks.append((step, known, loss, right))
            print(f"step {step:>4}  practised {known:.3f}  valid {loss:.3f}  right {right:>2}")
    return looks


def draw(looks: list[tuple[int, float, float, int]], path: Path) -> None:
    """Both losses against the steps, and below them the right answers."""
    steps, practised, valid, right = zip(*looks)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.semilogy(steps, practised, color=BLUE, label="loss on what it practises")
    above.semilogy(steps, valid, color=ORANGE, label="loss on valid, which it does not practise")
    best = steps[valid.index(min(valid))]
    for axes in (above, below):
        axes.axvline(best, color="gray", linestyle=":")
        axes.grid(alpha=0.3)
    above.annotate(f" valid is least at step {best}", (best, max(valid)), va="top", color="gray")
    above.set_ylabel("loss (nats, logarithmic)")
    above.legend(loc="center right")
    below.plot(steps, right, color=GREEN, drawstyle="steps-post")
    below.set(xlabel="step", ylabel="right of valid's 12", ylim=(0, 12.5), yticks=(0, 4, 8, 12))
    figure.savefig(path)


if __name__ == "__main__":
    with machine.exit_status():
        draw(train_too_long(), ROOT / "assets" / "overfitting.png")
