#!/usr/bin/env python3
"""Draws the README's pictures, from the log of the pre-training and from the last lesson's record.

python3 main.py && python3 more/pictures.py
"""

import json
import re
import shutil
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from scaling import TRAINED_OVER_READ

ROOT = Path(__file__).resolve().parents[1]
ASSETS, ADAPTERS = ROOT / "assets", ROOT / "adapters"
CACHED = 0.1  # what providers charge for a token that they have in their cache, next to others
INK, BLUE, ORANGE, GREEN = "#222222", "#1f77b4", "#d95f02", "#1b7837"


Pair = tuple[float, float]
NEW = (  # what is new in each later stage of pre-training
    " new: records,\n guides, labels,\n tables",
    " sentences\n that nobody\n can guess",
    " longer guides",
)
LEGENDS = {"answers from context": "answers read in a context", "records": "records made"}


def box(axes: Axes, place: Pair, size: Pair, title: str, text: str, color: str) -> None:
    """A rounded box with a title and a text under it."""
    shape = FancyBboxPatch(
        place, *size, boxstyle="round,pad=0.02", facecolor="white", edgecolor=color
    )
    axes.add_patch(shape).set_linewidth(2)
    middle = place[0] + size[0] / 2
    style = {"ha": "center", "va": "top", "color": INK}
    axes.text(middle, place[1] + size[1] - 0.04, title, weight="bold", fontsize=11, **style)
    axes.text(middle, place[1] + size[1] - 0.30, text, fontsize=9.5, linespacing=1.5, **style)


def employee(path: Path) -> None:
    """The four stages: of the employee, and of the model."""
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 4.05), ylim=(0, 1))
    axes.axis("off")
    stages = (
        ("1  Basic knowledge", "base model", "reads and writes;\nknows nothing of you", BLUE),
        ("2  The manual", "prompt", "looks it up,\nevery single time", ORANGE),
        ("3  Study and practice", "training", "goes through examples\nuntil they stick", GREEN),
        ("4  On her own", "fine-tuned model", "answers with\nthe manual shut", BLUE),
    )
    for i, (title, model, text, color) in enumerate(stages):
        box(axes, (i + 0.05, 0.1), (0.85, 0.8), title, f"{model}\n\n{text}", color)
        if i:
            arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.5}
            axes.annotate("", (i + 0.03, 0.5), (i - 0.08, 0.5), arrowprops=arrow)
    figure.savefig(path)


def when(path: Path) -> None:
    """Prompt or fine-tune: by how much has to be known, and by how often it is asked."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 2), ylim=(0, 2))
    fields = (
        (0, 0, BLUE, "Prompt"),
        (1, 0, GREEN, "Fine-tune a small model"),
        (0, 1, ORANGE, "Prompt, with retrieval"),
        (1, 1, GREEN, "Fine-tune, with retrieval"),
    )
    texts = (
        "a page of instructions,\na few questions a day",
        "the same short task, over and over:\nthe page need not be read each time",
        "many documents that change;\nfetch the right page for each question",
        "form and habits in the weights,\nfacts of the day in the prompt",
    )
    for (x, y, color, title), text in zip(fields, texts):
        box(axes, (x + 0.08, y + 0.14), (0.84, 0.72), title, text, color)
    axes.set_xticks([0.5, 1.5], ["asked now and then", "asked thousands of times"])
    axes.set_yticks([0.5, 1.5], ["fits on a page", "far more\nthan a page"])
    axes.tick_params(length=0, labelsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


def cost(record: dict, path: Path) -> None:
    """Tokens for so many questions: each with the manual, or all after one training."""
    table = record["table"]
    per_question = {
        name: figures["tokens for 1,000 questions"] / 1000 for name, figures in table.items()
    }
    read = "tokens read for each"
    manual = table["prompted"][read] - table["base"][read]
    prompted, tuned = per_question["prompted"], per_question["fine-tuned"]
    cached = prompted - manual * (1 - CACHED)
    training = TRAINED_OVER_READ * record["training"][-1]["tokens"]
    even, even_cached = (training / (slope - tuned) for slope in (prompted, cached))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="questions asked", ylabel="tokens processed, thousands")
    for name, start, slope, color, style in (
        ("prompted: the manual is read each time", 0, prompted, ORANGE, "-"),
        ("prompted: the manual is kept in a cache, at a tenth", 0, cached, ORANGE, "--"),
        ("fine-tuned: trained once, then the bare question", training, tuned, GREEN, "-"),
    ):
        ends = [0, 1.3 * even_cached]
        thousands = [(start + slope * n) / 1000 for n in ends]
        axes.plot(ends, thousands, style, color=color, label=name)
    for crossing in (even, even_cached):
        axes.axvline(crossing, color="gray", linestyle=":")
        axes.annotate(f" even after {crossing:,.0f}", (crossing, 0), va="bottom", color="gray")
    top = 1.8 * (training + tuned * even_cached) / 1000
    axes.set(xlim=(0, None), ylim=(0, top))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def pretraining(path: Path) -> None:
    """The loss of the pre-training, and what the model can do while it falls."""
    log = (ROOT / "pretraining" / "pretrain.log").read_text()
    losses = [
        (int(s), float(x)) for s, x in re.findall(r"^step (\d+) .*loss ([\d.]+)", log, re.MULTILINE)
    ]
    looks = re.findall(r"step (\d+) .*\n(?:    says.*\n)?    (answers from context.*)", log)
    samples = [int(step) for step in re.findall(r"step (\d+) .*\n    says", log)]
    *ends, _ = [step for step in samples if step > 1000]  # one at the end of each stage
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats a token)", ylim=(0, 7))
    axes.plot(*zip(*losses), color=BLUE, label="loss: how hard the next token is to guess")
    for step, what in zip(ends, NEW):
        axes.axvline(step, color="gray", linestyle=":")
        axes.annotate(what, (step, 3.8), va="top", fontsize=9)
    other = axes.twinx()
    for ability, color in (("answers from context", GREEN), ("records", ORANGE)):
        counts = [
            (int(step), int(found[1]))
            for step, look in looks
            if (found := re.search(rf"{ability}: (\d+) of 40", look))
        ]
        other.plot(*zip(*counts), "o-", color=color, markersize=4)
        axes.plot([], [], "o-", color=color, label=LEGENDS[ability])
    other.set(ylabel="right, of 40", ylim=(0, 42))
    figure.legend(loc="outside upper center", ncols=3)
    axes.grid(alpha=0.3)
    figure.savefig(path)


if __name__ == "__main__":
    if not (ADAPTERS / "results.json").exists():
        sys.exit("run main.py first: the picture of the costs is drawn from its record")
    employee(ASSETS / "employee.png")
    when(ASSETS / "when.png")
    cost(json.loads((ADAPTERS / "results.json").read_text("utf-8")), ASSETS / "cost.png")
    pretraining(ASSETS / "pretraining.png")
    for drawn in ("loss.png", "lesson.svg"):
        shutil.copy(ADAPTERS / drawn, ASSETS / drawn)
