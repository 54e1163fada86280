#!/usr/bin/env python3
"""What rank, scale and learning rate do: the lesson's training in several settings, as a table.

python3 assets/runs.py

Everything else is as in main.py, the seed included. It takes about two minutes on 2 cores.
"""

import argparse
import contextlib
import io
import math
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx

import checks
import main

RECIPE = main.RECIPES["narrow"]
RATE = main.rate_for(RECIPE, 256, "lora")  # main.py's own for this model
RUNS = [  # rank, scale, learning rate
    (16, 2.0, RATE),
    (1, 2.0, RATE),
    (4, 2.0, RATE),
    (64, 2.0, RATE),
    (16, 0.5, RATE),
    (16, 20.0, RATE),
    (16, 2.0, RATE / 10),
    (16, 2.0, RATE * 10),
]


def run(rank: int, scale: float, rate: float) -> str:
    """One row of the table: the settings, and what came of them."""
    random.seed(0)
    mx.random.seed(0)
    base = str(ROOT / "assets" / "base-model")
    data = checks.load_data(str(ROOT / "data"), base)
    exam, _ = checks.set_exam(data)
    model, tokenizer, config = main.load_model(base)
    rows = {split: [main.encode(tokenizer, e) for e in data[split]] for split in data}
    main.LORA.update(rank=rank, scale=scale)
    args = argparse.Namespace(
        model=base, judge=False, batch_size=4, iters=None, learning_rate=rate, num_layers=-1, seed=0,
        fine_tune_type="lora", grad_checkpoint=False, resume_adapter_file=None,
    )  # fmt: skip
    most = checks.longest_answer(data, rows) + 10
    ask = partial(main.answer, model, tokenizer, most)
    look = partial(checks.look, partial(ask, cut=True), exam[0])
    everyday, known = checks.load_everyday("data"), checks.load_known("data", base)
    rows |= main.what_it_knows(model, tokenizer, everyday, known, form=[])[1]
    try:
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            args.adapter_path = Path(folder)  # nothing is kept of it
            history = main.fine_tune(model, rows, args, config, RECIPE, look)
    except SystemExit:
        return f"{rank:>4} {scale:>6} {rate:>8.1e}  the loss is no number"
    right = sum(map(checks.is_right, ask(exam), exam))
    kept = next(check["step"] for check in history if check.get("kept"))
    general = math.exp(main.held_out(model, rows["general"])[0])
    size = sum(w.size for _, w in main.tree_flatten(model.trainable_parameters()))
    figures = f"{size:>9,}  {kept:>9}  {right:>5} of {len(exam)}  {general:>7.1f}"
    return f"{rank:>4} {scale:>6} {rate:>8.1e}  {figures}"


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        rows = [run(*settings) for settings in RUNS]
    print("rank  scale     rate    numbers  kept step  right       general perplexity")
    print("\n".join(rows))
