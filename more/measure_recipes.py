#!/usr/bin/env python3
"""How the defaults do: models x subjects x seeds, each a training and its evaluation, as a table.

python3 more/measure_recipes.py --model assets/base-model --ask test
python3 more/measure_recipes.py --subjects sharon --seeds 0 --no-rehearsal --note "without"

Adds lines to the table, which lies beside this script. Settings are chosen by what `--ask valid`
finds: it asks the questions of valid, and everyday questions that no test asks. What was chosen is
then examined with `--ask test`. A training takes seconds on the embedded model, and minutes on a
real LLM.
"""

import argparse
import contextlib
import io
import json
import math
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx

import main
from lesson import dataset, models, recipes
from lesson.options import parse
from lesson.rehearsal import Rehearsal

COLUMNS = (
    "model subject asked seed note rate steps kept right wordy of knew still leaks general seconds"
    " lost"
)
SUBJECTS = ["sharon", "bicycle", "chess", "coffee", "orders"]
CHOOSING = ROOT / "tests" / "known.jsonl"  # everyday questions to choose by


def write_subject(subject: str, asked: str, folder: Path) -> str:
    """Writes train, valid and test of a subject into a folder; test asks what is `asked` for.

    Sharon and the orders have a valid.jsonl. Of the other subjects, from tests/subjects.json, the
    last wording of each question is held out to choose by.
    """
    if subject in ("sharon", "orders"):
        given = ROOT / "data" if subject == "sharon" else ROOT / "data" / subject
        for split in ("train", "valid"):
            shutil.copy(given / f"{split}.jsonl", folder)
        shutil.copy(given / f"{asked}.jsonl", folder / "test.jsonl")
        return str(folder)
    facts = json.loads((ROOT / "tests" / "subjects.json").read_text())
    (facts,) = [given for name, given in facts.items() if subject in name]
    held_out = [(fact["train"][-1], fact["answer"]) for fact in facts]
    practised = [(question, fact["answer"]) for fact in facts for question in fact["train"]]
    splits = {"train": practised, "test": [(fact["test"], fact["answer"]) for fact in facts]}
    if asked == "valid":
        practised = [pair for pair in practised if pair not in held_out]
        splits = {"train": practised, "valid": held_out, "test": held_out}
    for split, examples in splits.items():
        lines = [json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in examples]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return str(folder)


def look_into(model_name: str, options: Namespace) -> tuple[Rehearsal, dict[str, list]]:
    """(what the model knows before any training, rows to rehearse and to look at)."""
    model, tokenizer, _ = models.load(model_name)
    data = str(ROOT / "data")
    known = dataset.load_known(data, model_name)
    own = (Path(model_name) / "known.jsonl").is_file()
    if options.ask == "valid" and not own:  # after those that show a base model how to answer
        known = known[:3] * (not tokenizer.has_chat_template) + dataset.load_prompts(CHOOSING)
    everyday = dataset.load_everyday(data) if options.rehearsal else []
    old_work = Rehearsal(everyday, known, main.encode_prompt)
    return old_work, old_work.note(model, tokenizer)


def measure(
    model_name: str, noted: tuple, subject: str, seed: int, options: Namespace, made_in: Path
) -> dict:
    """One line of the table: a training with that seed, and what came of it."""
    mx.random.seed(seed)
    data = dataset.load_data(write_subject(subject, options.ask, made_in), model_name)
    old_work, rows_to_keep = noted
    model, tokenizer, config = models.load(model_name)
    exam, _ = main.choose_exam(data)
    rows = {
        split: [main.encode(tokenizer, e) for e in examples] for split, examples in data.items()
    }
    rows |= rows_to_keep
    given = Namespace(
        **vars(parse(["--adapter-path", str(made_in)])) | vars(options) | {"seed": seed}
    )
    chat = tokenizer.has_chat_template
    settings = recipes.training_settings(given, model, chat, len(rows["train"]))
    if options.weight is not None:
        settings["rehearsal_weight"] = options.weight
    settings["rehearsed"] = options.rehearsed or settings["rehearsed"]
    general = main.held_out_loss(model, rows["general"])[0]
    start = time.perf_counter()
    history = main.fine_tune(model, config, rows, lambda: "", **settings)
    seconds = time.perf_counter() - start
    ask = partial(main.answer, model, tokenizer, main.longest_answer(data, rows) + 40)
    figures = main.evaluate(exam, len(exam), ask(exam))
    compared = old_work.compare(model, tokenizer, data["train"])
    return {
        "model": Path(model_name).name,
        "subject": subject,
        "asked": options.ask,
        "seed": seed,
        "note": options.note,
        "rate": f"{settings['learning_rate']:.1e}",
        "steps": settings["iters"],
        "kept": next(check["step"] for check in history if check.get("kept")),
        "right": figures["right answers"],
        "wordy": figures["right or wordy"],
        "of": len(exam),
        "knew": sum(k["knew"] for k in compared),
        "still": sum(k["knew"] and k["knows"] for k in compared),
        "leaks": sum(k["leak"] for k in compared),
        "general": f"{math.exp(main.held_out_loss(model, rows['general'])[0] - general):.2f}",
        "seconds": f"{seconds:.0f}",
        "lost": "; ".join(k["question"] for k in compared if k["knew"] and not k["knows"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How the defaults do, as a table.")
    parser.add_argument("--model", default=str(ROOT / "assets" / "base-model"))
    parser.add_argument("--ask", choices=("valid", "test"), default="valid")
    parser.add_argument("--note", default="the defaults", help="what is tried, for the table")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--iters", type=int)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--weight", type=float, help="of the rehearsal")
    parser.add_argument("--rehearsed", type=int, help="everyday prompts in each step")
    parser.add_argument("--no-rehearsal", dest="rehearsal", action="store_false")
    parser.add_argument("--out", type=Path, default=ROOT / "more" / "measured_recipes.tsv")
    options = parser.parse_args()
    if not options.out.is_file():
        options.out.write_text(COLUMNS.replace(" ", "\t") + "\n")
    noted = look_into(options.model, options)
    for subject in options.subjects:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                line = measure(options.model, noted, subject, seed, options, Path(folder))
            text = "\t".join(str(line[column]) for column in COLUMNS.split())
            print(text, flush=True)
            with options.out.open("a") as file:
                file.write(text + "\n")
