#!/usr/bin/env python3
"""What rank, scale and learning rate do: the lesson's training in several settings, as a table.

python3 more/runs.py

Everything else is as in main.py, the seed included. It takes about two minutes on 2 cores.
"""

import contextlib
import io
import math
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx

import main
from lesson import models, options, recipes
from lesson.dataset import load_data, load_everyday, load_known
from lesson.rehearsal import Rehearsal

RATE = recipes.rate_for(recipes.RECIPES["narrow"], 256, "lora")  # main.py's own for this model
ALPHA = 32.0  # scale x rank, kept the same where the rank changes
RUNS = [  # rank, scale, learning rate
    (16, ALPHA / 16, RATE),
    (1, ALPHA / 1, RATE),
    (4, ALPHA / 4, RATE),
    (64, ALPHA / 64, RATE),
    (16, 0.5, RATE),
    (16, 20.0, RATE),
    (16, 2.0, RATE / 10),
    (16, 2.0, RATE * 10),
]


def run(rank: int, scale: float, learning_rate: float) -> str:
    """One row of the table: the settings, and what came of them."""
    mx.random.seed(0)
    base = str(ROOT / "assets" / "base-model")
    data = load_data(str(ROOT / "data"), base)
    exam, _ = main.choose_exam(data)
    model, tokenizer, config = models.load(base)
    rows = {split: [main.encode(tokenizer, e) for e in data[split]] for split in data}
    ask = partial(main.answer, model, tokenizer, main.longest_answer(data, rows) + 10)
    old_work = Rehearsal(load_everyday("data"), load_known("data", base), main.encode_prompt)
    rows |= old_work.note(model, tokenizer)
    nowhere = ["--adapter-path", tempfile.gettempdir()]
    given = options.parse(["--learning-rate", str(learning_rate), *nowhere])
    settings = recipes.training_settings(given, model, False, len(rows["train"]))
    lora = {"rank": rank, "scale": scale, "dropout": 0.0}
    chosen = f"{rank:>4} {scale:>6} {rank * scale:>6.0f} {learning_rate:>8.1e}"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            history = main.fine_tune(model, config, rows, lambda: "", lora=lora, **settings)
    except SystemExit:
        return f"{chosen}  the loss is no number"
    right = sum(map(main.is_right, ask(exam), exam))
    kept = next(check["step"] for check in history if check.get("kept"))
    general = math.exp(main.held_out_loss(model, rows["general"])[0])
    size = sum(w.size for _, w in main.tree_flatten(model.trainable_parameters()))
    figures = f"{size:>9,}  {kept:>9}  {right:>5} of {len(exam)}  {general:>7.1f}"
    return f"{chosen}  {figures}"


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        rows = [run(*settings) for settings in RUNS]
    print("rank  scale  alpha     rate    numbers  kept step  right       general perplexity")
    print("\n".join(rows))
