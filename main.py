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
import shlex
import string
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, count
from pathlib import Path
from statistics import fmean
from typing import NoReturn

# On Linux, MLX multiplies matrices with OpenBLAS if that is loaded first, and slowly if not; and
# OpenBLAS is slow on processors newer than itself, unless it is told what they can do.
if sys.platform == "linux":
    cpu = Path("/proc/cpuinfo").read_text()
    if "avx2" in cpu:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX" if "avx512vl" in cpu else "Haswell")
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
from mlx_lm.utils import get_total_parameters
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).resolve().parent
LORA = {"rank": 16, "scale": 4.0, "dropout": 0.0}  # scale is what others call alpha / rank
MAX_TOKENS = 60  # the longest answer
LIKE_THIS = 'write {"prompt": "a question", "completion": "its answer"}'
Example = namedtuple("Example", "prompt messages completion")  # the prompt as a text, and as a chat
Answer = namedtuple("Answer", "text ended tokens seconds")  # ended by itself? tokens that were read
console = Console(highlight=False, emoji=False, soft_wrap=True)  # a long line stays one line
show = console.print


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
                examples += [read_example(json.loads(line))] if line.strip() else []
            except json.JSONDecodeError as error:
                stop(f"{path}:{number}: {error.msg} in column {error.colno}; {LIKE_THIS}")
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
                stop(f"{path}:{number}: not a question and its answer; {LIKE_THIS}")
    return data if data["train"] else stop(f"{folder / 'train.jsonl'}: no examples; {LIKE_THIS}")


def read_example(record: dict) -> Example:
    """An example in any of mlx-lm's three formats; one of the errors above if it is none of them."""
    if "prompt" in record:
        roles = {"user": record["prompt"], "assistant": record["completion"]}
        chat = [{"role": role, "content": text} for role, text in roles.items()]
    else:
        chat = record.get("messages") or [{"role": "assistant", "content": record["text"]}]
    chat = [{"role": m["role"], "content": m["content"].strip()} for m in chat]
    *messages, last = chat
    if last["role"] != "assistant" or not all(m["content"].encode() for m in chat):
        raise ValueError
    return Example("\n".join(m["content"] for m in messages), messages, last["content"])


def encode_question(tokenizer, example: Example, manual: list[Example] = ()) -> list[int]:
    """The tokens that the model reads: the question, and before it the manual if there is one."""
    if tokenizer.has_chat_template:
        turns = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in manual]
        # A system message stands first, and once: many templates take it nowhere else.
        pages = [m for m in chain.from_iterable(turns) if m["role"] != "system"]
        chat = sorted([*pages, *example.messages], key=lambda m: m["role"] != "system")
        return tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    pages = "".join(f"{e.prompt}\n{e.completion}\n\n" for e in manual)
    return tokenizer.encode("Questions and answers\n\n" * bool(manual) + pages + example.prompt)


def encode(tokenizer, examples: list[Example], limit: int) -> list[tuple[list[int], int]]:
    """For each: (tokens of question, answer and end of text; how many of them are the question's).

    The line break between them is the answer's, so that any tool that sends the bare question gets
    it answered; the end is learnt as well, or the fine-tuned model would never stop.
    """
    rows = []
    for example in examples:
        asked = encode_question(tokenizer, example) if example.prompt else []
        between = "" if tokenizer.has_chat_template or not asked else "\n"
        answer = tokenizer.encode(between + example.completion, add_special_tokens=not asked)
        rows.append(([*asked, *answer, tokenizer.eos_token_id], len(asked)))
    fitting = [row for row in rows if len(row[0]) <= limit]  # if cut, they would lose their end
    if len(fitting) < len(rows):
        show(f"  Left out: {len(rows) - len(fitting)} examples of over {limit} tokens.")
    return fitting


def make_manual(tokenizer, examples: list[Example], room: int) -> list[Example]:
    """One example for each distinct answer, from the top, as many as fit into `room` tokens."""
    manual = []
    for example in reversed({e.completion: e for e in reversed(examples) if e.prompt}.values()):
        if len(encode_question(tokenizer, example, [*manual, example])) > room:
            break
        manual.append(example)
    return manual


def batches(rows: list[tuple[list[int], int]], size: int) -> Iterator[tuple[mx.array, ...]]:
    """One random pass over all rows: (tokens (batch, length), lengths of questions, full lengths)."""
    rows = sorted(rows, key=lambda row: (len(row[0]), random.random()))  # like lengths together
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    for group in random.sample(groups, len(groups)):
        tokens, asked = zip(*group)
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
        stop(f"--model {name}: cannot be loaded ({next(iter(str(error).splitlines()), error)})")
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    if on_cpu:  # where float32 is what multiplies fast
        model.set_dtype(mx.float32)
    size = get_total_parameters(model)
    show(
        f"{escape(name)}: {size:,} parameters, on {'the processor, in float32' if on_cpu else 'the GPU'}"
    )
    return model, tokenizer, config


def answer(model, tokenizer, example: Example, manual=(), until: str | None = None) -> Answer:
    """The likeliest answer, with a manual or without. We read no further than a text `until`."""
    prompt, text, start = encode_question(tokenizer, example, manual), "", time.perf_counter()
    for part in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=MAX_TOKENS):
        text += part.text
        if until and until in text.lstrip():
            break
    text = text.strip().split(until)[0] if until else text.strip()
    return Answer(text, part.finish_reason == "stop", len(prompt), time.perf_counter() - start)


# ---- Training ----------------------------------------------------------------------------------
def loss_fn(model, tokens: mx.array, asked: mx.array, lengths: mx.array) -> mx.array:
    """Mean cross-entropy, in nats, of each token of the answers given all the tokens before it."""
    logits, targets = model(tokens[:, :-1]), tokens[:, 1:]
    position = mx.arange(1, tokens.shape[1])
    # Only the answer's tokens count: the model is to answer, not to ask; and padding is nothing.
    mask = (position >= asked[:, None]) & (position < lengths[:, None])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    return (losses * mask).sum() / mask.sum()


def train(model, rows: dict, args: argparse.Namespace, config: dict, ask: Callable) -> None:
    """Trains what is not frozen, and leaves it as it was where the validation loss was lowest.

    Ends early when that loss has not fallen in three checks. `ask()` is one question's answer now.
    """
    examples = len(rows["train"])
    passes = min(max(1200 / examples, 3), 30)  # 1,200 examples seen in all, each 3 to 30 times
    iters = args.iters or math.ceil(passes * math.ceil(examples / args.batch_size))
    # Some ten times full fine-tuning's, less for wider models: after Schulman, "LoRA Without Regret".
    rate = args.learning_rate or 3.2e-4 * math.sqrt(2048 / config.get("hidden_size", 2048))
    every = max(iters // 20, 1)  # steps from one check to the next
    decay = {"name": "cosine_decay", "arguments": [rate, iters], "warmup": 2 * every}
    decay["warmup_init"] = rate / (2 * every)
    optimizer = optim.AdamW(build_schedule(decay), weight_decay=0.0)
    loss_and_gradients = nn.value_and_grad(model, loss_fn)

    def step(*batch: mx.array) -> mx.array:
        """One small change of the adapters; gives the loss, in nats, before it."""
        loss, gradients = loss_and_gradients(model, *batch)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    state = [model.state, optimizer.state]
    if mx.default_device() == mx.Device(mx.gpu):  # a CPU takes longer to compile than to train
        step = partial(mx.compile, inputs=state, outputs=state)(step)

    losses, best, best_step, lowest = [], [], 0, math.inf
    stream = chain.from_iterable(batches(rows["train"], args.batch_size) for _ in count())
    bar = {"console": console, "transient": True, "disable": not console.is_terminal}
    show(f"  step    0  [dim]→[/] {escape(ask())}")
    for done in track(range(1, iters + 1), "", **bar):
        loss = step(*next(stream))
        mx.eval(loss, state)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            stop(f"step {done}: the loss is {losses[-1]}; try a lower --learning-rate")
        if done % every and done < iters:
            continue
        valid = [loss_fn(model, *batch).item() for batch in batches(rows["valid"], args.batch_size)]
        if not valid or fmean(valid) < lowest:  # with nothing to check by, the last step is kept
            lowest, best_step = fmean(valid or losses), done
            best = tree_flatten(model.trainable_parameters())
        checked = f"  valid {fmean(valid):.3f}" if valid else ""
        show(f"  step {done:>4}  loss {fmean(losses):.3f}{checked}  [dim]→[/] {escape(ask())}")
        losses.clear()
        if done - best_step >= 3 * every:
            break
    model.load_weights(best, strict=False)
    why = "where the validation loss is lowest" if rows["valid"] else "the last: no valid.jsonl"
    show(f"\n  Kept: the adapters of step {best_step}, {why}.")


def save_adapters(model, args: argparse.Namespace) -> None:
    """Writes what was learnt, and only that, in mlx-lm's layout; every file whole or not at all."""
    weights = dict(tree_flatten(model.trainable_parameters()))
    config = {"fine_tune_type": "lora", "num_layers": args.num_layers, "lora_parameters": LORA}
    args.adapter_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.adapter_path, prefix=".new-") as new:
        mx.save_safetensors(f"{new}/adapters.safetensors", weights)
        text = json.dumps({"model": args.model, **config}, indent=2)
        Path(new, "adapter_config.json").write_text(text + "\n")
        for file in sorted(Path(new).iterdir()):
            file.replace(args.adapter_path / file.name)
    size = sum(array.size for array in weights.values())
    show(f"  Saved: {size:,} numbers, in {escape(str(args.adapter_path))}")


# ---- Evaluation --------------------------------------------------------------------------------
def evaluate(exam: list[Example], acts: dict[str, list[Answer]]) -> Table:
    """The acts side by side on the same questions: what each got right, and what it cost."""
    words = lambda text: [word.strip(string.punctuation) for word in text.lower().split()]
    table = Table("", *acts, box=None, padding=(0, 3, 0, 2))
    for name, digits, figure in (
        (f"right answers of {len(exam)}", 0, lambda a, e: words(a.text) == words(e.completion)),
        ("ended by themselves", 0, lambda a, e: a.ended),
        ("tokens read for each", 0, lambda a, e: a.tokens / len(exam)),
        ("seconds for each", 3, lambda a, e: a.seconds / len(exam)),
    ):
        sums = [sum(map(figure, answers, exam)) for answers in acts.values()]
        table.add_row(name, *(f"{number:.{digits}f}" for number in sums))
    return table


def general_knowledge(model, tokenizer) -> tuple[int, list[float]]:
    """(facts completed rightly, each one's loss in nats): what it knows and the lesson leaves out."""
    right, losses = 0, []
    for fact in map(json.loads, (HERE / "assets" / "general.jsonl").read_text().splitlines()):
        before = tokenizer.encode(fact["prompt"])
        after = tokenizer.encode(fact["prompt"] + " " + fact["completion"])[len(before) :]
        logits = model(mx.array([before + after[:-1]]))[0, len(before) - 1 :].astype(mx.float32)
        right += logits.argmax(-1).tolist() == after
        losses.append(nn.losses.cross_entropy(logits, mx.array(after)).mean().item())
    return right, losses


# ---- The lesson --------------------------------------------------------------------------------
def act(title: str, employee: str, questions: list[Example], ask: Callable) -> list[Answer]:
    """Announces an act, asks all the questions, and shows the first few answers."""
    show(f"\n[bold cyan]{title}[/]: {employee}\n")
    answers = []
    for example in questions:
        answers.append(ask(example))
        if len(answers) <= 4:
            said = f"[bold]{escape(answers[-1].text)}[/]{'' if answers[-1].ended else ' [dim]…[/]'}"
            show(f"  {escape(example.prompt)}\n  [dim]→[/] {said}")
    return answers


def what_next(args: argparse.Namespace, prompt: str) -> None:
    """Commands to go on with, each on a line of its own, to be copied as they are."""
    again = [os.path.relpath(sys.executable), os.path.relpath(__file__), *sys.argv[1:]]
    ask = [again[0], "-m", "mlx_lm", "generate", "--model", args.model, "--prompt", prompt]
    for why, command in (
        ("Ask it again", [*ask, "--adapter-path", str(args.adapter_path)]),
        (f"Teach it something else (edit {args.data / 'train.jsonl'} first)", again),
        ("Teach a real LLM, of 270 MB", [*again, "--model", "HuggingFaceTB/SmolLM2-135M"]),
    ):
        show(f"\n{escape(why)}:\n  [green]{escape(shlex.join(command))}[/]")


def converse(ask: Callable) -> None:
    """Answers the learner's own questions, until an empty line or Ctrl-D."""
    show("\n[bold]Your turn:[/] ask it, question mark and all; an empty line ends it.")
    with suppress(EOFError, KeyboardInterrupt):
        while typed := console.input("[cyan]?[/] ").strip():
            given = ask(Example(typed, [{"role": "user", "content": typed}], ""))
            show(f"[dim]→[/] [bold]{escape(given.text)}[/]")
    show()


def main(args: argparse.Namespace) -> None:
    """The lesson: base model, prompt, training, fine-tuned model, evaluation."""
    random.seed(args.seed)
    mx.random.seed(args.seed % 2**32)
    data = load_data(args.data)
    asked = {name: [e for e in examples if e.prompt] for name, examples in data.items()}
    exam = asked["test"] or asked["valid"] or asked["train"] or stop(f"no questions; {LIKE_THIS}")
    model, tokenizer, config = load_model(args.model)
    limit = min(args.max_seq_length, config.get("max_position_embeddings") or args.max_seq_length)
    knew, before = general_knowledge(model, tokenizer)
    ask = partial(answer, model, tokenizer)
    line = None if tokenizer.has_chat_template else "\n"  # of what a base model says we read a line

    who = "an employee arrives with basic knowledge"
    base = act("Base model", who, exam, partial(ask, until=line))

    manual = make_manual(tokenizer, data["train"], limit - MAX_TOKENS)
    who = f"she looks everything up in a manual of {len(manual)} examples"
    prompted = act("Prompt", who, exam, partial(ask, manual=manual, until=line))

    show("\n[bold cyan]Training[/]: she studies and practises\n")
    rows = {split: encode(tokenizer, data[split], limit) for split in ("train", "valid")}
    if not rows["train"]:
        stop("all examples are too long; see --max-seq-length")
    model.freeze()
    linear_to_lora_layers(model, args.num_layers, LORA)
    train(model, rows, args, config, lambda: ask(exam[0], until=line).text)
    save_adapters(model, args)

    tuned = act("Fine-tuned model", "she knows it; the manual stays shut", exam, ask)

    old = "" if asked["test"] or asked["valid"] else ", all of them rehearsed"
    show(f"\n[bold cyan]Evaluation[/]: she is examined on {len(exam)} questions{old}\n")
    console.print(evaluate(exam, {"base": base, "prompted": prompted, "fine-tuned": tuned}))
    knows, after = general_knowledge(model, tokenizer)
    facts = f"{knew} of {len(before)} before, {knows} now"
    show(f"\n  General facts right: {facts} (loss {fmean(before):.3f}, then {fmean(after):.3f})")
    what_next(args, exam[0].prompt)
    if sys.stdin.isatty() and console.is_terminal:
        converse(ask)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    option, here = parser.add_argument, os.path.relpath
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
        if getattr(options, name) is not None and not 0 < getattr(options, name) < 1e9:
            stop(f"--{name.replace('_', '-')}: {getattr(options, name)} is not between 0 and 1e9")
    if options.adapter_path.is_file():
        stop(f"--adapter-path {options.adapter_path}: a file; it has to be a folder")
    try:
        main(options)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        stop(str(error))
