"""Formulas of the evaluation, whose rows are made in main.py's evaluate().

Right in other words, still known, leaked; how sure a share is.
"""

import math
import re
from collections import Counter, defaultdict
from itertools import chain
from statistics import NormalDist
from typing import NamedTuple

from lesson.dataset import Example, words


def own_words(examples: list[Example]) -> dict[str, frozenset[str]]:
    """The words that make each answer: those that no question to it and no other answer has.

    Where an answer takes a name or a number from its question, as a form that is filled in from it,
    all of its words.
    """
    question_words: dict[str, set[str]] = defaultdict(set)
    filled_in = set()
    for example in examples:
        question_words[example.completion] |= {*words(example.prompt)}
        names = {*re.findall(r"\w+", example.prompt)} & {*re.findall(r"\w+", example.completion)}
        if any(len(name) > 1 and not name.islower() for name in names):
            filled_in.add(example.completion)
    answer_words = {answer: {*words(answer)} for answer in question_words}
    answers_with = Counter(chain.from_iterable(answer_words.values()))
    own = {}
    for answer, all_words in answer_words.items():
        rare = {w for w in all_words - question_words[answer] if answers_with[w] == 1}
        # Short words such as "I" and "in" make no answer, unless there are no others.
        rare = {word for word in rare if len(word) > 3 or not word.isalpha()} or rare
        own[answer] = frozenset(rare if rare and answer not in filled_in else all_words)
    return own


def is_right_in_other_words(text: str, example: Example, own: dict[str, frozenset[str]]) -> bool:
    """Whether an answer has the words that make the right one, whatever else it says."""
    return own[example.completion] <= {*words(text)}


def is_known(text: str, example: Example) -> bool:
    """Whether a text holds the answer to an everyday question, or one of several: "seven or 7"."""
    text_words = " ".join(re.findall(r"\w+", text.lower()))
    answers = example.completion.lower().split(" or ")
    return any(f" {' '.join(words(answer))} " in f" {text_words} " for answer in answers)


def compare_known(
    known: list[Example], before: list[str], now: list[str], train: list[Example]
) -> list[dict]:
    """Each everyday question, its answers before and now, whether they are right, whether it leaks.

    A leak is an answer of the learner's to a question that is not hers.
    """
    answers = own_words([e for e in train if e.prompt]).values()
    compared = []
    for example, old, new in zip(known, before, now):
        new_words = {*words(new)} - {*words(f"{old} {example.prompt} {example.completion}")}
        compared.append(
            {"question": example.prompt, "expected": example.completion, "before": old, "now": new}
            | {"knew": is_known(old, example), "knows": is_known(new, example)}
            | {"leak": any(own <= new_words for own in answers)}
        )
    return compared


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Two shares, between which the true share of right answers lies in 95 of 100 such exams.

    Wilson's score interval (1927), which holds for few questions and for none or all right.
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (right + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(right * (total - right) / total + z * z / 4)
    return (middle - half if right else 0.0), (middle + half if right < total else 1.0)


class Paired(NamedTuple):
    """How two models did on the same questions: McNemar's exact test."""

    only_first: int  # questions that only the first answered rightly
    only_second: int
    p: float  # how likely it is that two equally good models differ at least as much
    enough: int | None  # about so many questions would tell; None if the two are even


def compare_paired(first: list[bool], second: list[bool]) -> Paired:
    """McNemar's exact test on which questions each of two models answered rightly.

    Questions that both answered alike say nothing of which is better; each of the others is, of two
    equally good models, as likely to be the first's as the second's (McNemar 1947).
    """
    ones = sum(a and not b for a, b in zip(first, second))
    others = sum(b and not a for a, b in zip(first, second))
    enough = math.ceil(len(first) * times_as_many(ones, others)) if ones != others else None
    return Paired(ones, others, chance(ones, others), enough)


def chance(ones: int, others: int) -> float:
    """How likely tosses of a coin are to fall at least as unevenly, to either side."""
    tosses, fewer = ones + others, min(ones, others)
    tail = sum(math.comb(tosses, k) for k in range(fewer + 1)) / 2**tosses
    return min(2 * tail, 1.0)


def times_as_many(ones: int, others: int) -> float:
    """How many times as many tosses, falling in the same proportion, would make a p of 0.05.

    Where the normal distribution, with the continuity correction (Edwards 1948), says so: n times
    as many tosses do where (n difference - 1) ** 2 is z ** 2 times n sum.
    """
    difference, total = abs(ones - others), ones + others
    half = difference + NormalDist().inv_cdf(0.975) ** 2 * total / 2
    return (half + math.sqrt(half**2 - difference**2)) / difference**2
