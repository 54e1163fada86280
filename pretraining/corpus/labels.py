"""Texts and the labels after them: which mood, which kind of message, how urgent.

The list labels.txt holds a block for each set of labels: in brackets the labels, then sentences,
each behind its label.
"""

from .questions import fill
from .sentences import made_strange
from .values import (
    Rng,
    action,
    city,
    clock,
    color,
    food,
    made_up,
    money,
    noun,
    number,
    person,
    place,
    span,
)
from .word_lists import ADJECTIVES, DAYS, PROFESSIONS, read_blocks

SETS = [
    (head.strip("[]").split(" | "), [line.split(": ", 1) for line in lines])
    for head, *lines in read_blocks("labels")
]
LAYOUTS = (
    *("{text}\n{label}\n\n",) * 5,
    "{text} -> {label}\n",
    "Text: {text}\nLabel: {label}\n\n",
    "{text} ({label})\n",
    "{label}: {text}\n",
)


def slots(rng: Rng) -> dict[str, str]:
    """What is filled into a sentence."""
    return {
        "noun": noun(rng),
        "person": person(rng),
        "day": rng.choice(DAYS),
        "city": city(rng),
        "place": place(rng),
        "time": clock(rng),
        "profession": rng.choice(PROFESSIONS),
        "number": number(rng),
        "money": money(rng),
        "color": color(rng),
        "food": food(rng),
        "action": action(rng),
        "adjective": rng.choice(ADJECTIVES),
        "span": span(rng),
    }


def labeled(rng: Rng) -> str:
    """Six to fourteen texts with labels of one set; one time in three the labels are renamed."""
    labels, sentences = rng.choice(SETS)
    names = {label: label for label in labels}
    x = rng.random()
    if x < 0.2:
        names = {label: made_up(rng) for label in labels}
    elif x < 0.4:
        signs = rng.choice(("ABCDEF", "123456", "+-0?!*"))
        names = dict(zip(labels, rng.sample(signs, len(labels))))
    elif x < 0.5:
        names = {label: label.upper() for label in labels}
    layout = rng.choice(LAYOUTS)
    text = ""
    if rng.random() < 0.4:
        text = rng.choice(("Labels: ", "One of: ", "Kinds: ")) + ", ".join(names.values()) + "\n\n"
    chosen = rng.sample(sentences, min(len(sentences), rng.randrange(6, 15)))
    for label, sentence in chosen:
        said = fill(sentence, slots(rng))
        if rng.random() < 0.2:
            (said,) = made_strange(rng, [said], 0.2)
        text += layout.format(text=said, label=names[label])
    return text.rstrip("\n")
