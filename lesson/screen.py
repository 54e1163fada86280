"""Every word that is printed: acts, tables, the picture of the loss, the SVG of the screen."""

import logging
import math
import os
import re
import shlex
import shutil
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx import nn
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import get_total_parameters
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from lesson import machine
from lesson.dataset import FILES, Example, brief, is_on_hub, quote
from lesson.models import takes_system, with_system_in_question
from lesson.scoring import Paired
from lesson.start import STARTED

if TYPE_CHECKING:  # matplotlib is loaded when it draws
    from matplotlib.axes import Axes

Check = dict[str, Any]  # one of the training's: step, losses, right answers, a question's answer

# A long line stays one line; of several processes, the first tells the story.
console = Console(highlight=False, emoji=False, soft_wrap=True, quiet=machine.RANK > 0)
# The screen, less what moves, for lesson.svg.
recording = Console(highlight=False, emoji=False, record=True, width=100, file=StringIO())


def show(content: object = "") -> None:
    """Prints, with rich's markup, on the screen and on what will be lesson.svg."""
    if isinstance(content, str):  # a model may say anything, and so move the cursor
        content = re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", content)
    console.print(content)
    recording.print(content)


def tell(text: str) -> None:
    """Prints a text as it is, whatever in it rich would take for markup."""
    show(escape(text))


def with_progress_bar(steps: Iterable[int]) -> Iterable[int]:
    """The steps, and below the screen's last line how many of them are done, on a terminal."""
    return track(steps, "", console=console, transient=True, disable=not console.is_terminal)


chapters = [("loading", STARTED)]  # each one's name, and when it began, in seconds


def chapter(title: str) -> None:
    """The heading of a part of the lesson: "Training: she studies and practises"."""
    chapters.append((title.partition(":")[0].lower(), time.perf_counter()))
    show(f"\n[bold cyan]{title.replace(':', '[/]:', 1)}\n")


# ---- The model and the acts --------------------------------------------------------------------
def describe_model(name: str, model: nn.Module, tokenizer: TokenizerWrapper, config: dict) -> None:
    """What it is: its size, how its numbers are kept, what computes; what its chat cannot take."""
    on_gpu = mx.default_device() == mx.Device(mx.gpu)
    where = "the GPU" if on_gpu else "the processor, in float32"
    processes = machine.group().size()
    where += f", in each of {processes} processes" * (processes > 1)
    bits = config.get("quantization", {}).get("bits")
    kept = f" of {bits} bits (so this is QLoRA)" if bits else ""
    if not on_gpu and machine.lacks_openblas():
        show("This will be slow. Up to 40 times faster: apt install libopenblas0-pthread")
    show(f"{escape(name)}: {get_total_parameters(model):,} parameters{kept}, on {where}")
    if tokenizer.has_chat_template and not takes_system(tokenizer):
        show("Its chat template takes no system message: one would be put before the question.")


def describe_data(data: dict[str, list[Example]], source: str) -> None:
    """Says what of the data is not read; where the exam comes from, if there is no test.jsonl."""
    if others := sorted({p.name for p in Path(source).glob("*.jsonl")} - FILES):
        names = escape(brief(", ".join(others), 60))
        show(f"Not read: {names}. What is read is called train.jsonl, valid.jsonl, test.jsonl.")
    if all((Path(source) / f"{name}.jsonl").exists() for name in ("valid", "validation")):
        show("Of valid.jsonl and validation.jsonl, the first is read.")
    examples = chain.from_iterable(data[split] for split in ("train", "valid", "test"))
    if keys := dict.fromkeys(chain.from_iterable(example.not_read for example in examples)):
        show(f"Not read of the data: {escape(brief(', '.join(map(quote, keys)), 200))}.")
    if not data["test"]:
        show("No test.jsonl for the exam: it asks what was practised.")
        return
    files = {data[split][0].place.rpartition(":")[0] for split in ("train", "test")}
    if len(files) == 1:
        count = len(data["test"])
        are = "are" if count > 1 else "is"
        kept = f"{count} of the examples {are} kept for it, and not trained on"
        show(f"No test.jsonl for the exam: {kept}.")


def describe_caps(data: dict[str, list[Example]], exam: int, at_checks: int) -> None:
    """Says how many of the exam's questions are asked, and of valid's examples read, if not all."""
    questions, valid = sum(bool(e.prompt) for e in data["test"]), len(data["valid"])
    if exam < questions:
        of = f"{exam} of the {questions:,} questions of test"
        show(f"The exam: {of}, at random; --exam asks more.")
    if at_checks < valid:
        show(f"Each check while training: {at_checks} of the {valid:,} examples of valid.")


def describe_manual(manual: list[Example], examples: list[Example]) -> str:
    """How much of the examples is in the manual, which has one for each answer that fits."""
    left = len({e.completion for e in examples if e.prompt}) - len(manual)
    return f"a manual of {len(manual)} of {len(examples)} examples" + (
        f"; {left} answers do not fit" if left else ""
    )


def show_answers(questions: list[Example], answers: list) -> None:
    """Questions and their answers; the sign behind one says that it did not end by itself."""
    for example, given in zip(questions, answers):
        question = escape(example.prompt).replace("\n", "\n  ")
        text, end = escape(given.text).replace("\n", "\n    "), "" if given.ended else " [dim]…[/]"
        show(f"  {question}\n  [dim]→[/] [bold]{text}[/]{end}")


# ---- Training ----------------------------------------------------------------------------------
def describe_rehearsal(everyday: list[Example], rehearsed: int, share: int) -> None:
    """Says that everyday prompts are rehearsed, and why; or that none are."""
    if everyday:
        file = escape(os.path.relpath(everyday[0].place.rpartition(":")[0]))
        show(f"  Rehearsal: {share} of {rehearsed} prompts from {file} are practised in each step,")
        show("  to be answered as before, so that it keeps what it knows.")
    else:
        show("  No everyday.jsonl, so no rehearsal: it will forget much of what it knew.")


def show_memory(model_bytes: float, step_bytes: float) -> None:
    """One line: what the training will take, what there is; if that is little, how to take less."""
    available = machine.available_memory()
    less = "--grad-checkpoint, less --batch-size, --num-layers, --max-seq-length, a 4-bit model"
    hint = f"\n  [yellow]That may be too much.[/] What takes less: {less}."
    hint = hint if model_bytes + step_bytes > 0.8 * available else ""
    takes = f"about {model_bytes / 1e9:.2f} GB for the model and {step_bytes / 1e9:.2f} GB"
    show(f"  Memory: {takes} for its training; there are {available / 1e9:.1f} GB.{hint}\n")


def show_check(check: Check) -> None:
    """One line: how far the training has come, and how the model answers by now."""
    loss = "" if check["loss"] is None else f"loss {check['loss']:.3f}"
    valid = "" if check["valid"] is None else f"valid {check['valid']:.3f}"
    right = f"right {check['right']:>2}" if check["of"] else ""
    keeps = "" if check["keeps"] is None else f"keeps {check['keeps']:4.0%}"
    answer = escape(brief(check["answer"], 24))
    figures = f"{loss:10}  {valid:11}  {right:8}  {keeps:10}"
    show(f"  step {check['step']:>4}  {figures}  [dim]→[/] {answer}")


def show_cost(history: list[Check], seconds: float, tolerance: float) -> None:
    """What the training took in all, and its checks of it; which of them was kept, and why.

    tolerance: by how much a later one has to be better to be kept instead.
    """
    kept = next(check for check in history if check.get("kept"))
    tokens, checks = history[-1]["tokens"], sum(check["seconds"] for check in history)
    later = history[history.index(kept) + 1 :]
    why = ", the best for valid and for what it keeps"
    if kept["valid"] is None:
        why = ", the last one"
    elif any(check["score"] < kept["score"] for check in later):
        why = f"; later ones were better by less than {tolerance}"
    times = f"{seconds:.1f} seconds, {checks:.1f} of them for the checks"
    show(f"\n  Cost: {tokens:,} tokens; {times}.")
    show(f"  Kept: the adapters of step {kept['step']}{why}.")


def show_whole_valid(count: int, loss: float) -> None:
    """The loss of all of valid, of which the checks have read a part."""
    show(f"  All {count:,} examples of valid: loss {loss:.3f}.")


def plot(history: list[Check], question: str, path: Path) -> None:
    """Draws losses and right answers against the steps, and what was answered on the way.

    `history`: for each check step, loss and valid (nats a token, or None), right, of, and answer.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it may write is no matter
    from matplotlib.figure import Figure  # only now, for it takes a while

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    heights = (3, 1) if history[0]["of"] else (1,)
    rows = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)
    panels = [*rows[:, 0]]
    above, below = panels[0], panels[-1]
    plot_losses(above, history)
    title = f"Training, and the answers at some steps to: {brief(question, 60)}"
    above.set_title(title, parse_math=False)
    above.set(ylabel="loss (nats a token)", ylim=(0, None))
    if history[0]["of"]:
        steps, right = [h["step"] for h in history], [h["right"] for h in history]
        below.plot(steps, right, "o-", color="#1b7837")
        below.set(ylabel="right of {of}".format(**history[0]), ylim=(0, None))
    below.set_xlabel("step")
    best_step = next(h["step"] for h in history if h.get("kept"))
    for axes in panels:
        axes.axvline(best_step, color="gray", linestyle=":", label=f"kept: step {best_step}")
        axes.grid(alpha=0.3)
    above.legend(loc="center right")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that its font lacks
        figure.savefig(path)


def plot_losses(axes: "Axes", history: list[Check]) -> None:
    """Draws the losses of the training, and what was answered where the answer changed."""
    for name, label, color in (("loss", "training", "#1f77b4"), ("valid", "validation", "#d95f02")):
        points = [(h["step"], h[name]) for h in history if h[name] is not None]
        if points:
            axes.plot(*zip(*points), "o-", color=color, label=label, markersize=4)
    changes = [h for i, h in enumerate(history) if not i or h["answer"] != history[i - 1]["answer"]]
    if history[0]["valid"] is None:
        changes = changes[1:]  # before the first step there is no loss to put it at
    arrow = {"arrowstyle": "-", "color": "gray", "linewidth": 0.7, "relpos": (0, 0.5)}
    for row, h in enumerate(changes[:3] + changes[3:][-3:]):  # the first ones and the last ones
        height = h["loss"] if h["valid"] is None else h["valid"]
        text = f"{h['step']}: {brief(h['answer'], 45)}"
        place = (0.3, 0.92 - 0.09 * row)
        ends = ("data", "axes fraction", arrow)
        axes.annotate(text, (h["step"], height), place, *ends, parse_math=False)


# ---- Evaluation --------------------------------------------------------------------------------
FIGURES = {  # of the evaluation's table, and how each is shown
    "right answers": "{}",
    "95 % interval": "{0[0]:.0%} to {0[1]:.0%}",
    "right or wordy": "{}",
    "same answer in other words": "{:.0%}",
    "ended by themselves": "{}",
    "tokens read for each": "{:.0f}",
    "tokens for 1,000 questions": "{:,.0f}",
    "seconds for each": "{:.3f}",
}


def show_evaluation(
    table: dict[str, dict],
    exam: int,
    before: dict[str, float],
    after: dict[str, float],
    compared: list[dict],
    difference: Paired,
) -> None:
    """The acts side by side; the losses (in nats) before and after; which hosts were reached.

    `compared`: what compare_known() says of the everyday questions; `difference`: what
    compare_paired() says of prompted and fine-tuned.
    """
    rows = []
    for name, layout in FIGURES.items():
        label = f"{name} of {exam}" if layout == "{}" else name
        rows.append([label, *(layout.format(figures[name]) for figures in table.values())])
    show_table([*table], rows + rows_of_known(compared))
    show_difference(difference)
    show()
    for split, text in (("test", "the right answers"), ("general", "general text")):
        if split in before:
            was, now = math.exp(before[split]), math.exp(after[split])
            losses = f"loss {before[split]:.3f}, {after[split]:.3f}"
            show(f"  Perplexity of {text}: {was:.2f} before, {now:.2f} now ({losses})")
    if after.get("test", 0.0) > before.get("test", 0.0) + 0.1:  # a tenth less likely, each token
        show("  [yellow]The training did harm[/]: the right answers are less likely to it now.")
        show("  Try a lower --learning-rate, or fewer --iters.")
    show_known(compared)
    show_times()
    nobody = "Nothing left this machine: no connection was opened, no name looked up"
    hosts = ", ".join(sorted(machine.reached))
    show(f"  {'Reached: ' * bool(hosts)}{hosts or nobody}.")


def show_wrong(wrong: list[dict[str, str]], exam: int, folder: Path) -> None:
    """The first wrong answers of the exam beside what was expected, and where the others are."""
    if not wrong:
        return
    show(f"\n  Wrong, {len(wrong)} of {exam} (in full in {escape(str(folder / 'results.json'))}):")
    for answer in wrong[:4]:
        show(f"    {escape(brief(answer['question'], 70))}")
        show(f"      said:     {escape(brief(answer['answer'], 60))}")
        show(f"      expected: {escape(brief(answer['expected'], 60))}")


def show_difference(found: Paired) -> None:
    """Which of prompted and fine-tuned is better, if their answers to the same questions tell."""
    if found.enough is None:
        verdict = "No difference shows"
    elif found.p < 0.05:
        better = "fine-tuned" if found.only_second > found.only_first else "prompted"
        verdict = f"The {better} model is better"
    else:
        verdict = f"Too few questions to tell; about {found.enough} would"
    counts = f"{found.only_first} and {found.only_second}"
    show(f"\n  Prompted or fine-tuned? Questions that only one of them got right: {counts}.")
    show(f"  {verdict} (McNemar's test: p = {found.p:.2g}).")


def show_times() -> None:
    """What each part of the lesson took, from the program's start."""
    ends = [start for _, start in chapters[1:]] + [time.perf_counter()]
    parts = [f"{name} {end - start:.1f}" for (name, start), end in zip(chapters, ends)]
    show(f"  Time: {ends[-1] - STARTED:.1f} seconds: {', '.join(parts[:4])},")
    show(f"  {', '.join(parts[4:])}.")


def show_table(acts: list[str], rows: list[list[str]]) -> None:
    """Rows of a label and a cell for each act, as a table, or on a narrow screen one by one."""
    if shutil.get_terminal_size().columns < 76:
        for label, *cells in rows:
            shown = (f"{act} {cell}" for act, cell in zip(acts, cells) if cell)
            show("\n    ".join([f"  {label}:", *shown]))
        return
    table = Table("", *acts, box=None, padding=(0, 2, 0, 2))
    for row in rows:
        table.add_row(*row)
    show(table)


def rows_of_known(compared: list[dict]) -> list[list[str]]:
    """The rows of the evaluation's table that say what the model still knows."""
    if not compared:
        return []
    knew = [k for k in compared if k["knew"]]
    kept, leaks = sum(k["knows"] for k in knew), sum(k["leak"] for k in compared)
    return [
        [f"everyday answers kept of {len(knew)}", f"{len(knew)}", "", f"{kept}"],
        [f"answers that leak of {len(compared)}", "", "", f"{leaks}"],
    ]


def show_known(compared: list[dict]) -> None:
    """What became of the everyday questions that the model could answer before it was trained."""
    knew, leaks = [k for k in compared if k["knew"]], [k for k in compared if k["leak"]]
    lost = [k for k in knew if not k["knows"]]
    if compared and len(knew) < 4:
        of = f"Of {len(compared)} everyday questions it knew {len(knew)}"
        show(f"  {of}: too little to lose anything.")
    elif compared:
        verdict = f"it forgot {len(lost)} of {len(knew)}" if lost else "it kept what it knew"
        show(f"  Everyday questions that it answered rightly before: {verdict}.")
    for found, what in ((leaks, "Leak"), (lost, "Forgotten")):
        for k in found[:3]:
            show(f"    {what}: {escape(k['question'])} → {escape(brief(k['now'], 50))}")


# ---- Afterwards --------------------------------------------------------------------------------
def export_svg() -> str:
    """The screen so far as an SVG."""
    svg = recording.export_svg(title="main.py", clear=False)
    # Without its fonts, which a browser would fetch from elsewhere.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def what_next(
    args: Namespace, tokenizer: TokenizerWrapper, exam: list[Example], max_tokens: int
) -> None:
    """Commands to go on with, each on a line of its own, to be copied as they are."""
    again = [os.path.relpath(sys.executable), os.path.relpath(sys.argv[0]), *sys.argv[1:]]
    other_data = without(again, "--iters")  # which then go by the data
    folder = "smollm2" if args.adapter_path == Path("adapters") else f"{args.adapter_path}-smollm2"
    real = ["--model", "HuggingFaceTB/SmolLM2-135M-Instruct", "--adapter-path", folder]
    given = without(without(other_data, "--learning-rate"), "--adapter-path")
    go_on = ["--resume-adapter-file", str(args.adapter_path / "adapters.safetensors")]
    commands = {
        "Begin another training with what was learnt so far": [*again, *go_on]
        if machine.interrupted.is_set()
        else [],
        "Ask it again": ask_again(args, tokenizer, exam, max_tokens),
        "Judge the answers yourself": [*again, "--judge"],
        f"Teach it something else (first edit what is in {args.data})": other_data,
        "Teach a real LLM, of 270 MB": [*given, *real]
        if without(again, "--model") == again
        else [],
    }
    for why, command in commands.items():
        if command and not (command is other_data and is_on_hub(args.data)):
            show(f"\n{escape(why)}:\n  [green]{escape(shlex.join(command))}[/]")


def without(words: list[str], option: str) -> list[str]:
    """A command without one of its options, however that was given: two words, or one with a =."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = word == option
    return kept


def ask_again(
    args: Namespace, tokenizer: TokenizerWrapper, exam: list[Example], max_tokens: int
) -> list[str]:
    """mlx-lm's command for the first question that it can ask: one turn, or a system's and one."""
    chat = tokenizer.has_chat_template
    one_turn = [e for e in exam if not chat or [m["role"] for m in e.messages] == ["user"]]
    with_system = [e for e in exam if [m["role"] for m in e.messages] == ["system", "user"]]
    if not one_turn + with_system:
        return []
    example = (one_turn + with_system)[0]
    options = {"--model": args.model, "--prompt": example.messages[-1]["content"]}
    if not chat:
        options["--prompt"] = example.prompt
    elif not one_turn and takes_system(tokenizer):
        options["--system-prompt"] = example.messages[0]["content"]
    elif not one_turn:
        options["--prompt"] = with_system_in_question(example.messages)[0]["content"]
    if tokenizer.has_thinking:
        options["--chat-template-config"] = '{"enable_thinking": false}'
    if max_tokens > 100:  # which is what it writes at most by itself
        options["--max-tokens"] = str(max_tokens)
    options["--adapter-path"] = str(args.adapter_path)
    return [os.path.relpath(sys.executable), "-m", "mlx_lm", "generate", *chain(*options.items())]


def converse(ask: Callable[[list[Example]], list]) -> None:
    """Answers the learner's own questions, if there is one, until an empty line or Ctrl-D."""
    if not (sys.stdin.isatty() and console.is_terminal):
        return
    show("\n[bold]Your turn:[/] ask it, question mark and all; an empty line ends it.")
    with suppress(EOFError, KeyboardInterrupt):
        while typed := console.input("[cyan]?[/] ").strip():
            (given,) = ask([Example(typed, [{"role": "user", "content": typed}], "", "")])
            show(f"[dim]→[/] [bold]{escape(given.text)}[/]{'' if given.ended else ' [dim]…[/]'}")
    show()
