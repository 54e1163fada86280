"""Sentences, and the records made from them: "Clara | 3 | lemon pie | Tuesday".

A document fixes one form and keeps to it: which facts of a sentence stand in the record, in what
order and how written. That can only be read from the examples before.

The list record_sentences.txt holds a block for each situation: in brackets the slots that each of
its sentences has, then the sentences.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from .sentences import countable, made_strange, past, plural, some_verb
from .values import (
    Rng,
    amount,
    any_word,
    city,
    clock,
    code,
    color,
    date,
    made_up,
    made_up_name,
    money,
    place,
    profession,
    span,
)
from .word_lists import (
    ADJECTIVES,
    ATTRIBUTES,
    DAYS,
    FIRST_NAMES,
    FOODS,
    NOUNS,
    NUMBERS,
    ORGANIZATIONS,
    read_blocks,
    read_list,
)

SITUATIONS = [(head.strip("[]").split(), lines) for head, *lines in read_blocks("record_sentences")]
FIELDS = dict(line.split(": ") for line in read_list("record_fields"))  # slot: names of the field
TITLES = (*("Questions and answers",) * 6, "Records", "Examples", "Entries", "Notes and entries")
LAYOUTS = {  # and how often each is drawn, next to the others
    "{sentence}\n{record}\n\n": 20,
    "{sentence}\n{record}\n": 2,
    "{sentence} -> {record}\n": 3,
    "Text: {sentence}\nRecord: {record}\n\n": 2,
    "Input: {sentence}\nOutput: {record}\n\n": 2,
    "Q: {sentence}\nA: {record}\n\n": 1,
    "- {sentence}\n  {record}\n": 1,
}
SEPARATORS = {
    " | ": 8,
    ", ": 4,
    "; ": 3,
    " / ": 2,
    " - ": 2,
    ",": 1,
    "|": 1,
    " > ": 1,
    "\t": 1,
    " : ": 1,
}

# ----------------------------------------------------------------------------------------------
# What a sentence speaks of
# ----------------------------------------------------------------------------------------------


def thing(rng: Rng) -> str:
    """A thing of one or two words, some of them made up: "lemon pie"."""
    if rng.loose and rng.random() < 0.7:
        last = countable(rng)
    else:
        last = rng.choice((*NOUNS, *FOODS)).split()[-1] if rng.random() < 0.6 else made_up(rng)
    if rng.random() < 0.25:
        return last
    return f"{any_word(rng) if rng.random() < 0.7 else rng.choice(ADJECTIVES)} {last}"


def first_name(rng: Rng) -> str:
    """A first name, more often a made-up one."""
    return rng.choice(FIRST_NAMES) if rng.random() < 0.4 else made_up_name(rng)


def count(rng: Rng) -> str:
    """A number from two to eighteen as a word, or up to 99 in digits."""
    return rng.choice(NUMBERS[2:]) if rng.random() < 0.75 else str(rng.randrange(2, 100))


KINDS: dict[str, Callable[[Rng], str]] = {
    "person": first_name,
    "organization": lambda rng: f"{made_up_name(rng)} {rng.choice(ORGANIZATIONS).title()}",
    "number": count,
    "things": thing,  # the plural is made where it is said
    "thing": thing,
    "day": lambda rng: rng.choice(DAYS),
    "date": date,
    "time": clock,
    "city": city,
    "place": place,
    "money": money,
    "code": code,
    "color": color,
    "profession": profession,
    "adjective": lambda rng: rng.choice(ADJECTIVES),
    "amount": amount,
    "span": span,
    "name": made_up_name,
}


def said(slot: str, value: str) -> str:
    """The value as the sentence has it: things in the plural."""
    return plural(value) if slot == "things" else value


# ----------------------------------------------------------------------------------------------
# A form of records, kept throughout a document
# ----------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """How records are written: their slots in order, how each value is, and how all are joined."""

    slots: list[str]
    writers: dict[str, Callable[[str], str]]
    join: Callable[[dict[str, str]], str]

    def record(self, values: dict[str, str]) -> str:
        """The record of a sentence's values."""
        written = {}
        for slot in self.slots:
            written[slot] = self.writers.get(slot, str)(values[slot])
        return self.join(written)


def some_form(rng: Rng, slots: list[str]) -> Form:
    """A form for sentences with these slots: all of them, or all but one."""
    chosen = list(slots)
    if rng.random() < 0.75:
        rng.shuffle(chosen)
    if len(chosen) > 2 and rng.random() < 0.2:
        chosen.pop()
    writers = {}
    if rng.random() < 0.85:
        writers["number"] = in_digits
    if rng.random() < 0.25:
        writers["things"] = plural
    if rng.random() < 0.15:
        writers["day"] = lambda day: day[:3]
    if rng.random() < 0.15:
        writers["person"] = rng.choice((str.upper, str.lower))
    return Form(chosen, writers, some_join(rng, chosen))


def in_digits(number: str) -> str:
    """A number in digits: "3" for "three"."""
    return str(NUMBERS.index(number)) if number in NUMBERS else number


def some_join(rng: Rng, slots: list[str]) -> Callable[[dict[str, str]], str]:
    """A way to join values: with a sign between them, with a name before each, as JSON."""
    separator = rng.choices(list(SEPARATORS), list(SEPARATORS.values()))[0]
    x = rng.random()
    if x < 0.66:
        opening, closing = rng.choice(
            (*(("", ""),) * 6, ("[", "]"), ("(", ")"), ("* ", ""), ("", "."))
        )
        return lambda values: opening + separator.join(values.values()) + closing
    keys = {slot: key_name(rng, slot) for slot in slots}
    if x < 0.84:
        between = rng.choice((": ", "=", " = ", ":"))
        return lambda values: separator.join(keys[s] + between + v for s, v in values.items())
    if x < 0.94:
        return lambda values: json.dumps(
            {keys[s]: int(v) if v.isdigit() and len(v) < 4 else v for s, v in values.items()},
            ensure_ascii=False,
        )
    words = [made_up(rng) if rng.random() < 0.5 else some_verb(rng) for _ in slots]
    return lambda values: " ".join(f"{word} {v}" for word, v in zip(words, values.values()))


def key_name(rng: Rng, slot: str) -> str:
    """What a field is called: "name" or "customer" for a person; one in six anything."""
    if rng.random() < 1 / 6:
        return rng.choice(ATTRIBUTES) if rng.random() < 0.5 else made_up(rng)
    return rng.choice(FIELDS[slot].split(", "))


# ----------------------------------------------------------------------------------------------
# Sentences
# ----------------------------------------------------------------------------------------------

PHRASES = {  # how a slot may stand in a sentence that is put together
    "person": ("for {}", "with {}", "from {}", "by {}", "for our {}", "as {} said"),
    "organization": ("for {}", "from {}", "at {}", "through {}"),
    "day": ("on {}", "by {}", "before {}", "for {}", "until {}", "this {}", "not later than {}"),
    "date": ("on {}", "by {}", "in or after {}", "since {}"),
    "time": ("at {}", "around {}", "before {}", "after {}"),
    "city": ("in {}", "from {}", "to {}", "near {}"),
    "place": ("in the {}", "behind the {}", "under the {}", "near the {}"),
    "money": ("for {}", "at {}", "costing {}", "worth {}"),
    "code": ("under {}", "with the code {}", "number {}", "({})"),
    "color": ("in {}", "all {}", "painted {}"),
    "profession": ("as a {}", "for the {}", "with the {}"),
    "adjective": ("and {}", "very {}", "still {}"),
    "amount": ("of {}", "with {}", "over {}"),
    "span": ("for {}", "after {}", "within {}"),
    "name": ("called {}", "on the {}", "for {}", "near {}"),
}
OPENINGS = ("", "", "", "Please note: ", "News: ", "It is sure that ", "Once more, ", "Hello, ")
ENDINGS = (".", ".", ".", ".", ", please.", "!", " as always.", ", thank you.", ", no more.", "?")


def put_together(rng: Rng, slots: list[str]) -> str:
    """A sentence with these slots that no list holds: "We grolled {number} {things} by {day}."."""
    rest = [slot for slot in slots if slot in PHRASES]
    rng.shuffle(rest)
    subject = rng.choice(("we", "they", "somebody", "I", "everybody", "the " + any_word(rng)))
    if "person" in rest and rng.random() < 0.4:
        rest.remove("person")
        subject = "{person}"
    middle = [past(some_verb(rng))]
    if "number" in slots:
        middle.append("{number} {things}" if "things" in slots else "{number} times")
    elif "things" in slots:
        middle.append("all the {things}")
    if "thing" in slots:
        middle.append(rng.choice(("the {thing}", "one {thing}", "our {thing}")))
    if "number" in slots and rng.random() < 0.3:
        middle.reverse()
        middle.append(f"by {subject}")
        subject = ""
    phrases = [rng.choice(PHRASES[slot]).format("{" + slot + "}") for slot in rest]
    first = phrases.pop() + rng.choice((" ", ", ")) if phrases and rng.random() < 0.35 else ""
    text = " ".join([*filter(None, [subject, *middle]), *phrases])
    return rng.choice(OPENINGS) + first + text + rng.choice(ENDINGS)


def some_sentences(rng: Rng) -> tuple[list[str], list[str]]:
    """(slots, sentences that have them): of one situation, or put together."""
    slots, lines = rng.choice(SITUATIONS)
    if rng.random() < 0.35:
        quantity = rng.random() < 0.6
        others = rng.sample(list(PHRASES), rng.choice((1, 2, 2, 3)))
        slots = [*others, *(["number", "things"] if quantity else ["thing"])]
        lines = [put_together(rng, slots) for _ in range(4)]
    lines = rng.sample(lines, min(len(lines), rng.choice((1, 2, 3, 4, 6))))
    if rng.random() < 0.3:
        lines = made_strange(rng, lines, 0.3)
    return slots, lines


def filled(rng: Rng, sentence: str, values: dict[str, str]) -> str:
    """The sentence with its slots filled in, and a capital at the start."""
    text = re.sub(r"\{(\w+)\}", lambda slot: said(slot[1], values[slot[1]]), sentence)
    return text[0].upper() + text[1:]


def examples(rng: Rng, number: int) -> list[tuple[str, str]]:
    """`number` pairs of a sentence and its record, all in one form."""
    slots, lines = some_sentences(rng)
    form, pairs = some_form(rng, slots), []
    # Some values come again, as in any file: the same three days, the same five goods.
    kept = {slot: [KINDS[slot](rng) for _ in range(6)] for slot in slots if rng.random() < 0.3}
    for _ in range(number):
        values = {
            slot: rng.choice(kept[slot]) if slot in kept else KINDS[slot](rng) for slot in slots
        }
        pairs.append((filled(rng, rng.choice(lines), values), form.record(values)))
    return pairs


def records(rng: Rng) -> str:
    """Four to fourteen sentences, each with its record."""
    layout = rng.choices(list(LAYOUTS), list(LAYOUTS.values()))[0]
    title = rng.choice(TITLES) + "\n\n" if rng.random() < 0.6 else ""
    pairs = examples(rng, rng.choice((4, 6, 8, 10, 12, 14)))
    text = title + "".join(layout.format(sentence=s, record=r) for s, r in pairs)
    return text.rstrip("\n")
