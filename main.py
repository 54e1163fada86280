#!/usr/bin/env python3
"""Fine-tuning in one script: a model is asked, prompted, trained, asked again.

Read main(), near the foot, first: it is the whole lesson. README.md is the course it belongs to.
"""

import argparse
import math
import os
import random
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count
from pathlib import Path
from statistics import fmean

import checks  # before the libraries, whose settings it makes

# isort: split
import mlx.core as mx
import mlx.optimizers as optim
import mlx_lm
from mlx import nn
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers
from rich.progress import track

from checks import Example, console, evaluate, own_folder, show, stop

HERE = Path(__file__).resolve().parent
LORA = {"rank": 16, "scale": 4.0, "dropout": 0.0}  # scale is what others call alpha / rank
Answer = namedtuple("Answer", "text ended read written seconds")  # by itself? read, written: tokens


# ---- Data --------------------------------------------------------------------------------------
def encode_question(tokenizer, example: Example, manual=(), answer="", thinking=False) -> list[int]:
    """The tokens that the model reads: the manual if there is one, the question, and its `answer`.

    In the model's chat template if it has one; a model that can think aloud is told not to.
    """
    if chat := tokenizer.has_chat_template and example.messages:
        turns = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in manual]
        # A system message stands first, and once: many templates take it nowhere else.
        turns = [m for m in chain(*turns) if m["role"] != "system"] + example.messages
        turns = sorted(turns, key=lambda m: m["role"] != "system")
        with checks.explained(f"{example.place}: the model's chat template does not take it"):
            text = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )
        opened = tokenizer.has_thinking and text.rstrip().endswith(tokenizer.think_start)
        if opened and not thinking:  # some templates open it without asking
            text += f"{tokenizer.think_end}\n\n"
    else:
        pages = "".join(f"{e.prompt}\n{e.completion}\n\n" for e in manual)
        text = "Questions and answers\n\n" * bool(manual) + pages + example.prompt
    return tokenizer.encode(text + answer, add_special_tokens=not chat)


def encode(tokenizer, example: Example) -> tuple[list[int], int]:
    """(tokens of question, answer and end; how many of them are the question's, and do not count).

    Without a template, the line break between them is the answer's, so that any tool that sends the
    bare question gets it answered. The end is learnt as well, or the model would never stop.
    """
    asked = encode_question(tokenizer, example)
    answer = "\n" * (not tokenizer.has_chat_template and bool(example.prompt)) + example.completion
    tokens = encode_question(tokenizer, example, answer=answer)
    if tokens[: len(asked)] != asked:  # where they meet, two characters became one token
        tokens = asked + tokenizer.encode(answer, add_special_tokens=False)
    # Tools let a model think that can. What tells it not to is learnt, too: so it never does.
    bare = encode_question(tokenizer, example, thinking=True) if tokenizer.has_thinking else asked
    known = len(bare) if tokens[: len(bare)] == bare else len(asked)
    return [*tokens, tokenizer.eos_token_id], known


def make_manual(tokenizer, examples: list[Example], room: int) -> list[Example]:
    """One example for each distinct answer, from the top, as many as fit into `room` tokens."""
    manual = []
    for example in reversed({e.completion: e for e in reversed(examples) if e.prompt}.values()):
        if len(encode_question(tokenizer, example, [*manual, example])) <= room:
            manual.append(example)
    return manual


def batches(rows: list, size: int, rng: random.Random) -> Iterator[tuple[mx.array, ...]]:
    """One random pass over all rows: (tokens (batch, length), lengths of questions, full lengths)."""
    many = len(rows) > 4 * size  # if few were sorted by length, the same answers would always meet
    rows = sorted(rows, key=lambda row: (many and len(row[0]), rng.random()))
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    for group in rng.sample(groups, len(groups)):
        tokens, asked = zip(*group)
        lengths = [len(t) for t in tokens]
        padded = [t + [0] * (max(lengths) - len(t)) for t in tokens]
        yield mx.array(padded), mx.array(asked), mx.array(lengths)


# ---- Base model --------------------------------------------------------------------------------
def load_model(name: str) -> tuple[nn.Module, object, dict]:
    """(model, tokenizer, config) from a folder or, by its name, from the Hugging Face Hub."""
    checks.check_name(name)
    with checks.explained(f"--model {name}"):
        model, tokenizer, config = mlx_lm.load(name, checks.SAFELY, return_config=True)
    if mx.default_device() == mx.Device(mx.cpu):
        model.set_dtype(mx.float32)  # which is what a processor multiplies fast
    checks.settle_end(tokenizer, name)
    checks.describe_model(model, name, config)
    return model, tokenizer, config | (config.get("text_config") or {})


def answer(model, tokenizer, most: int, questions: list[Example], manual=(), cut=False) -> list:
    """The likeliest Answer to each question, of at most `most` tokens, all asked at once.

    A base model goes on and on: `cut` says that we read no more lines than there should be.
    """
    prompts, start = [encode_question(tokenizer, q, manual) for q in questions], time.perf_counter()
    # What all of them begin with, such as the manual, is read once and kept: a prompt cache.
    shared, cache = os.path.commonprefix([p[:-1] for p in prompts]), make_prompt_cache(model)
    if shared:
        model(mx.array([shared]), cache=cache)
    rest, caches = [p[len(shared) :] for p in prompts], [cache] * len(prompts)
    settings = {"max_tokens": most, "prefill_batch_size": 16, "return_token_ids": True}
    reply = mlx_lm.batch_generate(model, tokenizer, rest, caches, **settings)
    seconds, answers = (time.perf_counter() - start) / len(prompts), []
    for question, prompt, text, tokens in zip(questions, prompts, reply.texts, reply.token_ids):
        lines = text.strip().split("\n")
        read = question.completion.count("\n") + 1 if cut else len(lines)
        ended = len(tokens) < most and len(lines) <= read  # by end of text, which is not in tokens
        said = "\n".join(lines[:read]).strip()
        answers.append(Answer(said, ended, len(prompt), len(tokens), seconds))
    return answers


# ---- Training ----------------------------------------------------------------------------------
def loss_fn(model, tokens: mx.array, asked: mx.array, lengths: mx.array) -> tuple[mx.array, ...]:
    """(sum of the cross-entropy of the answers' tokens, each given all before it, in nats; how many)."""
    logits, targets = model(tokens[:, :-1]).astype(mx.float32), tokens[:, 1:]
    position = mx.arange(1, tokens.shape[1])
    # Only the answer's tokens count: the model is to answer, not to ask; and padding is nothing.
    mask = (position >= asked[:, None]) & (position < lengths[:, None])
    # Cross-entropy: minus the logarithm of the probability (softmax) that the right token was given.
    logits -= mx.stop_gradient(logits.max(-1, keepdims=True))  # so that no power overflows
    right = mx.take_along_axis(logits, targets[..., None], -1).squeeze(-1)
    losses = mx.log((math.e**logits).sum(-1)) - right  # on a processor thrice as fast as MLX's own
    return (losses * mask).sum(), mask.sum().astype(mx.float32)


def held_out_loss(model, rows: list[tuple[list[int], int]], batch_size: int = 8) -> float:
    """Mean loss, in nats, of all the tokens that count."""
    stream = batches(rows, batch_size, random.Random(0))
    losses, numbers = zip(*([x.item() for x in loss_fn(model, *batch)] for batch in stream))
    return sum(losses) / sum(numbers)


def make_step(model, args: argparse.Namespace, warmup: int) -> tuple[Callable, list]:
    """(the training step, the state that it changes): Adam; the rate warms up, then fades away."""
    decay = {"name": "cosine_decay", "arguments": [args.learning_rate, args.iters]}
    decay |= {"warmup": warmup, "warmup_init": args.learning_rate / warmup}
    optimizer = optim.Adam(build_schedule(decay))
    loss_and_gradients = nn.value_and_grad(model, loss_fn)

    def step(*batch: mx.array) -> mx.array:
        """One small change of what is not frozen; gives the mean loss, in nats, before it."""
        (loss, number), gradients = loss_and_gradients(model, *batch)
        # Of several processes, each had its share of the batch.
        loss, number, gradients = nn.average_gradients([loss, number, gradients], checks.world())
        norm = mx.sqrt(sum(mx.square(g).sum() for _, g in tree_flatten(gradients)))
        clip = partial(mx.multiply, mx.minimum(number / norm, 1))  # to a mean of norm 1, if longer
        optimizer.update(model, tree_map(clip, gradients))
        return loss / number

    state = [model.state, optimizer.state]
    if mx.default_device() == mx.Device(mx.gpu):  # a CPU takes longer to compile than to train
        step = partial(mx.compile, inputs=state, outputs=state)(step)
    return step, state


def train(model, rows: dict[str, list], args: argparse.Namespace, look: Callable) -> list[dict]:
    """Trains what is not frozen, and leaves it as it was where the validation loss was lowest.

    Ends early when that loss has not fallen in three checks. `look()` is how it answers by now.
    Gives for each check: step, loss and valid (in nats), tokens read, look()'s, and which was kept.
    """
    every = max(args.iters // 10, 1)  # steps from one check to the next
    step, state = make_step(model, args, warmup=every)
    losses, history, best, weights = [], [], {"valid": math.inf, "step": 0}, []
    read, finished, start = 0, False, time.perf_counter()
    rng = random.Random(args.seed)
    stream = chain.from_iterable(batches(rows["train"], args.batch_size, rng) for _ in count())
    bar = {"console": console, "transient": True, "disable": not console.is_terminal}
    for done in track(range(args.iters + 1), "", **bar):
        if checks.meet(finished):
            break
        if done:
            batch = next(stream)
            loss = step(*checks.share(batch))
            mx.eval(loss, state)
            losses.append(loss.item())
            read += batch[2].sum().item()
            checks.stop_if_not_finite(losses[-1], "loss", done)
        finished = checks.interrupted.is_set()
        if checks.RANK or done % every and done < args.iters and not finished:
            continue  # of several processes, the first looks
        valid = held_out_loss(model, rows["valid"], args.batch_size) if rows["valid"] else None
        checks.stop_if_not_finite(valid or 0.0, "loss of valid", done)
        check = {"step": done, "loss": fmean(losses) if losses else None, "valid": valid}
        check |= {"tokens": read, **look()}
        history.append(check)
        checks.show_check(check)
        losses.clear()
        if not valid or valid < best["valid"]:
            best, weights = check, tree_flatten(model.trainable_parameters())
        finished = finished or done - best["step"] >= 3 * every
    best["kept"] = True
    model.load_weights(weights, strict=False)
    checks.show_cost(read, time.perf_counter() - start, best)
    return history


def fine_tune(model, rows: dict, args: argparse.Namespace, config: dict, look: Callable) -> list:
    """Puts adapters beside the frozen weights, trains and saves them; gives what train() gives.

    Settles what was left open: the steps by the size of the data, the rate by the model's width.
    """
    model.freeze()
    if args.judge and checks.load_saved(model, args):
        return []
    if args.fine_tune_type == "full":
        for layer in model.layers[-max(args.num_layers, 0) :]:
            layer.set_dtype(mx.float32)  # in half precision, small changes would be lost
            layer.unfreeze()
    else:
        linear_to_lora_layers(model, args.num_layers, LORA, args.fine_tune_type == "dora")
    passes = min(max(800 / len(rows["train"]), 3), 30)  # 800 examples seen, each 3 to 30 times
    args.iters = args.iters or math.ceil(passes * math.ceil(len(rows["train"]) / args.batch_size))
    # Adapters take more than whole weights do, wider models less: after Schulman, "LoRA Without Regret".
    rate = 6.4e-5 if args.fine_tune_type == "full" else 3.2e-4
    args.learning_rate = args.learning_rate or rate * math.sqrt(2048 / checks.embedding(model)[1])
    checks.show_memory(model, config, args, rows["train"])
    checks.prepare(model, args, rows["train"])
    with checks.ctrl_c_noted():
        model.train()  # some layers can only then be gone through backwards
        history = train(model, rows, args, look)
        model.eval()
        checks.save_adapters(model, args, LORA, *(c["step"] for c in history if c.get("kept")))
    return history


# ---- The lesson --------------------------------------------------------------------------------
def act(title: str, questions: list[Example], ask: Callable) -> list[Answer]:
    """Announces an act, asks all the questions, and shows the first few answers."""
    show(f"\n[bold cyan]{title.replace(':', '[/]:', 1)}\n")
    with console.status(f"asking {len(questions)} questions"):
        answers = ask(questions)
    checks.show_answers(questions[:4], answers)
    return answers


def main(args: argparse.Namespace) -> None:
    """The lesson: base model, prompt, training, fine-tuned model, evaluation."""
    reached = checks.begin(args)
    data = checks.load_data(args.data, args.model)
    model, tokenizer, config = load_model(args.model)
    checks.check_kind(model, args)
    limit = min(args.max_seq_length, checks.context_length(config))
    rows = {split: [encode(tokenizer, e) for e in examples] for split, examples in data.items()}
    data, rows, report = checks.look_over(data, rows, limit)
    exam, questions = checks.set_exam(data)
    most = checks.longest_answer(data, rows) + 10
    if checks.is_helper():  # of several processes, the first tells the story, and all train
        fine_tune(model, rows, args, config, look=None)
        return
    ask = partial(answer, model, tokenizer, most)
    ask_base = partial(ask, cut=not tokenizer.has_chat_template)

    acts = {"base": act("Base model: an employee with basic knowledge", questions, ask_base)}
    manual = make_manual(tokenizer, data["train"], limit - most)
    title = f"Prompt: she looks it up in {checks.describe_manual(manual, data['train'])}"
    acts["prompted"] = act(title, questions, partial(ask_base, manual=manual))

    show(f"\n[bold cyan]Training[/]: she studies and practises\n\n{report}")
    before = {s: held_out_loss(model, rows[s]) for s in ("test", "general") if rows[s]}
    quiz = [exam[0], *(e for e in data["valid"][:20] if e.prompt)]
    history = fine_tune(model, rows, args, config, partial(checks.look, ask_base, quiz))

    acts["fine-tuned"] = act("Fine-tuned model: the manual stays shut", questions, ask)

    show(f"\n[bold cyan]Evaluation[/]: she is examined on {len(exam)} questions\n")
    table = {name: evaluate(questions, len(exam), answers) for name, answers in acts.items()}
    after = {split: held_out_loss(model, rows[split]) for split in before}
    checks.show_evaluation(table, len(exam), before, after, reached)

    record = {"exam": len(exam), "table": table, "loss before": before, "loss after": after}
    record |= {"judgments": checks.judge(exam, acts) if args.judge else []}
    checks.save_record(args, record, questions, acts, history, reached)
    checks.what_next(args, tokenizer, exam, most)
    checks.converse(ask, args)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    option, here, positive = parser.add_argument, os.path.relpath, checks.positive
    option("--model", default=here(HERE / "assets/base-model"), help="folder, or name on the Hub")
    option("--data", default=here(HERE / "data"), help="folder, or name of a data set on the Hub")
    option("--adapter-path", type=own_folder, default=here(HERE / "adapters"), help="to save in")
    option("--batch-size", type=positive(int), default=8, help="examples in a step")
    option("--iters", type=positive(int), help="steps; by default as the size of the data asks")
    option("--learning-rate", type=positive(float), help="by default as the model's width asks")
    option("--num-layers", type=checks.layers, default=-1, help="how many get adapters; -1: all")
    option("--max-seq-length", type=positive(int), default=2048, help="most tokens read at once")
    option("--seed", type=int, default=0, help="for the same run again")
    option("--fine-tune-type", choices=("lora", "dora", "full"), default="lora")
    option("--grad-checkpoint", action="store_true", help="less memory, more time")
    option("--resume-adapter-file", type=checks.file, help="adapters.safetensors to go on from")
    option("--judge", action="store_true", help="choose between answers; trains only if need be")
    parser.error = stop
    with checks.ending():
        main(parser.parse_args())
