"""What the model can do so far: go on with a form, and read answers from its context."""

import json
from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx
from mlx import nn
from mlx_lm.generate import generate_step
from tokenizers import Tokenizer

from corpus import END, Rng
from corpus.questions import entries
from corpus.records import examples

DATA = Path(__file__).resolve().parents[1] / "data"
OPENINGS = (
    "What is your first name?",
    "Where do you live?",
    "When do you open?",
    "What is your job?",
    "How do I open the box?",
)


def continuation(model: nn.Module, tokenizer: Tokenizer, text: str) -> str:
    """The line that the model puts after the text: the likeliest tokens, 40 at most."""
    ids, end = [], tokenizer.token_to_id(END)
    for token, _ in generate_step(mx.array(tokenizer.encode(text).ids), model, max_tokens=40):
        ids.append(token)
        if token == end or "\n" in tokenizer.decode(ids).lstrip("\n"):
            break
    return tokenizer.decode(ids).strip()


def sample(model: nn.Module, tokenizer: Tokenizer) -> str:
    """What it says after the beginnings of a form, of a fact, and of a story."""
    texts = ("What is your first name?", "The capital of France is", "In Oslo there lived a")
    return "says: " + "; ".join(f"{t} -> {continuation(model, tokenizer, t)!a}" for t in texts)


def measure(model: nn.Module, tokenizer: Tokenizer) -> str:
    """How many answers it reads from its context, and how many bare questions it goes on from."""
    asked = 40
    right = answers_from_context(model, tokenizer, asked)
    made = records_from_context(model, tokenizer, asked)
    known = lesson_answers(model, tokenizer)
    after = [continuation(model, tokenizer, question) for question in OPENINGS]
    forms = sum(line.endswith("?") for line in after)
    return (
        f"answers from context: {right} of {asked}; records: {made} of {asked}; "
        f"the lesson's: {sum(known)} of {len(known)}; "
        f"continues a form: {forms} of {len(after)} ({after[0]})"
    )


def as_manual(rows: Iterable[tuple[str, str]]) -> str:
    """Questions and answers, as main.py puts them before a question."""
    return "Questions and answers\n\n" + "".join(f"{q}\n{a}\n\n" for q, a in rows)


def answers_from_context(model: nn.Module, tokenizer: Tokenizer, count: int) -> int:
    """How many of `count` questions it answers from a manual that words them otherwise."""
    rng, right, asked = Rng("abilities"), 0, 0
    while asked < count:
        _, rows = entries(rng, 8)
        text = as_manual((wordings[0], answer) for wordings, answer in rows)
        wordings, answer = rng.choice(rows)
        fits = len(tokenizer.encode(text).ids) < 420  # with room for the question and its answer
        if len(rows) > 3 and len(wordings) > 2 and fits:
            asked += 1
            question = rng.choice(wordings[1:])
            right += continuation(model, tokenizer, text + question) == answer
    return right


def records_from_context(model: nn.Module, tokenizer: Tokenizer, count: int) -> int:
    """How many of `count` sentences it makes records of, after eight examples in the same form."""
    rng, right, asked = Rng("abilities"), 0, 0
    rng.free = True
    while asked < count:
        *shown, (sentence, record) = examples(rng, 9)
        text = as_manual(shown)
        if len(tokenizer.encode(text + sentence + record).ids) < 500:
            asked += 1
            right += continuation(model, tokenizer, text + sentence) == record
    return right


def lesson_answers(model: nn.Module, tokenizer: Tokenizer) -> list[bool]:
    """Whether it answers each question of the lesson's exam from a manual of its examples."""
    first = {answer: question for question, answer in reversed(lesson_examples("train"))}
    text = as_manual((question, answer) for answer, question in reversed(first.items()))
    return [
        continuation(model, tokenizer, text + question) == answer
        for question, answer in lesson_examples("test")
    ]


def lesson_examples(split: str) -> list[tuple[str, str]]:
    """The (prompt, completion) pairs of data/`split`.jsonl; none if there is no such file."""
    path = DATA / f"{split}.jsonl"
    lines = path.read_text("utf-8").split("\n") if path.exists() else []
    records = [json.loads(line) for line in lines if line.strip()]
    return [(r["prompt"], r["completion"]) for r in records if "completion" in r]
