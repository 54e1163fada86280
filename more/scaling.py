#!/usr/bin/env python3
"""From which speed of the link two machines train faster than one, by the models' shapes.

python3 more/scaling.py

With two machines, each has half of every batch, and each sends the other the gradients of all
adapters (in float32), after which both make the same step. To read a token takes about 2 x
parameters floating-point operations (a product and a sum for each), to train on one twice that.
"""

import choose  # its folder is this one's; main.py's folder is added by it
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

import main

RATE = 5e12  # floating-point operations a second, of a Mac's GPU at work
MODELS = {
    "the embedded one": choose.shape(256, 640, 4, 4, 4, 1024),
    "Llama 3.2 1B": choose.shape(2048, 8192, 16, 32, 8, 128256),
    "Llama 3.1 8B": choose.shape(4096, 14336, 32, 32, 8, 128256, tie_word_embeddings=False),
}
# Training a token of LoRA takes this many times what reading it takes: once more, going backwards.
# (The frozen weights need no gradients of their own, which would be a third time.)
TRAINED_OVER_READ = 2


def row(name: str, sizes: dict) -> str:
    """A line of the table: what a step sends, what it takes at two sizes, the speed that pays."""
    model, _ = choose.build("llama", 16, sizes)
    parameters = get_total_parameters(model)
    model.freeze()
    linear_to_lora_layers(model, -1, main.LORA)
    numbers = sum(array.size for _, array in tree_flatten(model.trainable_parameters()))
    sent = 4 * numbers  # bytes that each machine sends, and as many that it gets
    cells = []
    for tokens in (8 * 25, 8 * 500):
        seconds = TRAINED_OVER_READ * 2 * parameters * tokens / RATE
        # Half of them are saved; sending has to take less than that.
        cells += [f"{seconds:>9.3f} s", f"{8 * sent / (seconds / 2) / 1e9:>8.2f} Gb/s"]
    return f"{name:<17} {sent / 1e6:>7.1f} MB {''.join(cells)}"


if __name__ == "__main__":
    print(f"{'':17} {'each step':>10}   8 x 25 tokens            8 x 500 tokens")
    print(f"{'model':<17} {'sends':>10}   one takes   pays from   one takes   pays from")
    print("\n".join(row(name, shape) for name, shape in MODELS.items()))
