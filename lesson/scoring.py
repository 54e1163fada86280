"""The evaluation's formulas: right in other words, still known, leaked; how sure a share is."""

import math
import re
from collections import Counter, defaultdict
from itertools import chain
from statistics import NormalDist

from lesson.dataset import Example, words


def own_words(examples: list[Example]) -> dict[str, frozenset[str]]:
    """For each answer the words that make it: those that no question to it and no other answer has.

    Where an answer takes a name or a number from its question, as a form does that is filled in from
    it, all of its words.
    """
    asked, filled_in = defaultdict(set), set()
    for example in examples:
        asked[example.completion] |= {*words(example.prompt)}
        names = {*re.findall(r"\w+", example.prompt)} & {*re.findall(r"\w+", example.completion)}
        if any(len(name) > 1 and not name.islower() for name in names):
            filled_in.add(example.completion)
    answers = {answer: {*words(answer)} for answer in asked}
    among = Counter(chain.from_iterable(answers.values()))
    own = {}
    for answer, said in answers.items():
        rare = {word for word in said - asked[answer] if among[word] == 1}
        # Short words such as "I" and "in" make no answer, unless there are no others.
        rare = {word for word in rare if len(word) > 3 or not word.isalpha()} or rare
        own[answer] = frozenset(rare if rare and answer not in filled_in else said)
    return own


def is_right_in_other_words(given, example: Example, own: dict[str, frozenset[str]]) -> bool:
    """Whether an answer has the words that make the right one, whatever else it says."""
    return own[example.completion] <= {*words(given.text)}


def is_known(text: str, example: Example) -> bool:
    """Whether an answer to an everyday question holds the right one, or one of several: "seven or 7"."""
    said = " ".join(re.findall(r"\w+", text.lower()))
    rights = example.completion.lower().split(" or ")
    return any(f" {' '.join(words(right))} " in f" {said} " for right in rights)


def compare_known(
    known: list[Example], before: list[str], now: list[str], train: list[Example]
) -> list[dict]:
    """For each everyday question what was and is answered, whether that is right, and whether it leaks.

    A leak is an answer of the learner's to a question that is not hers.
    """
    answers = [own for own in own_words([e for e in train if e.prompt]).values() if own]
    compared = []
    for example, was, text in zip(known, before, now):
        news = (
            {*words(text)} - {*words(was)} - {*words(example.prompt)} - {*words(example.completion)}
        )
        compared.append(
            {"question": example.prompt, "expected": example.completion, "before": was, "now": text}
            | {"knew": is_known(was, example), "knows": is_known(text, example)}
            | {"leak": any(own <= news for own in answers)}
        )
    return compared


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """Two shares, between which the true share of right answers lies in 95 of 100 such exams.

    Wilson's score interval (1927), which holds for few questions and for none or all right.
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (right + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(right * (of - right) / of + z * z / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)
