"""Other ways to ask a question and to answer it."""

import re

from .values import Rng, action, clock, noun, number, open_value, person, span
from .word_lists import ADJECTIVES, ATTRIBUTES, DAYS, read_blocks

# ----------------------------------------------------------------------------------------------
# Questions
# ----------------------------------------------------------------------------------------------


def read_rewordings() -> list[tuple[re.Pattern, list[str]]]:
    """(pattern, what may stand in its place) from lists/rewordings.txt."""
    return [
        (re.compile(pattern), [line.removeprefix("=> ") for line in replacements])
        for pattern, *replacements in read_blocks("rewordings")
    ]


REWORDINGS = read_rewordings()
# A question word with a capital that no longer stands first.
INSIDE = re.compile(r"(?<=[a-z,] )(?:What|Who|Where|When|How|Which|In|On|At|For|To|With|From|By)\b")


def reworded(rng: Rng, question: str) -> str:
    """The question asked in another of the ways that REWORDINGS has; as it is where none fits."""
    fitting = [(pattern, forms) for pattern, forms in REWORDINGS if pattern.search(question)]
    if not fitting:
        return question
    pattern, forms = rng.choice(fitting)
    text = pattern.sub(rng.choice(forms), question, count=1)
    text = INSIDE.sub(lambda word: word[0].lower(), text)
    return text[0].upper() + text[1:]


BEFORE_A_QUESTION = (
    "Please tell me: ",
    "Excuse me, ",
    "Hello! ",
    "Tell me, ",
    "Say, ",
    "I want to know: ",
    "And ",
    "One more thing: ",
    "Remind me, ",
    "So, ",
    "Do you know? ",
    "Quick question: ",
    "Now tell me. ",
)
AFTER_A_QUESTION = (
    ", please?",
    " again?",
    " exactly?",
    " now?",
    ", do you know?",
    " then?",
    " here?",
)


def rough(rng: Rng, question: str) -> str:
    """The question as people type it: now and then with a word more or less."""
    if rng.free and rng.random() < 0.55:
        question = reworded(rng, question)
        if rng.random() < 0.3:
            question = reworded(rng, question)
    x = rng.random()
    if x < 0.80:
        return question
    if x < 0.84:
        return question.lower()
    if x < 0.87:
        return question.rstrip("?")
    if x < 0.90:
        words = question.split()
        words.pop(rng.randrange(len(words)))
        return " ".join(words) or question
    if x < 0.97:
        before = rng.choice(BEFORE_A_QUESTION)
        if before[-2] in ":!?.":
            return before + question
        return before + question[0].lower() + question[1:]
    return question.rstrip("?") + rng.choice(AFTER_A_QUESTION)


# ----------------------------------------------------------------------------------------------
# Answers
# ----------------------------------------------------------------------------------------------


def free_form(rng: Rng, answer: str, value: str) -> str:
    """The answer as somebody else might give it: shorter, or with more around it."""
    x = rng.random()
    if x < 0.5:
        return answer
    who, thing = person(rng), noun(rng)
    if x < 0.68:
        before = (
            "Well, ",
            "Of course, ",
            "As far as I know, ",
            "Yes, ",
            "Oh, ",
            "You see, ",
            "In fact, ",
            "These days ",
            f"{who} says that ",
            f"Since {number(rng)}, ",
            f"Like {who}, ",
            f"With a {thing}, ",
            "I believe that ",
        )
        continued = answer if answer.startswith("I ") else answer[0].lower() + answer[1:]
        return rng.choice(before) + continued
    if x < 0.86:
        after = (
            f", and {action(rng)}.",
            f", with a {thing}.",
            f", not {open_value(rng)}.",
            ", as everybody knows.",
            ", very slowly.",
            f", like {who}.",
            f" or {open_value(rng)}.",
            ", and nothing else.",
            f", for {span(rng)}.",
            f", but {action(rng)} first.",
            f", says {who}.",
            f" because the {thing} is {rng.choice(ADJECTIVES)}.",
            f"; ask {who}.",
            f", since {rng.choice(DAYS)}.",
        )
        return answer.rstrip(".") + rng.choice(after)
    short = (
        f"{value}",
        f"{value}.",
        f"It is {value}.",
        f"{value}, of course.",
        f"That is {value}.",
        f"Only {value}.",
        f"{value} or {open_value(rng)}.",
        f"Try {value}.",
    )
    text = rng.choice(short)
    return text[0].upper() + text[1:]


def any_sentence(rng: Rng) -> str:
    """A sentence that answers no question in particular, so that it can only be looked up."""
    who, thing = person(rng), noun(rng)
    first, second = action(rng), action(rng)
    capital = first[0].upper() + first[1:]
    return rng.choice(
        (
            f"{capital} and {second}.",
            f"{capital} until the {thing} is {rng.choice(ADJECTIVES)}.",
            f"{who} will {first}.",
            f"A {rng.choice(ADJECTIVES)} {thing} means that you have to {first}.",
            f"You can {first} if you {second}.",
            f"The {thing} has the {rng.choice(ATTRIBUTES)} {open_value(rng)}.",
            f"Ask {who}, who can {first}.",
            f"{rng.choice(DAYS)} at {clock(rng)}, in the {thing}.",
            f"Every {noun(rng)} of {open_value(rng)} has one {thing}.",
            f"No, but {who} does.",
            f"{who} and {person(rng)}, with the {thing}.",
            f"It was the {thing} in {number(rng)}.",
        )
    )
