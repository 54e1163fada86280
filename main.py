#!/usr/bin/env python3
"""Fine-tuning in one script: a model is asked, prompted, trained, asked again.

Read main(), near the foot, first: it is the whole lesson. README.md is the course it belongs to.
"""

from lesson.start import start

if __name__ == "__main__":
    start(__doc__.partition("\n")[0])  # before the libraries are loaded, which takes two seconds

import math
import random
import time
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.optimizers as optim
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers

from lesson import judging, machine, models, options, recipes, rehearsal, saving, scoring, screen
from lesson.dataset import (
    FORMAT,
    Example,
    Row,
    load_data,
    load_everyday,
    load_known,
    some_of,
    words,
)
from lesson.findings import look_over
from lesson.machine import Batch
from lesson.models import NOTHING, Skipped
from lesson.rehearsal import Rehearsal
from lesson.screen import Check, chapter, console, show

LORA = {"rank": 16, "scale": 2.0, "dropout": 0.0}  # scale is what others call alpha / rank
ENOUGH_TRIED = 20  # examples that do not fit into the manual any more: then it is full
MAX_MANUAL = 4096  # tokens of the manual in the prompt, whose reading takes time
MIN_QUESTIONS = 24  # that are asked of each act, if the data have as many wordings
VALID_BATCHES = 25  # of valid are read at a check, as mlx-lm does
TOLERANCE = 0.01  # a check has to be better by more than this to be kept instead
INSTRUCTION = "Answer each question in the same way and with the same words as the answers here."


class Answer(NamedTuple):
    """What a model answers to a question."""

    text: str
    ended: bool  # by itself, or it was cut
    read: int  # tokens of the prompt
    written: int  # tokens of the answer
    seconds: float


# ---- Data --------------------------------------------------------------------------------------
def encode_prompt(
    tokenizer: TokenizerWrapper,
    example: Example,
    manual: Sequence[Example] = (),
    answer: str = "",
    thinking: bool = False,
) -> list[int]:
    """The tokens that the model reads: the manual if there is one, the question, and its `answer`.

    In the model's chat template if it has one.
    """
    if tokenizer.has_chat_template and example.messages:
        chats = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in manual]
        # A system message stands first, and once: many templates take it nowhere else.
        turns = [m for m in chain(*chats) if m["role"] != "system"] + example.messages
        if manual:  # a chat model is told what a base model sees by itself: how to answer
            turns[0] = turns[0] | {"content": f"{INSTRUCTION}\n\n{turns[0]['content']}"}
        turns = sorted(turns, key=lambda message: message["role"] != "system")
        text = models.render_chat(tokenizer, turns, thinking, example.place)
        return tokenizer.encode(text + answer, add_special_tokens=False)
    title = "Questions and answers\n\n" if manual else ""
    pages = "".join(f"{e.prompt}\n{e.completion}\n\n" for e in manual)
    text = title + pages + example.prompt + answer
    return tokenizer.encode(text, add_special_tokens=not tokenizer.has_chat_template)


def encode(tokenizer: TokenizerWrapper, example: Example) -> Row:
    """(tokens of question, answer and end; how many of them are the question's, and do not count).

    Without a template, the line break between them is the answer's, so that any tool that sends the
    bare question gets it answered. The end is learnt as well, or the model would never stop.
    """
    prompt = encode_prompt(tokenizer, example)
    line_break = "\n" if example.prompt and not tokenizer.has_chat_template else ""
    answer = line_break + example.completion
    tokens = encode_prompt(tokenizer, example, answer=answer)
    if tokens[: len(prompt)] != prompt:  # one token has characters of both
        tokens = prompt + tokenizer.encode(answer, add_special_tokens=False)
    prompt_length = len(prompt)
    if tokenizer.has_thinking:
        # Tools let a model think that can. What tells it not to is learnt, too: so it never does.
        thinking = encode_prompt(tokenizer, example, thinking=True)
        prompt_length = len(thinking) if tokens[: len(thinking)] == thinking else len(prompt)
    return [*tokens, tokenizer.eos_token_id], prompt_length


def encode_all(
    model: nn.Module, tokenizer: TokenizerWrapper, data: dict[str, list[Example]], max_length: int
) -> tuple[dict[str, list[Example]], dict[str, list[Row]], str]:
    """(the examples of at most `max_length` tokens, their rows, what is wrong with them)."""
    data = models.without_end(tokenizer, data)
    rows = {split: [encode(tokenizer, e) for e in examples] for split, examples in data.items()}
    models.check_rows(model, data, rows)
    return look_over(data, rows, max_length, tokenizer)


def make_manual(
    tokenizer: TokenizerWrapper, examples: list[Example], max_tokens: int
) -> list[Example]:
    """One example for each distinct answer, from the top, as many as fit into `max_tokens`."""
    first_wordings = {e.completion: e for e in reversed(examples) if e.prompt}
    manual: list[Example] = []
    too_long = 0
    for example in reversed(first_wordings.values()):
        if len(encode_prompt(tokenizer, example, [*manual, example])) <= max_tokens:
            manual.append(example)
        else:
            too_long += 1
        if too_long == ENOUGH_TRIED:  # of thousands, trying all would take minutes
            break
    return manual


def batches(rows: list[Row], batch_size: int, rng: random.Random) -> Iterator[Batch]:
    """One random pass over all rows: tokens (batch, length), prompt lengths, lengths (batch,)."""
    # Rows of like length waste no padding; but of few rows, sorted, all batches would be the same.
    by_length = len(rows) > 4 * batch_size
    rows = sorted(rows, key=lambda row: (len(row[0]) if by_length else 0, rng.random()))
    groups = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    for group in rng.sample(groups, len(groups)):
        tokens, prompt_lengths = zip(*group)
        lengths = [len(row) for row in tokens]
        width = machine.padded_length(max(lengths))
        padded = [row + [0] * (width - len(row)) for row in tokens]
        yield mx.array(padded), mx.array(prompt_lengths), mx.array(lengths)


def endless_batches(rows: list[Row], batch_size: int, rng: random.Random) -> Iterator[Batch]:
    """Batches of one random pass after another."""
    return chain.from_iterable(batches(rows, batch_size, rng) for _ in count())


# ---- Base model --------------------------------------------------------------------------------
def answer(
    model: nn.Module,
    tokenizer: TokenizerWrapper,
    max_tokens: int,
    questions: list[Example],
    manual: Sequence[Example] = (),
    as_many_lines: bool = False,
) -> list[Answer]:
    """The Answer to each question, all asked at once: at most `max_tokens`, each the likeliest.

    A base model goes on and on: `as_many_lines` reads no more lines than the right answer has.
    """
    prompts = [encode_prompt(tokenizer, question, manual) for question in questions]
    start = time.perf_counter()
    texts, token_ids = models.generate(model, tokenizer, prompts, max_tokens)
    seconds = (time.perf_counter() - start) / len(prompts)
    answers = []
    for question, prompt, text, tokens in zip(questions, prompts, texts, token_ids):
        lines = text.strip().split("\n")
        wanted = question.completion.count("\n") + 1 if as_many_lines else len(lines)
        ended = len(tokens) < max_tokens and len(lines) <= wanted  # by end of text, not in tokens
        text = "\n".join(lines[:wanted]).strip()
        answers.append(Answer(text, ended, len(prompt), len(tokens), seconds))
    return answers


# ---- Rehearsal: what it knows already is to stay -----------------------------------------------
def rehearsal_loss(
    model: nn.Module, batch: Batch, skipped: Skipped = NOTHING
) -> tuple[mx.array, mx.array]:
    """(sum over the tokens of KL(before || now), in nats; how many tokens).

    The Kullback-Leibler divergence of what the model finds likely now from what it found likely
    before training (of the likeliest tokens, and all others as one): 0 if nothing has changed.
    Learning without forgetting: arXiv 1606.09282.
    """
    tokens, ids, probabilities = batch
    first, shared = skipped
    logits = models.logits_from(model, tokens[:, :-1], first, shared).astype(mx.float32)
    ids, before = ids[:, first:], probabilities[:, first:]
    now = mx.exp(mx.take_along_axis(logits, ids, -1) - mx.logsumexp(logits, -1, keepdims=True))
    mask = before.sum(-1) > 0
    before, now = rehearsal.with_all_others(before), rehearsal.with_all_others(now)
    divergences = (before * mx.log(before / now)).sum(-1)
    return (divergences * mask).sum(), mask.sum().astype(mx.float32)


# ---- Training ----------------------------------------------------------------------------------
def skip_prompts(batch: Batch, shared: int) -> Skipped:
    """What need not be predicted of a batch: no answer begins there; all rows share the first."""
    _, prompt_lengths, _ = batch
    first = machine.skipped_length(max(int(prompt_lengths.min()) - 1, 0))
    return Skipped(first, min(shared, first))


def answer_logits(model: nn.Module, batch: Batch, skipped: Skipped) -> tuple[mx.array, ...]:
    """(logits (batch, length, vocabulary), targets and mask (batch, length)) of the next tokens.

    Of those after the skipped ones, none of which is an answer's.
    """
    tokens, prompt_lengths, lengths = batch
    first, shared = skipped
    logits = models.logits_from(model, tokens[:, :-1], first, shared).astype(mx.float32)
    position = mx.arange(first + 1, tokens.shape[1])
    # Only the answer's tokens count: the model is to answer, not to ask; and padding is nothing.
    mask = (position >= prompt_lengths[:, None]) & (position < lengths[:, None])
    return logits, tokens[:, first + 1 :], mask


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Minus the logarithm of the probability (softmax) that each target was given, in nats."""
    logits -= mx.stop_gradient(logits.max(-1, keepdims=True))  # so that no power overflows
    target_logits = mx.take_along_axis(logits, targets[..., None], -1).squeeze(-1)
    return mx.log((math.e**logits).sum(-1)) - target_logits  # on a CPU, 3 x as fast as MLX's own


def loss_fn(
    model: nn.Module, batch: Batch, skipped: Skipped = NOTHING
) -> tuple[mx.array, mx.array]:
    """(summed cross-entropy of the answers' tokens, each given those before, in nats; how many)."""
    logits, targets, mask = answer_logits(model, batch, skipped)
    return (cross_entropy(logits, targets) * mask).sum(), mask.sum().astype(mx.float32)


def held_out_loss(
    model: nn.Module, rows: list[Row], batch_size: int = 8
) -> tuple[float, float, int]:
    """(mean loss in nats, share of tokens that are the likeliest, number of rows of which all are).

    Only tokens that count. Such a row is one that the model would answer in these very words.
    """
    loss, likeliest, whole, token_count = 0.0, 0, 0, 0
    shared = models.shared_prefix_length(model, rows)
    for batch in batches(rows, batch_size, random.Random(0)):
        logits, targets, mask = answer_logits(model, batch, skip_prompts(batch, shared))
        right = (logits.argmax(-1) == targets) | ~mask
        loss += float((cross_entropy(logits, targets) * mask).sum())
        likeliest += int((right & mask).sum())
        whole += int(right.all(-1).sum())
        token_count += int(mask.sum())
    return loss / token_count, likeliest / token_count, whole


def warm_up_and_fade(learning_rate: float, iters: int) -> Callable[[mx.array], mx.array]:
    """The learning rate by step: rises over a tenth of the steps, then falls as a cosine."""
    warmup = max(iters // 10, 1)
    schedule = {"name": "cosine_decay", "arguments": [learning_rate, max(iters - warmup, 1)]}
    return build_schedule(schedule | {"warmup": warmup, "warmup_init": learning_rate / warmup})


def make_step(
    model: nn.Module,
    iters: int,
    learning_rate: float,
    rehearsal_weight: float = 1.0,
    shared: Sequence[int] = (0, 0),
) -> tuple[Callable[..., tuple[float, float]], list]:
    """(the training step, the state that it changes): Adam, its rate as warm_up_and_fade() says.

    shared: how many tokens all of the learner's examples begin with, and all everyday prompts.
    """
    # MLX's default, no correction, makes the first steps several times as long as the rate says.
    optimizer = optim.Adam(warm_up_and_fade(learning_rate, iters), bias_correction=True)

    def objective(
        model: nn.Module, batch: Batch, rehearsed: Batch | None, counts: list, skipped: list
    ) -> tuple[mx.array, ...]:
        """(what is to fall, the mean loss of the answers, that of rehearsal), in nats a token."""
        loss = loss_fn(model, batch, skipped[0])[0] / counts[0]
        forgotten = 0.0 * loss
        if rehearsed:
            forgotten = rehearsal_loss(model, rehearsed, skipped[1])[0] / counts[1]
        return loss + rehearsal_weight * forgotten, loss, forgotten

    loss_and_gradients = nn.value_and_grad(model, objective)

    def update(
        batch: Batch, rehearsed: Batch | None, counts: list, skipped: list
    ) -> tuple[mx.array, ...]:
        """One small change of what is not frozen; gives both mean losses, in nats, before it."""
        losses, gradients = loss_and_gradients(model, batch, rehearsed, counts, skipped)
        # Of several processes, each had its share of the batch.
        losses, gradients = nn.average_gradients([losses, gradients], machine.group())
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return losses[1:]

    state = [model.state, optimizer.state]
    if machine.COMPILES:
        update = partial(mx.compile, inputs=state, outputs=state)(update)

    def step(batch: Batch, rehearsed: Batch | None = None) -> tuple[float, float]:
        """One step on a batch of examples and one of everyday prompts; gives both mean losses."""
        _, prompt_lengths, lengths = batch
        counts, skipped = [(lengths - prompt_lengths).sum()], [skip_prompts(batch, shared[0])]
        if rehearsed:
            counts.append(rehearsal.count(rehearsed))
            skipped.append(rehearsal.skip_unkept(rehearsed, shared[1]))
        counts = [count / machine.group().size() for count in counts]
        rehearsed = machine.share(rehearsed) if rehearsed else None
        losses = update(machine.share(batch), rehearsed, counts, skipped)
        mx.eval(losses, state)
        return float(losses[0]), float(losses[1])

    return step, state


def train(
    model: nn.Module,
    rows: dict[str, list],
    first_answer: Callable[[], str],
    *,
    iters: int,
    steps_per_eval: int,
    batch_size: int,
    learning_rate: float,
    rehearsed: int,
    rehearsal_weight: float,
    seed: int,
) -> list[Check]:
    """Trains what is not frozen, and leaves it as it was at the best check.

    A check becomes the best if its score is lower than the best one's by more than TOLERANCE:
    valid's loss plus the share of the tokens of its own right answers that the model would not say
    again. Ends early when no check in two is better.
    Gives for each check: step, losses (in nats), tokens read, `first_answer()`, how many seconds it
    took, which was kept.
    """
    shared = [models.shared_prefix_length(model, rows[split]) for split in ("train", "everyday")]
    take_step, _ = make_step(model, iters, learning_rate, rehearsal_weight, shared)
    examples = endless_batches(rows["train"], batch_size, random.Random(seed))
    everyday = rehearsal.batches(rows["everyday"], rehearsed, random.Random(seed))
    losses: list[float] = []  # since the last check
    history: list[Check] = []
    best: Check = {}
    tokens_read, start = 0, time.perf_counter()
    for step in screen.with_progress_bar(range(iters + 1)):
        if step:
            batch = next(examples)
            prompts = next(everyday) if rows["everyday"] else None
            losses.append(take_step(batch, prompts)[0])
            machine.stop_if_not_finite(losses[-1], "loss", step)
            tokens_read += int(batch[2].sum()) + (prompts[0].size if prompts else 0)
        last = step == iters or machine.ctrl_c_pressed()
        if step % steps_per_eval and not last:
            continue
        check_began = time.perf_counter()
        loss = fmean(losses) if losses else None
        check: Check = {"step": step, "loss": loss, "tokens": tokens_read, "answer": first_answer()}
        check |= progress(model, rows, batch_size)
        if check["score"] is None:
            check["score"] = -step  # nothing says which is best: the last
        machine.stop_if_not_finite(check["valid"] or 0.0, "loss of valid", step)
        screen.show_check(check)
        history.append(check)
        losses.clear()
        if not best or check["score"] < best["score"] - TOLERANCE:
            best, best_weights = check, dict(tree_flatten(model.trainable_parameters()))
        check["seconds"] = time.perf_counter() - check_began
        too_late = step - best["step"] >= 2 * steps_per_eval
        if machine.synchronize(last or too_late):
            break
    best["kept"] = True
    model.load_weights([*best_weights.items()], strict=False)
    screen.show_cost(history, time.perf_counter() - start, TOLERANCE)
    if best["of"] < len(rows["valid"]):
        look_at_all_of_valid(model, rows["valid"], tokens_read)
    return history


def look_at_all_of_valid(model: nn.Module, rows: list[Row], tokens_trained_on: int) -> None:
    """Shows the loss of all of valid, of which the checks read a part, if that is quickly done."""
    tokens = sum(len(tokens) for tokens, _ in rows)
    if tokens < 0.2 * tokens_trained_on:  # a tenth of the training, which goes there and back
        screen.show_whole_valid(len(rows), held_out_loss(model, rows)[0])


def progress(model: nn.Module, rows: dict[str, list], batch_size: int) -> Check:
    """How far training has come: valid's loss, how many of its answers are right; what is kept."""
    valid = some_of(rows["valid"], VALID_BATCHES * batch_size)
    found: Check = {"valid": None, "right": 0, "of": len(valid), "keeps": None}
    if valid:
        found["valid"], _, found["right"] = held_out_loss(model, valid, batch_size)
    if rows["known"]:
        _, found["keeps"], _ = held_out_loss(model, rows["known"], batch_size)
    forgotten = 0.0 if found["keeps"] is None else 1 - found["keeps"]
    found["score"] = None if found["valid"] is None else found["valid"] + forgotten
    return found


def add_adapters(model: nn.Module, num_layers: int, fine_tune_type: str, lora: dict) -> None:
    """Freezes the weights, and puts adapters beside those of the last layers (LoRA or DoRA).

    With full, there are no adapters: the last layers' own weights are trained. -1: all layers.
    """
    model.freeze()
    if fine_tune_type != "full":
        linear_to_lora_layers(model, num_layers, lora, use_dora=fine_tune_type == "dora")
        return
    for layer in model.layers[-max(num_layers, 0) :]:
        layer.set_dtype(mx.float32)  # in half precision, small changes would be lost
        layer.unfreeze()


def fine_tune(
    model: nn.Module,
    config: dict,
    rows: dict[str, list],
    first_answer: Callable[[], str],
    *,
    num_layers: int,
    fine_tune_type: str,
    lora: dict = LORA,
    grad_checkpoint: bool,
    resume_adapter_file: Path | None,
    **settings: Any,  # noqa: ANN401  each has a type of its own
) -> list[Check]:
    """Adds adapters, and trains them with the settings of train(); gives what that gives."""
    add_adapters(model, num_layers, fine_tune_type, lora)
    longest = sorted(len(tokens) for tokens, _ in rows["train"])[-settings["batch_size"] :]
    sizes = (len(longest), longest[-1], grad_checkpoint)
    screen.show_memory(*models.memory_needed(model, config, *sizes))
    if grad_checkpoint:
        models.use_grad_checkpoint(model)
    if resume_adapter_file:
        saving.load_adapter_file(model, resume_adapter_file)
    same = settings | {"num_layers": num_layers, "fine_tune_type": fine_tune_type}
    machine.check_all_have_the_same(model, rows["train"], same)
    with machine.ctrl_c_noted(), machine.others_watched():
        model.train()  # some layers can only then be gone through backwards
        history = train(model, rows, first_answer, **settings)
        model.eval()
    return history


# ---- Evaluation --------------------------------------------------------------------------------
def choose_exam(
    data: dict[str, list[Example]], most_questions: int = 100
) -> tuple[list[Example], list[Example]]:
    """(the questions of the exam; those, and the same things asked in other words).

    The exam is test, or what was practised if there is none, and at most so many questions of it.
    """
    questions = {split: [e for e in examples if e.prompt] for split, examples in data.items()}
    exam = some_of(questions["test"] or questions["train"], most_questions)
    if not exam:
        machine.stop(f"{data['train'][0].place}: no questions in the data; {FORMAT}")
    answers, prompts = {words(e.completion) for e in exam}, {words(e.prompt) for e in exam}
    others = [
        example
        for example in questions["train"] + questions["valid"]
        if words(example.completion) in answers and words(example.prompt) not in prompts
    ]
    # First one more wording of each answer, then another of each, as many as there is room for.
    wordings: Counter[str] = Counter()
    turns = []
    for example in others:
        wordings[example.completion] += 1
        turns.append(wordings[example.completion])
    others = [example for _, example in sorted(zip(turns, others), key=lambda pair: pair[0])]
    return exam, exam + others[: max(MIN_QUESTIONS - len(exam), 0)]


def longest_answer(data: dict[str, list[Example]], rows: dict[str, list[Row]]) -> int:
    """The tokens of the longest answer that can be asked for."""
    pairs = (pair for split in ("train", "test") for pair in zip(data[split], rows[split]))
    return max(len(tokens) - prompt for example, (tokens, prompt) in pairs if example.prompt)


def is_right(given: Answer, example: Example) -> bool:
    """Whether an answer has the very words that are in the data."""
    return words(given.text) == words(example.completion)


def evaluate(questions: list[Example], exam: int, answers: list[Answer]) -> dict[str, Any]:
    """What an act got right, how often it said the same in other words, and what it cost.

    The first `exam` questions are examined; the others ask the same things in other words.
    """
    given_for: dict[tuple, Counter] = defaultdict(Counter)  # each right answer: what was answered
    for example, given in zip(questions, answers):
        given_for[words(example.completion)][words(given.text)] += 1
    examined, own = answers[:exam], scoring.own_words(questions[:exam])
    right = sum(map(is_right, examined, questions))
    right_or_wordy = sum(
        scoring.is_right_in_other_words(given.text, example, own)
        for given, example in zip(examined, questions)
    )
    same = sum(max(counts.values()) for counts in given_for.values())
    read, written = fmean(a.read for a in examined), fmean(a.written for a in examined)
    return {
        "right answers": right,
        "95 % interval": scoring.wilson_interval(right, exam),
        "right or wordy": right_or_wordy,
        "same answer in other words": same / len(answers),
        "ended by themselves": sum(a.ended for a in examined),
        "tokens read for each": read,
        "tokens for 1,000 questions": 1000 * (read + written),
        "seconds for each": fmean(a.seconds for a in examined),
    }


def compare(
    exam: list[Example], prompted: list[Answer], fine_tuned: list[Answer]
) -> scoring.Paired:
    """Which of the two is better, by the questions of the exam that only one of them got right."""
    right = [[*map(is_right, answers, exam)] for answers in (prompted, fine_tuned)]
    return scoring.compare_paired(*right)


def list_wrong(exam: list[Example], answers: list[Answer]) -> list[dict[str, str]]:
    """The questions of the exam that were answered wrongly: what was said, what was expected."""
    return [
        {"question": example.prompt, "expected": example.completion, "answer": given.text}
        for example, given in zip(exam, answers)
        if not is_right(given, example)
    ]


# ---- The lesson --------------------------------------------------------------------------------
def act(
    title: str, questions: list[Example], ask: Callable[[list[Example]], list[Answer]]
) -> list[Answer]:
    """Announces an act, asks all the questions, and shows the first few answers."""
    chapter(title)
    with console.status(f"asking {len(questions)} questions"):
        answers = ask(questions)
    screen.show_answers(questions[:4], answers)
    return answers


def main(args: Namespace) -> None:
    """The lesson: base model, prompt, training, fine-tuned model, evaluation."""
    machine.begin(args.adapter_path, args.seed)
    if args.judge:
        judging.judge(args.adapter_path)
        return
    data = load_data(args.data, args.model, args.exam, screen.tell)
    old_work = Rehearsal(load_everyday(args.data), load_known(args.data, args.model), encode_prompt)
    screen.describe_data(data, args.data)
    model, tokenizer, config = models.load(args.model)
    screen.describe_model(args.model, model, tokenizer, config)
    models.check_options(model, args.num_layers, args.fine_tune_type)
    context, chat = models.context_length(config), tokenizer.has_chat_template
    max_length = min(args.max_seq_length, context)
    data, rows, findings = encode_all(model, tokenizer, data, max_length)
    exam, questions = choose_exam(data, args.exam)
    rows["test"] = some_of(rows["test"], args.exam)
    screen.describe_caps(data, len(exam), VALID_BATCHES * args.batch_size)
    max_tokens = longest_answer(data, rows) + (24 if chat else 10)  # a chat model is wordy
    settings = recipes.training_settings(args, model, chat, len(rows["train"]))
    if machine.only_trains():  # of several processes, the first tells the story, and all train
        rows |= old_work.note(model, tokenizer)
        fine_tune(model, config, rows, lambda: "", **settings)
        return
    ask = partial(answer, model, tokenizer, max_tokens)
    ask_base = partial(ask, as_many_lines=not chat)

    acts = {"base": act("Base model: an employee with basic knowledge", questions, ask_base)}
    manual = make_manual(tokenizer, data["train"], min(context, MAX_MANUAL) - max_tokens)
    title = f"Prompt: she looks it up in {screen.describe_manual(manual, data['train'])}"
    acts["prompted"] = act(title, questions, partial(ask_base, manual=manual))

    chapter("Training: she studies and practises")
    show(findings)
    with console.status("answering everyday questions, before anything is learnt"):
        rows |= old_work.note(model, tokenizer)
    screen.describe_rehearsal(old_work.everyday, len(rows["everyday"]), settings["rehearsed"])
    before = {s: held_out_loss(model, rows[s])[0] for s in ("test", "general") if rows[s]}
    history = fine_tune(model, config, rows, lambda: ask_base(exam[:1])[0].text, **settings)
    saving.save_adapters(args.adapter_path, model, vars(args) | settings, LORA, history)

    acts["fine-tuned"] = act("Fine-tuned model: the manual stays shut", questions, ask)

    chapter(f"Evaluation: she is examined on {len(exam)} question{'s' * (len(exam) > 1)}")
    table = {name: evaluate(questions, len(exam), answers) for name, answers in acts.items()}
    after = {split: held_out_loss(model, rows[split])[0] for split in before}
    known = old_work.compare(model, tokenizer, data["train"])
    difference = compare(exam, acts["prompted"], acts["fine-tuned"])
    wrong = list_wrong(exam, acts["fine-tuned"])
    screen.show_evaluation(table, len(exam), before, after, known, difference)
    screen.show_wrong(wrong, len(exam), args.adapter_path)
    figures = {"table": table, "wrong": wrong, "loss before": before, "loss after": after}
    record = {"exam": len(exam), **figures, "known": known, "training": history}
    saving.save_record(args.adapter_path, vars(args) | settings, record, questions, acts)
    screen.what_next(args, tokenizer, exam, max_tokens)
    screen.converse(ask)


if __name__ == "__main__":
    with machine.exit_status():
        main(options.parse())
