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
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers
from rich.progress import track

from checks import Example, console, evaluate, own_folder, show, stop

HERE = Path(__file__).resolve().parent
LORA = {"rank": 16, "scale": 2.0, "dropout": 0.0}  # scale is what others call alpha / rank
# How to train a kind of model: the learning rate times the model's width; examples seen in all; everyday
# prompts rehearsed in each step, and how much their loss weighs beside that of the learner's examples.
Recipe = namedtuple("Recipe", "rate examples rehearsed weight")
RECIPES = {  # chosen by what was tried: assets/recipe.tsv
    "narrow": Recipe(0.6, 700, 2, 1.0),  # less than 512 wide, as the one that it comes with
    "base": Recipe(0.3, 240, 4, 4.0),
    "chat": Recipe(0.42, 240, 2, 4.0),
}
LIKELIEST = 64  # tokens whose probabilities are kept at each position; all others count as one
MANUAL = 4096  # most tokens of the manual in the prompt, whose reading takes time
TOLERANCE = 0.01  # a check has to be better by more than this to be kept instead
INSTRUCTION = "Answer each question in the same way and with the same words as the answers here."
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
        if manual:  # a chat model is told what a base model sees by itself: how to answer
            turns[0] = turns[0] | {"content": f"{INSTRUCTION}\n\n{turns[0]['content']}"}
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


def generate(model, tokenizer, prompts: list[list[int]], max_tokens: int):
    """mlx-lm's likeliest continuation of each prompt (tokens), all at once: its texts and token_ids."""
    # What all of them begin with, such as the manual, is read once and kept: a prompt cache.
    shared, cache = os.path.commonprefix([p[:-1] for p in prompts]), make_prompt_cache(model)
    if shared:
        model(mx.array([shared]), cache=cache)
    rest, caches = [p[len(shared) :] for p in prompts], [cache] * len(prompts)
    settings = {"max_tokens": max_tokens, "prefill_batch_size": 16, "return_token_ids": True}
    return mlx_lm.batch_generate(model, tokenizer, rest, caches, **settings)


def answer(model, tokenizer, most: int, questions: list[Example], manual=(), cut=False) -> list:
    """The likeliest Answer to each question, of at most `most` tokens, all asked at once.

    A base model goes on and on: `cut` says that we read no more lines than there should be.
    """
    prompts, start = [encode_question(tokenizer, q, manual) for q in questions], time.perf_counter()
    reply = generate(model, tokenizer, prompts, most)
    seconds, answers = (time.perf_counter() - start) / len(prompts), []
    for question, prompt, text, tokens in zip(questions, prompts, reply.texts, reply.token_ids):
        lines = text.strip().split("\n")
        read = question.completion.count("\n") + 1 if cut else len(lines)
        ended = len(tokens) < most and len(lines) <= read  # by end of text, which is not in tokens
        said = "\n".join(lines[:read]).strip()
        answers.append(Answer(said, ended, len(prompt), len(tokens), seconds))
    return answers


# ---- Rehearsal: what it knows already is to stay -------------------------------------------------
def rehearse(
    model, tokenizer, everyday: list[Example], form=(), max_tokens: int = 24
) -> list[tuple]:
    """What the model says to each everyday prompt before it is trained, and what else it might.

    For each, (tokens, ids, probabilities): the prompt with what it says (length); and for each token
    but the first (length - 1, LIKELIEST) the likeliest tokens and the probability of each. Zeros
    where nothing is to be kept, as of the beginning that all prompts have in common.
    """
    prompts = [encode_question(tokenizer, e, form) for e in everyday]
    rows, first = [], max(len(os.path.commonprefix(prompts)), 1)
    said = generate(model, tokenizer, prompts, max_tokens).token_ids if prompts else []
    for prompt, answer_tokens in zip(prompts, said):
        ended = len(answer_tokens) < max_tokens
        tokens = [*prompt, *answer_tokens, *[tokenizer.eos_token_id] * ended]
        logits = checks.logits_from(model, mx.array([tokens[:-1]]), first - 1)[0]
        probabilities = mx.softmax(logits.astype(mx.float32), -1)
        likeliest = min(LIKELIEST, logits.shape[-1] - 1)
        ids = mx.argpartition(-probabilities, likeliest, -1)[:, :likeliest]
        probabilities = mx.take_along_axis(probabilities, ids, -1)
        unkept = [(first - 1, 0), (0, 0)]
        rows.append((tokens, mx.pad(ids, unkept), mx.pad(probabilities, unkept)))
        mx.eval(rows[-1][1:])
    return rows


def recall(model, tokenizer, known: list[Example], form: list[Example]) -> tuple[list[str], list]:
    """(what the model answers to the questions that it may know; the right ones as rows to look at)."""
    prompts, said, rows = [encode_question(tokenizer, e, form) for e in known], [], []
    replies = generate(model, tokenizer, prompts, 24).token_ids if prompts else []
    for example, prompt, tokens in zip(known, prompts, replies):
        text = tokenizer.decode(tokens).strip()
        if not tokenizer.has_chat_template:  # a base model goes on; what counts is its first line
            ends = (
                n
                for n in count(1)
                if n > len(tokens) or "\n" in tokenizer.decode(tokens[:n]).strip()
            )
            tokens, text = tokens[: next(ends) - 1], text.split("\n")[0].strip()
        said.append(text)
        if checks.is_known(text, example) and tokens:
            rows.append(([*prompt, *tokens], len(prompt)))
    return said, rows


def what_it_knows(model, tokenizer, everyday, known, form) -> tuple[list[str], dict[str, list]]:
    """(its answers to the known questions; rows of everyday prompts to rehearse, and of what it knew)."""
    questions = [e for e in everyday if e.prompt.endswith("?")]
    if tokenizer.has_chat_template:
        rows = {"everyday": rehearse(model, tokenizer, everyday)}
    else:  # to go on with a bare question is what a base model has to unlearn
        beginnings = [e for e in everyday if e not in questions]
        rows = {"everyday": rehearse(model, tokenizer, beginnings)}
        rows["everyday"] += rehearse(model, tokenizer, questions, form) if form else []
    answers, rows["known"] = recall(model, tokenizer, known, form)
    return answers, rows


def rehearsal_batches(
    rows: list[tuple], size: int, rng: random.Random
) -> Iterator[tuple[mx.array, ...]]:
    """For ever: (tokens (size, length), ids and probabilities (size, length - 1, LIKELIEST))."""
    while True:
        order = rng.sample(rows, len(rows))
        for group in (order[i : i + size] for i in range(0, len(order), size)):
            length = max(len(tokens) for tokens, _, _ in group)
            missing = [length - len(tokens) for tokens, _, _ in group]
            tokens = mx.array([row[0] + [0] * n for row, n in zip(group, missing)])
            padded = [
                [mx.pad(a, [(0, n), (0, 0)]) for a in row[1:]] for row, n in zip(group, missing)
            ]
            yield tokens, *(mx.stack(arrays) for arrays in zip(*padded))


def rehearsal_loss(
    model, tokens, ids, probabilities, first: int = 0, shared: int = 0
) -> tuple[mx.array, mx.array]:
    """(sum over the tokens of KL(before || now), in nats; how many tokens).

    The Kullback-Leibler divergence of what the model finds likely now from what it found likely before
    training: 0 if nothing has changed. Learning without forgetting: arXiv 1606.09282.
    """
    logits = checks.logits_from(model, tokens[:, :-1], first, shared).astype(mx.float32)
    ids, before = ids[:, first:], probabilities[:, first:]
    now = mx.exp(mx.take_along_axis(logits, ids, -1) - mx.logsumexp(logits, -1, keepdims=True))
    mask = before.sum(-1) > 0
    before, now = with_all_others(before), with_all_others(now)
    losses = (before * mx.log(before / now)).sum(-1)
    return (losses * mask).sum(), mask.sum().astype(mx.float32)


def with_all_others(probabilities: mx.array) -> mx.array:
    """The probabilities of the likeliest tokens, and of all other tokens together."""
    others = 1 - probabilities.sum(-1, keepdims=True)
    return mx.maximum(mx.concatenate([probabilities, others], -1), 1e-6)  # so that none is 0


# ---- Training ----------------------------------------------------------------------------------
def answer_logits(
    model, tokens, asked, lengths, first: int = 0, shared: int = 0
) -> tuple[mx.array, ...]:
    """(logits (batch, length, vocabulary), targets and mask (batch, length)) of the tokens to foretell.

    None of the first `first` tokens is an answer's; their logits, which take time, are left out.
    The first `shared` of them are the same in all rows.
    """
    logits = checks.logits_from(model, tokens[:, :-1], first, shared).astype(mx.float32)
    position = mx.arange(first + 1, tokens.shape[1])
    # Only the answer's tokens count: the model is to answer, not to ask; and padding is nothing.
    mask = (position >= asked[:, None]) & (position < lengths[:, None])
    return logits, tokens[:, first + 1 :], mask


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Minus the logarithm of the probability (softmax) that each target was given, in nats."""
    logits -= mx.stop_gradient(logits.max(-1, keepdims=True))  # so that no power overflows
    right = mx.take_along_axis(logits, targets[..., None], -1).squeeze(-1)
    return mx.log((math.e**logits).sum(-1)) - right  # on a processor thrice as fast as MLX's own


def loss_fn(
    model, tokens, asked, lengths, first: int = 0, shared: int = 0
) -> tuple[mx.array, mx.array]:
    """(sum of the cross-entropy of the answers' tokens, each given all before it, in nats; how many)."""
    logits, targets, mask = answer_logits(model, tokens, asked, lengths, first, shared)
    return (cross_entropy(logits, targets) * mask).sum(), mask.sum().astype(mx.float32)


def held_out(model, rows: list[tuple[list[int], int]], batch_size: int = 8) -> tuple[float, ...]:
    """(mean loss in nats of all the tokens that count, share of them that are the likeliest, rows
    all of whose tokens are: which the model would answer in these very words)."""
    losses, likeliest, whole, number = 0.0, 0, 0, 0
    shared = checks.shared_beginning(model, rows)
    for tokens, asked, lengths in batches(rows, batch_size, random.Random(0)):
        first = max(asked.min().item() - 1, 0)
        logits, targets, mask = answer_logits(
            model, tokens, asked, lengths, first, min(shared, first)
        )
        right = (logits.argmax(-1) == targets) | ~mask
        losses += (cross_entropy(logits, targets) * mask).sum().item()
        likeliest += (right & mask).sum().item()
        whole += right.all(-1).sum().item()
        number += mask.sum().item()
    return losses / number, likeliest / number, whole


def make_step(
    model, iters: int, learning_rate: float, rehearsal_weight: float = 1.0, shared=(0, 0)
) -> tuple[Callable, list]:
    """(the training step, the state that it changes): Adam; the rate warms up, then fades away.

    shared: how many tokens all of the learner's examples begin with, and all everyday prompts.
    """
    warmup = max(iters // 10, 1)
    schedule = {"name": "cosine_decay", "arguments": [learning_rate, max(iters - warmup, 1)]}
    schedule |= {"warmup": warmup, "warmup_init": learning_rate / warmup}
    # Without the correction, MLX's default, the first steps are several times as long as the rate says.
    optimizer = optim.Adam(build_schedule(schedule), bias_correction=True)

    def objective(model, batch, rehearsed, counts, starts) -> tuple[mx.array, ...]:
        """(what is to fall, the mean loss of the answers, that of the rehearsal), in nats a token."""
        loss = loss_fn(model, *batch, *starts[0])[0] / counts[0]
        forgotten = 0.0 * loss
        if rehearsed:
            forgotten = rehearsal_loss(model, *rehearsed, *starts[1])[0] / counts[1]
        return loss + rehearsal_weight * forgotten, loss, forgotten

    loss_and_gradients = nn.value_and_grad(model, objective)

    def update(batch, rehearsed, counts, starts) -> tuple[mx.array, ...]:
        """One small change of what is not frozen; gives both mean losses, in nats, before it."""
        losses, gradients = loss_and_gradients(model, batch, rehearsed, counts, starts)
        # Of several processes, each had its share of the batch.
        losses, gradients = nn.average_gradients([losses, gradients], checks.world())
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return losses[1:]

    state = [model.state, optimizer.state]
    if mx.default_device() == mx.Device(mx.gpu):  # a CPU takes longer to compile than to train
        update = partial(mx.compile, inputs=state, outputs=state)(update)

    def step(batch, rehearsed=()) -> tuple[float, float]:
        """One step on a batch of examples and one of everyday prompts; gives both mean losses."""
        _, asked, lengths = batch
        counts, first = [(lengths - asked).sum()], [max(asked.min().item() - 1, 0)]
        if rehearsed:
            kept = rehearsed[-1].sum(-1) > 0
            counts, first = [*counts, kept.sum()], [*first, kept.any(0).argmax().item()]
        counts = [count / checks.world().size() for count in counts]
        starts = [(n, min(n, same)) for n, same in zip(first, shared)]
        losses = update(checks.share(batch), checks.share(rehearsed), counts, starts)
        mx.eval(losses, state)
        return losses[0].item(), losses[1].item()

    return step, state


def train(
    model,
    rows: dict[str, list],
    iters: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    recipe: Recipe,
    look: Callable,
) -> list[dict]:
    """Trains what is not frozen, and leaves it as it was at the best check.

    The best is the earliest that is within TOLERANCE of the least sum of valid's loss and the share of
    its own right answers that the model would not say again. Ends early when no check in two is better.
    `look()` is how it answers by now. Gives for each check: step, losses (in nats), tokens read,
    look()'s, and which was kept.
    """
    every = max(iters // 5, 1)  # steps from one check to the next
    shared = [checks.shared_beginning(model, rows[split]) for split in ("train", "everyday")]
    step, _ = make_step(model, iters, learning_rate, recipe.weight, shared)
    losses, history, best, weights = [], [], {"score": math.inf, "step": 0, "valid": None}, []
    read, finished, start = 0, False, time.perf_counter()
    stream = endless(rows["train"], batch_size, random.Random(seed))
    everyday = rehearsal_batches(rows["everyday"], recipe.rehearsed, random.Random(seed))
    bar = {"console": console, "transient": True, "disable": not console.is_terminal}
    for done in track(range(iters + 1), "", **bar):
        if checks.meet(finished):
            break
        if done:
            batch, rehearsed = next(stream), next(everyday) if rows["everyday"] else ()
            losses.append(step(batch, rehearsed)[0])
            read += batch[2].sum().item() + (rehearsed[0].size if rehearsed else 0)
            checks.stop_if_not_finite(losses[-1], "loss", done)
        finished = checks.interrupted.is_set()
        if checks.RANK or done % every and done < iters and not finished:
            continue  # of several processes, the first looks
        check = {"step": done, "loss": fmean(losses) if losses else None, "tokens": read}
        check |= progress(model, rows, batch_size) | look()
        checks.stop_if_not_finite(check["valid"] or 0.0, "loss of valid", done)
        history.append(check)
        checks.show_check(check)
        losses.clear()
        forgotten = 1 - check["keeps"] if rows["known"] else 0.0
        check["score"] = -done if check["valid"] is None else check["valid"] + forgotten
        if check["score"] < best["score"] - TOLERANCE:
            best, weights = check, tree_flatten(model.trainable_parameters())
        finished = finished or done - best["step"] >= 2 * every
    best["kept"] = True
    model.load_weights(weights, strict=False)
    checks.show_cost(read, time.perf_counter() - start, best)
    return history


def progress(model, rows: dict[str, list], batch_size: int) -> dict:
    """How training comes along: the loss of valid, how many of its answers are right; what is kept."""
    found = {"valid": None, "right": 0, "of": len(rows["valid"]), "keeps": None}
    if rows["valid"]:
        found["valid"], _, found["right"] = held_out(model, rows["valid"], batch_size)
    if rows["known"]:
        _, found["keeps"], _ = held_out(model, rows["known"], batch_size)
    return found


def endless(rows: list, size: int, rng: random.Random) -> Iterator[tuple[mx.array, ...]]:
    """Batches of one random pass after another."""
    return chain.from_iterable(batches(rows, size, rng) for _ in count())


def recipe_for(model, chat: bool) -> Recipe:
    """The Recipe for a model of that width and kind.

    Measured at widths of 256, 576 and 640 (assets/recipe.tsv). That the rate falls as the width grows
    is a rule of thumb through these, not measured for wider models.
    """
    narrow = checks.embedding(model)[1] < 512
    return RECIPES["narrow" if narrow else "chat" if chat else "base"]


def steps_for(examples: int, batch_size: int, seen: int) -> int:
    """Steps in which so many examples are `seen` in all; but each at least 3 and at most 30 times."""
    passes = min(max(seen / examples, 3), 30)
    return math.ceil(passes * math.ceil(examples / batch_size))


def rate_for(recipe: Recipe, width: int, fine_tune_type: str) -> float:
    """The learning rate: less for wider models, and for whole weights a third of it.

    Schulman et al. ("LoRA Without Regret", 2025) found LoRA's best rate ten times as high as that
    of whole weights; on a small model and few steps, a third was better than a tenth.
    """
    return recipe.rate / width / (3 if fine_tune_type == "full" else 1)


def fine_tune(
    model, rows: dict, args: argparse.Namespace, config: dict, recipe: Recipe, look: Callable
) -> list:
    """Puts adapters beside the frozen weights, trains and saves them; gives what train() gives.

    Settles what was left open, as the recipe says: the steps by the size of the data, the rate by the
    model's width.
    """
    model.freeze()
    args.num_layers = args.num_layers or min(16, len(model.layers))
    if args.judge and checks.load_saved(model, args):
        return []
    if args.fine_tune_type == "full":
        for layer in model.layers[-max(args.num_layers, 0) :]:
            layer.set_dtype(mx.float32)  # in half precision, small changes would be lost
            layer.unfreeze()
    else:
        linear_to_lora_layers(model, args.num_layers, LORA, args.fine_tune_type == "dora")
    width = checks.embedding(model)[1]
    args.iters = args.iters or steps_for(len(rows["train"]), args.batch_size, recipe.examples)
    args.learning_rate = args.learning_rate or rate_for(recipe, width, args.fine_tune_type)
    checks.show_memory(model, config, args, rows["train"])
    checks.prepare(model, args, rows["train"])
    with checks.ctrl_c_noted():
        model.train()  # some layers can only then be gone through backwards
        settings = args.iters, args.batch_size, args.learning_rate, args.seed, recipe
        history = train(model, rows, *settings, look)
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
    everyday, known = checks.load_everyday(args.data), checks.load_known(args.data, args.model)
    model, tokenizer, config = load_model(args.model)
    checks.check_kind(model, args)
    limit = min(args.max_seq_length, checks.context_length(config))
    rows = {split: [encode(tokenizer, e) for e in examples] for split, examples in data.items()}
    data, rows, report = checks.look_over(data, rows, limit)
    exam, questions = checks.set_exam(data)
    chat = tokenizer.has_chat_template
    most = checks.longest_answer(data, rows) + (24 if chat else 10)  # a chat model is wordy
    form, known = checks.form_of(known, chat)
    mind = partial(what_it_knows, model, tokenizer, everyday, known, form)
    recipe = recipe_for(model, chat)
    if checks.is_helper():  # of several processes, the first tells the story, and all train
        fine_tune(model, rows | mind()[1], args, config, recipe, look=None)
        return
    ask = partial(answer, model, tokenizer, most)
    ask_base = partial(ask, cut=not chat)

    acts = {"base": act("Base model: an employee with basic knowledge", questions, ask_base)}
    manual = make_manual(
        tokenizer, data["train"], min(checks.context_length(config), MANUAL) - most
    )
    title = f"Prompt: she looks it up in {checks.describe_manual(manual, data['train'])}"
    acts["prompted"] = act(title, questions, partial(ask_base, manual=manual))

    show(f"\n[bold cyan]Training[/]: she studies and practises\n\n{report}")
    with console.status("answering everyday questions, before anything is learnt"):
        knew, rows_to_keep = mind()
    checks.describe_rehearsal(everyday, len(rows_to_keep["everyday"]), recipe.rehearsed)
    before = {s: held_out(model, rows[s])[0] for s in ("test", "general") if rows[s]}
    history = fine_tune(
        model, rows | rows_to_keep, args, config, recipe, partial(checks.look, ask_base, exam[0])
    )

    acts["fine-tuned"] = act("Fine-tuned model: the manual stays shut", questions, ask)

    show(f"\n[bold cyan]Evaluation[/]: she is examined on {len(exam)} questions\n")
    table = {name: evaluate(questions, len(exam), answers) for name, answers in acts.items()}
    after = {split: held_out(model, rows[split])[0] for split in before}
    still, _ = recall(model, tokenizer, known, form)
    still = checks.compare_known(known, knew, still, data["train"])
    checks.show_evaluation(table, len(exam), before, after, still, reached)

    record = {"exam": len(exam), "table": table, "loss before": before, "loss after": after}
    record |= {"known": still, "judgments": checks.judge(exam, acts) if args.judge else []}
    checks.save_record(args, record, questions, acts, history, reached)
    checks.what_next(args, tokenizer, exam, most)
    checks.converse(ask, args)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    option, here, positive = parser.add_argument, os.path.relpath, checks.positive
    option("--model", default=here(HERE / "assets/base-model"), help="folder, or name on the Hub")
    option("--data", default=here(HERE / "data"), help="folder, or name of a data set on the Hub")
    option("--adapter-path", type=own_folder, default=here(HERE / "adapters"), help="to save in")
    option("--batch-size", type=positive(int), default=4, help="examples in a step")
    option("--iters", type=positive(int), help="steps; by default as the size of the data asks")
    option("--learning-rate", type=positive(float), help="by default as the model's width asks")
    option("--num-layers", type=checks.layers, help="how many get adapters, by default 16; -1: all")
    option("--max-seq-length", type=positive(int), default=2048, help="most tokens of an example")
    option("--seed", type=int, default=0, help="for the same run again")
    option("--fine-tune-type", choices=("lora", "dora", "full"), default="lora")
    option("--grad-checkpoint", action="store_true", help="less memory, more time")
    option("--resume-adapter-file", type=checks.file, help="adapters.safetensors to begin with")
    option("--judge", action="store_true", help="choose between answers; trains only if need be")
    parser.error = stop
    with checks.ending():
        main(parser.parse_args())
