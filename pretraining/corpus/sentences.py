"""Sentences in words that nobody has put together, so that they can only be read."""

import re

from .values import (
    PREPOSITIONS,
    Rng,
    action,
    any_word,
    city,
    clock,
    day,
    made_up,
    number,
    open_value,
    person,
    place,
    span,
    syllable,
)
from .word_lists import ADJECTIVES, PROFESSIONS, VERBS, read_list, read_pairs

# Words that stay as they are when a text is made strange: they carry its grammar.
GRAMMAR = frozenset(read_list("grammar"))
WORD = re.compile(r"(?<![\w'{`.@/-])[a-z]{4,}(?![\w'}@`/-])")
IRREGULAR = dict(read_pairs("irregular_verbs"))
GOODS = read_list("goods")  # nouns whose plural is regular
NOUN_ENDINGS = read_list("noun_endings")  # "let", "ry"; common ones stand there more than once


def plural(noun: str) -> str:
    """The plural of a noun by the rules: tartlets, pastries, boxes."""
    if re.search("[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search("(s|x|z|ch|sh)$", noun) else "s")


def past(verb: str) -> str:
    """The past tense of a verb: "carried", "brought"."""
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if re.search("[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def some_verb(rng: Rng) -> str:
    """A verb, one in four made up."""
    return rng.choice(VERBS) if rng.random() < 0.75 else made_up(rng)


def made_strange(rng: Rng, texts: list[str], share: float) -> list[str]:
    """The texts with some of their words replaced by others, the same ones in all of them.

    "A repair takes two days" may become "A lantern takes two brells". Words of GRAMMAR stay.
    """
    words = sorted({word for text in texts for word in WORD.findall(text)} - GRAMMAR)
    others = {word: any_word(rng) for word in words if rng.random() < share}
    return [WORD.sub(lambda match: others.get(match[0], match[0]), text) for text in texts]


def countable(rng: Rng) -> str:
    """A noun that has a plural by the rules, most of them made up: "lantern", "grimlet"."""
    if rng.random() < 0.35:
        return rng.choice(GOODS)
    front = syllable(rng) if rng.random() < 0.7 else made_up(rng)
    return front + rng.choice(NOUN_ENDINGS)


# ----------------------------------------------------------------------------------------------
# Sentences of which no word follows from those before
# ----------------------------------------------------------------------------------------------

CONNECTIVES = (
    ", and ",
    ", but ",
    " and then ",
    ", because ",
    ", so ",
    " if ",
    " when ",
    " until ",
    " while ",
    ", unless ",
    "; ",
    " before ",
    " after ",
    ", since ",
    ", although ",
    " where ",
    ", or ",
    ", as ",
)


def spliced(rng: Rng, beginning: str, end: str) -> str:
    """The beginning of one sentence with the end of another, joined before a word of GRAMMAR.

    "Drop it in the top drawer before the cook clears the table."
    """
    first, second = beginning.split(), end.split()
    if min(len(first), len(second)) < 4:
        return beginning
    joints = [i for i in range(1, len(second) - 1) if second[i].lower() in GRAMMAR]
    start = rng.choice(joints) if joints else len(second) // 2
    return " ".join(first[: rng.randrange(2, len(first))] + second[start:])


def noun_phrase(rng: Rng) -> str:
    """Somebody or something: "the soft grimlet", "Ida", "two of your lanterns"."""
    x = rng.random()
    if x < 0.25:
        return rng.choice(("you", "we", "nobody", "somebody", "they", "everyone", "it"))
    if x < 0.4:
        return person(rng)
    if x < 0.5:
        return f"{rng.choice(('the', 'a', 'every', 'our'))} {rng.choice(PROFESSIONS)}"
    if x < 0.6:
        return open_value(rng)
    word = countable(rng) if rng.random() < 0.5 else any_word(rng)
    if rng.random() < 0.3:
        word = f"{rng.choice(ADJECTIVES) if rng.random() < 0.5 else any_word(rng)} {word}"
    if rng.random() < 0.25:
        return f"{rng.choice(('all', 'two', 'some', 'both', 'many', 'the', 'your'))} {plural(word)}"
    return f"{rng.choice(('the', 'the', 'the', 'a', 'your', 'our', 'this', 'every'))} {word}"


def predicate(rng: Rng) -> str:
    """What somebody or something does or is, without its subject: "carried the red box home"."""
    x, verb = rng.random(), some_verb(rng)
    if x < 0.3:
        return f"{past(verb)} {noun_phrase(rng)}"
    if x < 0.5:
        word = rng.choice(("can", "must", "may", "will", "should", "cannot", "could", "has to"))
        return f"{word} {action(rng) if rng.random() < 0.5 else f'{verb} {noun_phrase(rng)}'}"
    if x < 0.65:
        word = rng.choice(("is", "was", "stays", "becomes", "looks", "is not", "is never"))
        return f"{word} {rng.choice(ADJECTIVES) if rng.random() < 0.5 else any_word(rng)}"
    if x < 0.8:
        return f"{rng.choice(('has', 'needs', 'brings', 'takes', 'keeps'))} {noun_phrase(rng)}"
    return f"is {past(verb)} {rng.choice(('by', *PREPOSITIONS))} {noun_phrase(rng)}"


def adverbial(rng: Rng) -> str:
    """When, where or how: "behind the grimlet", "for 3 days", "slowly"."""
    return rng.choice(
        (
            f"{rng.choice(PREPOSITIONS)} {noun_phrase(rng)}",
            f"{rng.choice(PREPOSITIONS)} {noun_phrase(rng)}",
            f"for {span(rng)}",
            f"at {clock(rng)}",
            f"on {day(rng)}",
            f"in {city(rng)}",
            f"in the {place(rng)}",
            f"{number(rng)} times",
            rng.choice(("slowly", "again", "at once", "together", "alone", "by hand", "often")),
        )
    )


def main_clause(rng: Rng) -> str:
    """A main clause, with an adverbial or without: "the grimlet needs two lanterns on Monday"."""
    text = f"{noun_phrase(rng)} {predicate(rng)}"
    if rng.random() < 0.45:
        text += " " + adverbial(rng)
    return text


def loose_sentence(rng: Rng) -> str:
    """One clause or two, or an instruction, in words that are drawn one by one."""
    text = main_clause(rng) if rng.random() < 0.75 else action(rng)
    if rng.random() < 0.2:
        text = f"{adverbial(rng)}{rng.choice((', ', ' '))}{text}"
    if rng.random() < 0.55:
        text += rng.choice(CONNECTIVES) + main_clause(rng)
    return text[0].upper() + text[1:] + "."


def loose_ending(rng: Rng) -> str:
    """What may be added to any sentence: "; Ida painted the box on Monday."."""
    if rng.random() < 0.3:
        return f"{rng.choice((', ', ' '))}{adverbial(rng)}."
    return rng.choice(CONNECTIVES) + main_clause(rng) + "."
