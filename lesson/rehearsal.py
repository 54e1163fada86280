"""What the model knows before it is trained: noted, to be rehearsed and asked again."""

import os
import random
from collections.abc import Callable, Iterator

import mlx.core as mx
from mlx import nn
from mlx_lm.tokenizer_utils import TokenizerWrapper

from lesson.dataset import Example, Row
from lesson.machine import Batch, padded_length, skipped_length
from lesson.models import Skipped, generate, logits_from, shared_prefix_length
from lesson.scoring import compare_known, is_known

NOTED = 4  # answers are read at once, which takes less memory than a step of training
LIKELIEST = 64  # tokens whose probabilities are kept at each position; all others count as one

NotedRow = tuple[list[int], mx.array, mx.array]  # tokens, ids, probabilities: see note_answers()


class Rehearsal:
    """What the model knows already: noted before training, rehearsed in it, asked again at the end.

    everyday: the prompts to rehearse; known: questions that it may know, none of them rehearsed.
    encode_prompt(tokenizer, example, few-shot examples) gives the tokens that the model reads.
    """

    def __init__(
        self, everyday: list[Example], known: list[Example], encode_prompt: Callable
    ) -> None:
        """Nothing is asked yet, as no model is there."""
        self.everyday, self.known, self.encode_prompt = everyday, known, encode_prompt
        self.few_shot: list[Example] = []
        self.questions = known  # those of the known that do not show how to answer
        self.answers_before: list[str] = []

    def note(self, model: nn.Module, tokenizer: TokenizerWrapper) -> dict[str, list]:
        """Rows of what the model says now: to everyday prompts; and to known questions, if right.

        A base model is shown a few answered questions before each question: that it goes on with a
        bare one is what it has to unlearn, so that is not rehearsed.
        """
        chat = tokenizer.has_chat_template
        self.few_shot, self.questions = split_few_shot(self.known, chat)
        questions = [e for e in self.everyday if e.prompt.endswith("?")]
        beginnings = [e for e in self.everyday if e not in questions]
        parts: list[tuple[list[Example], list[Example]]] = [(self.everyday, [])]
        if not chat:
            parts = [(beginnings, []), (questions if self.few_shot else [], self.few_shot)]
        rehearsed: list[NotedRow] = []
        for examples, few_shot in parts:
            prompts = [self.encode_prompt(tokenizer, example, few_shot) for example in examples]
            rehearsed += note_answers(model, tokenizer, prompts)
        self.answers_before, right = self.ask(model, tokenizer)
        return {"everyday": rehearsed, "known": right}

    def ask(self, model: nn.Module, tokenizer: TokenizerWrapper) -> tuple[list[str], list[Row]]:
        """(what the model answers to the known questions; the right ones as rows)."""
        prompts = [self.encode_prompt(tokenizer, e, self.few_shot) for e in self.questions]
        return recall(model, tokenizer, self.questions, prompts)

    def compare(
        self, model: nn.Module, tokenizer: TokenizerWrapper, learnt: list[Example]
    ) -> list[dict]:
        """What compare_known() says of the known questions, after training on what is `learnt`."""
        answers_now, _ = self.ask(model, tokenizer)
        return compare_known(self.questions, self.answers_before, answers_now, learnt)


def split_few_shot(known: list[Example], chat: bool) -> tuple[list[Example], list[Example]]:
    """(few-shot examples, which show how questions are answered; the questions left to ask).

    A base model goes on with a bare question by asking another, so the first three show it how to
    answer. A chat model needs none, nor does the beginning of a sentence that is to be ended.
    """
    if chat or not all(e.prompt.endswith("?") for e in known) or len(known) <= 3:
        return [], known
    return known[:3], known[3:]


def note_answers(
    model: nn.Module, tokenizer: TokenizerWrapper, prompts: list[list[int]], max_tokens: int = 24
) -> list[NotedRow]:
    """What the model says to each everyday prompt before it is trained, and what else it might.

    For each, (tokens, ids, probabilities): the prompt and what the model says (length); and for
    each token but the first (length - 1, LIKELIEST) the likeliest tokens and their probabilities.
    Zeros where nothing is to be kept, as of the beginning that all prompts have in common.
    """
    _, replies = generate(model, tokenizer, prompts, max_tokens)
    # A reply that is shorter than it could be ended by itself.
    ended = [[tokenizer.eos_token_id] * (len(reply) < max_tokens) for reply in replies]
    texts = [[*prompt, *reply, *end] for prompt, reply, end in zip(prompts, replies, ended)]
    first = max(len(os.path.commonprefix(prompts)), 1)
    shared = min(shared_prefix_length(model, [(tokens,) for tokens in texts]), first - 1)
    rows: dict[int, NotedRow] = {}
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for group in (by_length[i : i + NOTED] for i in range(0, len(texts), NOTED)):
        longest = len(texts[group[-1]])
        padded = mx.array([texts[i] + [0] * (longest - len(texts[i])) for i in group])
        logits = logits_from(model, padded[:, :-1], first - 1, shared).astype(mx.float32)
        likeliest = min(LIKELIEST, logits.shape[-1] - 1)
        ids = mx.argpartition(-logits, likeliest, -1)[..., :likeliest]
        kept = mx.take_along_axis(logits, ids, -1)
        probabilities = mx.exp(kept - mx.logsumexp(logits, -1, keepdims=True))
        mx.eval(ids, probabilities)
        for row, i in enumerate(group):
            length, unkept = len(texts[i]) - first, [(first - 1, 0), (0, 0)]
            mine, how_likely = (mx.pad(a[row, :length], unkept) for a in (ids, probabilities))
            rows[i] = (texts[i], mine, how_likely)
    return [rows[i] for i in range(len(texts))]


def batches(rows: list[NotedRow], batch_size: int, rng: random.Random) -> Iterator[Batch]:
    """Without end: (tokens (batch, length), ids, probabilities (batch, length - 1, LIKELIEST))."""
    while True:
        order = rng.sample(rows, len(rows))
        for group in (order[i : i + batch_size] for i in range(0, len(order), batch_size)):
            length = padded_length(max(len(tokens) for tokens, _, _ in group))
            padding = [length - len(tokens) for tokens, _, _ in group]
            tokens = mx.array([row[0] + [0] * n for row, n in zip(group, padding)])
            ids = mx.stack([mx.pad(row[1], [(0, n), (0, 0)]) for row, n in zip(group, padding)])
            before = mx.stack([mx.pad(row[2], [(0, n), (0, 0)]) for row, n in zip(group, padding)])
            yield tokens, ids, before


def count(batch: Batch) -> mx.array:
    """How many tokens of a batch are to be kept as they are."""
    return (batch[2].sum(-1) > 0).sum()


def skip_unkept(batch: Batch, shared: int) -> Skipped:
    """The tokens of a batch before any that is to be kept, of which so many are `shared`."""
    first = skipped_length(int((batch[2].sum(-1) > 0).any(0).argmax()))
    return Skipped(first, min(shared, first))


def with_all_others(probabilities: mx.array) -> mx.array:
    """The probabilities of the likeliest tokens, and of all other tokens together."""
    others = 1 - probabilities.sum(-1, keepdims=True)
    return mx.maximum(mx.concatenate([probabilities, others], -1), 1e-6)  # so that none is 0


def recall(
    model: nn.Module, tokenizer: TokenizerWrapper, known: list[Example], prompts: list[list[int]]
) -> tuple[list[str], list[Row]]:
    """(the model's answers to the questions that it may know; the right ones as rows)."""
    _, replies = generate(model, tokenizer, prompts, 24)
    texts, rows = [], []
    for example, prompt, tokens in zip(known, prompts, replies):
        text = tokenizer.decode(tokens).strip()
        if not tokenizer.has_chat_template:  # a base model goes on; what counts is its first line
            text, tokens = text.split("\n")[0].strip(), first_line(tokenizer, tokens)
        texts.append(text)
        if is_known(text, example) and tokens:
            rows.append(([*prompt, *tokens], len(prompt)))
    return texts, rows


def first_line(tokenizer: TokenizerWrapper, tokens: list[int]) -> list[int]:
    """The tokens of the first line that is not empty."""
    for length in range(1, len(tokens) + 1):
        if "\n" in tokenizer.decode(tokens[:length]).strip():
            return tokens[: length - 1]
    return tokens
