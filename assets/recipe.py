#!/usr/bin/env python3
"""How the defaults do: models x subjects x seeds, each a training and its evaluation, as a table.

python3 assets/recipe.py --model assets/base-model
python3 assets/recipe.py --model FOLDER --subjects sharon orders --seeds 0 1 2 --out assets/recipe.tsv

Adds lines to the table, which lies beside this script. With --no-rehearsal, --num-layers, --learning-rate
or --iters it measures something else than the defaults. A training takes seconds on the embedded model, and
minutes on a real LLM.
"""

import argparse
import contextlib
import io
import json
import math
import sys
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx

import checks
import main

COLUMNS = "model subject seed rehearsal rate steps kept right wordy of knew still leaks general seconds lost"


def folder_of(subject: str, made_in: Path) -> Path:
    """The data of a subject: Sharon's, the orders', or one of tests/subjects.json, written out."""
    if subject == "sharon":
        return ROOT / "data"
    if subject == "orders":
        return ROOT / "tests" / "orders"
    facts = json.loads((ROOT / "tests" / "subjects.json").read_text())
    (facts,) = [given for name, given in facts.items() if subject in name]
    folder = made_in / subject
    folder.mkdir()
    pairs = {
        "train": [(question, fact["answer"]) for fact in facts for question in fact["train"]],
        "test": [(fact["test"], fact["answer"]) for fact in facts],
    }
    for split, examples in pairs.items():
        lines = [json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in examples]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def measure(model_name: str, subject: str, seed: int, options: Namespace, made_in: Path) -> dict:
    """One line of the table: a training with that seed, and what came of it."""
    mx.random.seed(seed)
    folder = str(folder_of(subject, made_in))
    data = checks.load_data(folder, model_name)
    model, tokenizer, config = main.load_model(model_name)
    exam, _ = checks.set_exam(data)
    rows = {
        split: [main.encode(tokenizer, e) for e in examples] for split, examples in data.items()
    }
    chat = tokenizer.has_chat_template
    known = checks.load_known(folder, model_name)
    form, known = checks.form_of(known, chat)
    everyday = checks.load_everyday(folder) if options.rehearsal else []
    knew, rows_to_keep = main.what_it_knows(model, tokenizer, everyday, known, form)
    rows |= rows_to_keep
    general = main.held_out(model, rows["general"])[0]
    args = Namespace(
        model=model_name, judge=False, batch_size=options.batch_size, iters=options.iters, num_layers=options.num_layers, seed=seed,
        learning_rate=options.learning_rate, fine_tune_type="lora", grad_checkpoint=False,
        resume_adapter_file=None, adapter_path=made_in / "adapters",
    )  # fmt: skip
    start = time.perf_counter()
    history = main.fine_tune(model, rows, args, config, chat, look=lambda: {"answer": ""})
    seconds = time.perf_counter() - start
    ask = partial(main.answer, model, tokenizer, checks.longest_answer(data, rows) + 40)
    figures = checks.evaluate(exam, len(exam), ask(exam))
    now, _ = main.recall(model, tokenizer, known, form)
    still = checks.compare_known(known, knew, now, data["train"])
    return {
        "model": Path(model_name).name,
        "subject": subject,
        "seed": seed,
        "rehearsal": "yes" if options.rehearsal else "no",
        "rate": f"{args.learning_rate:.1e}",
        "steps": args.iters,
        "kept": next(check["step"] for check in history if check.get("kept")),
        "right": figures["right answers"],
        "wordy": figures["right or wordy"],
        "of": len(exam),
        "knew": sum(k["knew"] for k in still),
        "still": sum(k["knew"] and k["knows"] for k in still),
        "leaks": sum(k["leak"] for k in still),
        "general": f"{math.exp(main.held_out(model, rows['general'])[0] - general):.2f}",
        "seconds": f"{seconds:.0f}",
        "lost": "; ".join(k["question"] for k in still if k["knew"] and not k["knows"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How the defaults do, as a table.")
    parser.add_argument("--model", default=str(ROOT / "assets" / "base-model"))
    subjects = ["sharon", "bicycle", "chess", "coffee", "orders"]
    parser.add_argument("--subjects", nargs="+", choices=subjects, default=subjects)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--iters", type=int)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--no-rehearsal", dest="rehearsal", action="store_false")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "recipe.tsv")
    options = parser.parse_args()
    if not options.out.is_file():
        options.out.write_text(COLUMNS.replace(" ", "\t") + "\n")
    for subject in options.subjects:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                line = measure(options.model, subject, seed, options, Path(folder))
            text = "\t".join(str(line[column]) for column in COLUMNS.split())
            print(text, flush=True)
            with options.out.open("a") as file:
                file.write(text + "\n")
