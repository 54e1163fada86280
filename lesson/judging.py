"""Judging: the learner chooses between the answers of the last run, which are in results.json."""

import json
import random
from contextlib import suppress
from pathlib import Path

from rich.markup import escape
from rich.prompt import Prompt

from lesson.dataset import words
from lesson.machine import errors_in_one_line, group, stop
from lesson.saving import save, write_json
from lesson.screen import console, show

ACTS = ("base", "prompted", "fine-tuned")


def judge(folder: Path) -> None:
    """The learner chooses between two unnamed answers to each question of the exam of the last run.

    One is the fine-tuned model's, the other another act's; where both say the same there is no
    choice. Asked on the screen until standard input ends; the choices are added to results.json.
    """
    if group().size() > 1:
        stop("--judge asks you; start it without mlx.launch")
    path = folder / "results.json"
    if not path.is_file():
        stop(f"--judge: no {path}, which has the answers to judge; first run it without --judge")
    with errors_in_one_line(f"--judge: {path} is not whole; run it again without --judge"):
        record = json.loads(path.read_text("utf-8"))
        exam = record["answers"][: record["exam"]]
        texts = [{act: answer[act]["text"] for act in ACTS} for answer in exam]
    show("\n[bold cyan]Judgment[/]: which answer is better? 1, 2, or 0 for neither; Ctrl-D ends it")
    verdicts, rng = [], random.Random()  # without a seed: which is which is not to be learnt
    with suppress(EOFError, KeyboardInterrupt):
        for answer, text_of in zip(exam, texts):
            others = [act for act in ACTS[:-1] if text_of[act] != text_of[ACTS[-1]]]
            if others:
                pair = rng.sample([ACTS[-1], rng.choice(others)], 2)
                verdicts.append(ask_which(answer["question"], answer["expected"], text_of, pair))
    tally(verdicts, len(exam))
    if verdicts:
        record["judgments"] = verdicts
        save(folder, "the judgments", {"results.json": write_json(record)})


def ask_which(question: str, expected: str, text_of: dict[str, str], pair: list[str]) -> dict:
    """The learner's choice between the answers of two acts, and which of them are right."""
    show(f"\n  [bold]{escape(question)}[/]")
    for key, act in enumerate(pair, 1):
        show(f"  {key}  {escape(text_of[act])}")
    choice = int(Prompt.ask("  Your choice", console=console, choices=["1", "2", "0"]))
    right = [act for act in pair if words(text_of[act]) == words(expected)]
    verdict = {"question": question, **{act: text_of[act] for act in pair}}
    return verdict | {"chosen": [*pair, "neither"][choice - 1], "right": right}


def tally(verdicts: list[dict], exam: int) -> None:
    """Shows how often each act was chosen and how often it was right; where the two disagree."""
    show(f"\n\n  You judged {len(verdicts)} of {exam} questions, where the answers differ.")
    for name in (*ACTS, "neither"):
        shown = [v for v in verdicts if name in v or name == "neither"]
        chosen = sum(v["chosen"] == name for v in shown)
        right = sum(name in (v["right"] or ["neither"]) for v in shown)
        if shown:
            times = f"chosen {chosen:>2} of {len(shown):>2} times"
            show(f"  {name:<10}  {times}; by the automatic score, {right:>2}")
    for v in verdicts:
        if v["chosen"] not in (v["right"] or ["neither"]):
            show(f"  You disagree: {escape(v['question'])}")
            show(f"    you say {v['chosen']}, the score {' or '.join(v['right']) or 'neither'}")
