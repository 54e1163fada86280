#!/usr/bin/env python3
"""Fine-tuning in one script: a base model is asked, prompted, trained, and asked again.

Read main(), near the foot, first: it is the whole lesson. README.md is the course it belongs to.
"""

import argparse
import ctypes
import json
import math
import os
import random
import re
import shlex
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import NoReturn

# On Linux, MLX multiplies matrices with OpenBLAS if that is loaded first, and slowly if not; and
# OpenBLAS is slow on processors newer than itself, unless it is told what they can do.
if sys.platform == "linux":
    processor = Path("/proc/cpuinfo").read_text()
    kernels = "SkylakeX" if "avx512vl" in processor else "Haswell" if "avx2" in processor else ""
    os.environ.setdefault("OPENBLAS_CORETYPE", kernels)
    try:
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        print("This will be slow. Up to 40 times faster: apt install libopenblas0-pthread")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import mlx.core as mx
import mlx.optimizers as optim
import mlx_lm
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).resolve().parent
LORA = {"rank": 8, "scale": 4.0, "dropout": 0.0}  # scale = alpha / rank, with the usual alpha of 32
MAX_TOKENS = 60  # the longest answer
LIKE_THIS = 'write {"prompt": "a question", "completion": "its answer"}'
Example = namedtuple("Example", "messages completion")  # what is asked, as a chat; the right answer
Answer = namedtuple("Answer", "text ended tokens seconds")  # ended by itself? tokens that were read
console = Console(highlight=False)


def mean(numbers: list[float]) -> float:
    """Their mean; not a number where there are none."""
    return sum(numbers) / len(numbers) if numbers else math.nan


def stop(message: str) -> NoReturn:
    """Ends the program with one line on standard error and exit status 2."""
    print(f"main.py: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


# ---- Data --------------------------------------------------------------------------------------
def load_data(folder: Path) -> dict[str, list[Example]]:
    """The examples of train.jsonl and, where they exist, of valid.jsonl and test.jsonl."""
    data = {"train": [], "valid": [], "test": []}
    for split, examples in data.items():
        path = folder / f"{split}.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                examples += [read_example(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                stop(f"{path}:{number}: {error.msg} in column {error.colno}; {LIKE_THIS}")
            except ValueError as error:
                stop(f"{path}:{number}: {error}; {LIKE_THIS}")
    if not data["train"]:
        stop(f"{folder / 'train.jsonl'}: no examples there; {LIKE_THIS}, one on each line")
    return data


def read_example(line: bytes) -> Example:
    """The example on one line, in any of mlx-lm's three formats; ValueError where there is none."""
    match json.loads(line):
        case {"prompt": str(prompt), "completion": str(completion)}:
            messages = [{"role": "user", "content": prompt}]
        case {"messages": [*messages, {"role": "assistant", "content": str(completion)}]}:
            if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages):
                raise ValueError('one of the messages has no "content"')
        case {"text": str(completion)}:
            messages = []
        case _:
            raise ValueError('no "prompt" and "completion" with a text each')
    if not all(text.strip() for text in (completion, *(m["content"] for m in messages))):
        raise ValueError("an empty text")
    return Example([m | {"content": m["content"].strip()} for m in messages], completion.strip())


def question(example: Example) -> str:
    """What is asked, as plain text."""
    return "\n".join(message["content"] for message in example.messages)


def encode_question(tokenizer, example: Example, manual: list[Example] = ()) -> list[int]:
    """The tokens that the model reads: the question, and before it the manual if there is one."""
    if tokenizer.has_chat_template:
        turns = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in manual]
        chat = [*chain.from_iterable(turns), *example.messages]
        return tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    pages = "".join(f"{question(e)}\n{e.completion}\n\n" for e in manual)
    return tokenizer.encode("Questions and answers\n\n" * bool(manual) + pages + question(example))


def encode(tokenizer, example: Example) -> tuple[list[int], int]:
    """(tokens of question, answer and end of text; how many of them are the question's).

    The line break between them is the answer's, so that any tool that sends the bare question gets
    it answered; the end is learnt as well, or the fine-tuned model would never stop.
    """
    asked = encode_question(tokenizer, example) if example.messages else []
    between = "" if tokenizer.has_chat_template or not asked else "\n"
    answer = tokenizer.encode(between + example.completion, add_special_tokens=not asked)
    return [*asked, *answer, tokenizer.eos_token_id], len(asked)


def encode_all(tokenizer, examples: list[Example], limit: int) -> list[tuple[list[int], int]]:
    """The examples encoded, without those of more than `limit` tokens: cut, they would not end."""
    rows = [row for row in (encode(tokenizer, e) for e in examples) if len(row[0]) <= limit]
    if len(rows) < len(examples):
        console.print(f"  Left out: {len(examples) - len(rows)} examples of over {limit} tokens.")
    return rows or (stop("all examples are too long; see --max-seq-length") if examples else [])


def make_manual(tokenizer, examples: list[Example], room: int) -> list[Example]:
    """One example for each distinct answer, as many as fit into `room` tokens with a question."""
    manual = []
    for example in reversed({e.completion: e for e in reversed(examples) if e.messages}.values()):
        if len(encode_question(tokenizer, example, [*manual, example])) > room:
            break
        manual.append(example)
    return manual


def batches(rows: list[tuple[list[int], int]], size: int) -> Iterator[tuple[mx.array, ...]]:
    """One pass in random order: (tokens (batch, length), the questions' lengths, full lengths).

    Rows of like length go together, padded to the longest of them; none is left out.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), random.random()))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    for group in random.sample(groups, len(groups)):
        tokens, asked = zip(*(rows[i] for i in group))
        lengths = [len(t) for t in tokens]
        padded = [t + [0] * (max(lengths) - len(t)) for t in tokens]
        yield mx.array(padded), mx.array(asked), mx.array(lengths)


# ---- Base model --------------------------------------------------------------------------------
def load_model(name: str) -> tuple[nn.Module, object, dict]:
    """(model, tokenizer, config) from a folder or, by its name, from the Hugging Face Hub."""
    if not Path(name).exists() and (name.count("/") != 1 or name[0] in "./~"):
        stop(f"--model {name}: no such folder; models on the Hub are named owner/name")
    try:
        model, tokenizer, config = mlx_lm.load(name, return_config=True)
    except Exception as error:  # noqa: BLE001  mlx-lm, the Hub, the network: each has its own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        stop(f"--model {name}: cannot be loaded ({reason})")
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    if on_cpu:  # where float32 is what multiplies fast
        model.set_dtype(mx.float32)
    size = sum(weights.size for _, weights in tree_flatten(model.parameters()))
    device = "the processor, in float32" if on_cpu else "the GPU"
    console.print(f"{name}: {size:,} parameters, on {device}", soft_wrap=True)
    return model, tokenizer, config


def answer(model, tokenizer, prompt: list[int], until: str | None = None) -> Answer:
    """What the model says after the prompt's tokens, always taking the likeliest token.

    A base model goes on and on: `until` is the text at which we stop reading.
    """
    text, start = "", time.perf_counter()
    for part in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=MAX_TOKENS):
        text += part.text
        if until and until in text.lstrip():
            break
    text = text.strip().split(until)[0] if until else text.strip()
    return Answer(text, part.finish_reason == "stop", len(prompt), time.perf_counter() - start)


# ---- Training ----------------------------------------------------------------------------------
def plan(args: argparse.Namespace, examples: int, config: dict) -> tuple[int, float]:
    """(steps, learning rate): as the options say, or what suits the data's and the model's size."""
    passes = min(max(1200 / examples, 3), 30)  # 1,200 examples seen in all, each 3 to 30 times
    iters = args.iters or math.ceil(passes * math.ceil(examples / args.batch_size))
    # Ten times full fine-tuning's, less for wider models: "LoRA Without Regret", Schulman 2025.
    return iters, args.learning_rate or 3.5e-4 * math.sqrt(2048 / config.get("hidden_size", 2048))


def loss_fn(model, tokens: mx.array, asked: mx.array, lengths: mx.array) -> mx.array:
    """Mean cross-entropy, in nats, of each token of the answers given all the tokens before it."""
    logits, targets = model(tokens[:, :-1]), tokens[:, 1:]
    position = mx.arange(1, tokens.shape[1])
    # Only the answer's tokens count: the model is to answer, not to ask; and padding is nothing.
    mask = (position >= asked[:, None]) & (position < lengths[:, None])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    return (losses * mask).sum() / mask.sum()


def train(model, rows: dict, batch_size: int, iters: int, rate: float, ask: Callable) -> None:
    """Trains what is not frozen, and leaves it as it was where the validation loss was lowest.

    Ends early when that loss has not fallen in three checks. `ask()` is one question's answer now.
    """
    decay = {"name": "cosine_decay", "arguments": [rate, iters], "warmup": max(iters // 10, 1)}
    optimizer = optim.AdamW(build_schedule(decay), weight_decay=0.0)
    loss_and_gradients = nn.value_and_grad(model, loss_fn)

    def step(*batch: mx.array) -> mx.array:
        loss, gradients = loss_and_gradients(model, *batch)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    state = [model.state, optimizer.state]
    if mx.default_device() == mx.Device(mx.gpu):  # a CPU takes longer to compile than to train
        step = partial(mx.compile, inputs=state, outputs=state)(step)

    losses, best, best_step, lowest, every = [], [], 0, math.inf, max(iters // 10, 1)
    passes = chain.from_iterable(batches(rows["train"], batch_size) for _ in count())
    steps = track(range(1, iters + 1), "", console=console, transient=True)
    for done, batch in zip(steps if console.is_terminal else range(1, iters + 1), passes):
        loss = step(*batch)
        mx.eval(loss, state)
        losses.append(loss.item())
        if done % every and done < iters:
            continue
        valid = mean([loss_fn(model, *b).item() for b in batches(rows["valid"], batch_size)])
        if not valid >= lowest:  # true, too, where there is no such data: the last step is kept
            lowest, best_step = valid, done
            best = tree_flatten(model.trainable_parameters())
        line = f"  step {done:>4}  loss {mean(losses):.3f}"
        line += f"  valid {valid:.3f}" if rows["valid"] else ""
        console.print(f"{line}  [dim]→[/] {escape(ask())}", soft_wrap=True)
        losses.clear()
        if done - best_step >= 3 * every:
            break
    model.load_weights(best, strict=False)
    why = "where the validation loss is lowest" if rows["valid"] else "the last: no valid.jsonl"
    console.print(f"\n  Kept: the adapters of step {best_step}, {why}.")


def save_adapters(model, folder: Path, args: argparse.Namespace) -> None:
    """Writes what was learnt, and only that, in mlx-lm's layout; every file whole or not at all."""
    config = {"fine_tune_type": "lora", "num_layers": args.num_layers, "lora_parameters": LORA}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        weights = dict(tree_flatten(model.trainable_parameters()))
        mx.save_safetensors(f"{new}/adapters.safetensors", weights)
        text = json.dumps({"model": args.model, **config}, indent=2)
        Path(new, "adapter_config.json").write_text(text + "\n")
        for file in sorted(Path(new).iterdir()):
            file.replace(folder / file.name)
    size = sum(array.size for array in weights.values())
    console.print(f"  Saved: {size:,} numbers, in {folder}", soft_wrap=True)


# ---- Evaluation --------------------------------------------------------------------------------
def evaluate(exam: list[Example], acts: dict[str, list[Answer]]) -> Table:
    """The acts side by side on the same questions: what each got right, and what it cost.

    An answer is right whatever its case, punctuation and spaces.
    """

    def words(text: str) -> list[str]:
        return re.sub(r"[^\w\s]", "", text).lower().split()

    table = Table("", *acts, box=None, padding=(0, 3, 0, 2))
    for name, digits, figure in (
        ("right answers", 0, lambda a, e: words(a.text) == words(e.completion)),
        ("ended by themselves", 0, lambda a, e: a.ended),
        ("tokens read for each", 0, lambda a, e: a.tokens / len(exam)),
        ("seconds for each", 3, lambda a, e: a.seconds / len(exam)),
    ):
        sums = [sum(map(figure, answers, exam)) for answers in acts.values()]
        table.add_row(name, *(f"{number:.{digits}f}" for number in sums))
    return table


def general_knowledge(model, tokenizer) -> tuple[int, float]:
    """(facts completed rightly, mean loss in nats): what it knows that the lesson does not teach."""
    right, losses = 0, []
    for fact in map(json.loads, (HERE / "assets" / "general.jsonl").read_text().splitlines()):
        before = tokenizer.encode(fact["prompt"])
        after = tokenizer.encode(" " + fact["completion"], add_special_tokens=False)
        logits = model(mx.array([before + after[:-1]]))[0, len(before) - 1 :].astype(mx.float32)
        right += logits.argmax(-1).tolist() == after
        losses.append(nn.losses.cross_entropy(logits, mx.array(after)).mean().item())
    return right, mean(losses)


# ---- The lesson --------------------------------------------------------------------------------
def act(title: str, employee: str, questions: list[Example], ask: Callable) -> list[Answer]:
    """Announces an act, asks all the questions, and shows the first few answers."""
    console.print(f"\n[bold cyan]{title}[/]: {employee}\n")
    answers = []
    for example in questions:
        answers.append(ask(example))
        if len(answers) <= 4:
            went_on = "" if answers[-1].ended else " [dim]…[/]"
            console.print(f"  {escape(question(example))}", soft_wrap=True)
            console.print(
                f"  [dim]→[/] [bold]{escape(answers[-1].text)}[/]{went_on}", soft_wrap=True
            )
    return answers


def what_next(args: argparse.Namespace, prompt: str) -> None:
    """Commands to go on with, each on a line of its own, to be copied as they are."""
    lesson = [os.path.relpath(sys.executable), os.path.relpath(__file__)]
    ask = [lesson[0], "-m", "mlx_lm", "generate", "--model", args.model]
    for why, command in (
        ("Ask it again", [*ask, "--adapter-path", str(args.adapter_path), "--prompt", prompt]),
        (f"Teach it something else (edit {args.data / 'train.jsonl'} first)", lesson),
        ("Teach a real LLM, of 270 MB", [*lesson, "--model", "HuggingFaceTB/SmolLM2-135M"]),
    ):
        console.print(f"\n{why}:\n  [green]{escape(shlex.join(command))}[/]", soft_wrap=True)


def converse(ask: Callable) -> None:
    """Answers the learner's own questions, until an empty line or Ctrl-D."""
    console.print("\n[bold]Your turn:[/] ask it something; an empty line ends it.")
    try:
        while typed := console.input("[cyan]?[/] ").strip():
            given = ask(Example([{"role": "user", "content": typed}], ""))
            console.print(f"[dim]→[/] [bold]{escape(given.text)}[/]")
    except (EOFError, KeyboardInterrupt):
        console.print()


def main(args: argparse.Namespace) -> None:
    """The lesson: base model, prompt, training, fine-tuned model, evaluation."""
    random.seed(args.seed)
    mx.random.seed(args.seed)
    data = load_data(args.data)
    asked = {name: [e for e in examples if e.messages] for name, examples in data.items()}
    exam = asked["test"] or asked["valid"] or asked["train"] or stop(f"no questions; {LIKE_THIS}")
    questions = (asked["train"] or exam)[:1] + exam  # one that is rehearsed, then the exam
    model, tokenizer, config = load_model(args.model)
    limit = min(args.max_seq_length, config.get("max_position_embeddings") or args.max_seq_length)
    knew = general_knowledge(model, tokenizer)

    def ask(example: Example, manual: list[Example] = (), until: str | None = None) -> Answer:
        return answer(model, tokenizer, encode_question(tokenizer, example, manual), until)

    line = None if tokenizer.has_chat_template else "\n"  # of what a base model says we read a line
    who = "an employee arrives with basic knowledge"
    base = act("Base model", who, questions, partial(ask, until=line))

    manual = make_manual(tokenizer, data["train"], limit - MAX_TOKENS)
    who = f"she looks everything up in a manual of {len(manual)} examples"
    prompted = act("Prompt", who, questions, partial(ask, manual=manual, until=line))

    rows = {split: encode_all(tokenizer, data[split], limit) for split in ("train", "valid")}
    iters, rate = plan(args, len(rows["train"]), config)
    console.print("\n[bold cyan]Training[/]: she studies and practises\n")
    model.freeze()
    linear_to_lora_layers(model, args.num_layers, LORA)
    train(model, rows, args.batch_size, iters, rate, lambda: ask(questions[0], until=line).text)
    save_adapters(model, args.adapter_path, args)

    tuned = act("Fine-tuned model", "she knows it; the manual stays shut", questions, ask)

    which = (
        "questions" if asked["test"] or asked["valid"] else "rehearsed questions, for want of new"
    )
    console.print(f"\n[bold cyan]Evaluation[/]: an exam of {len(exam)} {which}\n")
    acts = {"base": base[1:], "prompted": prompted[1:], "fine-tuned": tuned[1:]}
    console.print(evaluate(exam, acts))
    knows = general_knowledge(model, tokenizer)
    console.print(f"\n  General facts still right: {knows[0]} of {knew[0]}", end="")
    console.print(f" (loss before {knew[1]:.3f}, now {knows[1]:.3f})")
    what_next(args, question(questions[0]))
    if sys.stdin.isatty() and console.is_terminal:
        converse(ask)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    option = parser.add_argument
    here = partial(os.path.relpath, start=os.getcwd())
    option("--model", default=here(HERE / "assets/base-model"), help="folder, or name on the Hub")
    option("--data", type=Path, default=here(HERE / "data"), help="folder with a train.jsonl")
    option("--adapter-path", type=Path, default=here(HERE / "adapters"), help="folder to save in")
    option("--batch-size", type=int, default=8, help="examples in a step")
    option("--iters", type=int, help="steps; by default what suits the size of the data")
    option("--learning-rate", type=float, help="by default what suits the size of the model")
    option("--num-layers", type=int, default=-1, help="how many get adapters; -1 is all of them")
    option("--max-seq-length", type=int, default=2048, help="the most tokens read at once")
    option("--seed", type=int, default=0, help="for the same run again")
    parser.error = stop
    options = parser.parse_args()
    for name in ("batch_size", "iters", "learning_rate", "max_seq_length"):
        if getattr(options, name) is not None and not 0 < getattr(options, name) < math.inf:
            stop(f"--{name.replace('_', '-')} {getattr(options, name)}: must be more than 0")
    try:
        main(options)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        stop(str(error))
