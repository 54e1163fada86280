"""Values, drawn from everywhere, so that reading them is the only way to know them."""

import re
import string
from random import Random

from .word_lists import (
    ADJECTIVES,
    ATTRIBUTES,
    CITIES,
    COLORS,
    DAYS,
    FIRST_NAMES,
    FOODS,
    HOBBIES,
    MONTHS,
    NOUNS,
    NUMBERS,
    PETS,
    PLACES,
    PROFESSIONS,
    SURNAMES,
    VERBS,
    read_list,
)


class Rng(Random):
    """A random generator, and how the text made with it is written.

    free: it answers in any form and asks in more ways; see FREE_FROM in corpus/__init__.py.
    loose: its sentences may end in any way, and its nouns as any noun does; see SENTENCES_FROM.
    """

    free = False
    loose = False


# ----------------------------------------------------------------------------------------------
# Made-up words
# ----------------------------------------------------------------------------------------------

ONSETS = read_list("syllable_onsets")
VOWELS = read_list("syllable_vowels")
RARE_VOWELS = 3  # so many stand at the list's end: letters with accents
CODAS = ["", "", "", "", *read_list("syllable_codas")]
BLENDED = (  # whose halves make up a word; nouns twice as often
    NOUNS,
    NOUNS,
    ADJECTIVES,
    ATTRIBUTES,
    FIRST_NAMES,
    SURNAMES,
    CITIES,
    VERBS,
    PROFESSIONS,
)


def made_up(rng: Rng) -> str:
    """A word that nobody has seen, of one to four syllables."""
    if rng.free and rng.random() < 0.35:
        return blend(rng)
    syllables = rng.choice((1, 2, 2, 2, 2, 3, 3))
    word = "".join(syllable(rng) for _ in range(syllables))
    if rng.random() < 0.1:
        word = rng.choice("aeiou") + word
    return word if len(word) > 2 else word + rng.choice(ONSETS) + rng.choice("aeio")


def blend(rng: Rng) -> str:
    """The front of one word and the back of another."""
    front = rng.choice(rng.choice(BLENDED)).lower()
    back = rng.choice(rng.choice(BLENDED)).lower()
    word = front[: rng.randrange(1, len(front))] + back[rng.randrange(1, len(back)) :]
    return word if len(word) > 2 else front + back


def syllable(rng: Rng) -> str:
    """Consonants, a vowel or two, and in about every other syllable consonants to end with."""
    onset = rng.choice(ONSETS)
    vowel = rng.choice(VOWELS[:-RARE_VOWELS] if rng.random() < 0.98 else VOWELS)
    coda = rng.choice(CODAS) if rng.random() < 0.55 else ""
    return onset + vowel + coda


# ----------------------------------------------------------------------------------------------
# Any value at all
# ----------------------------------------------------------------------------------------------


def number(rng: Rng) -> str:
    """Digits, mostly; now and then a word."""
    if rng.random() < 0.8:
        digits = rng.choice((1, 2, 2, 3, 4))
        return str(rng.randrange(10**digits))
    return rng.choice(NUMBERS)


CODES = (  # "#" is a digit
    "{word}@{word}.{domain}",
    "www.{word}.{domain}",
    "{digits}",
    "###-####",
    "+## ### ####",
    "{key}",
    "{WORD}-##",
    "{word}##",
    "`{word} --{word} #`",
    "`{word}.{word}({word})`",
    "{word}_{word}",
    '"{word}"',
    "/{word}/{word}.txt",
    "Ctrl+{letter}",
)


def code(rng: Rng) -> str:
    """A key, an address, a telephone number, a command: what has to be copied sign by sign."""
    return re.sub(r"#|\{\w+\}", lambda slot: code_part(rng, slot[0]), rng.choice(CODES))


def code_part(rng: Rng, slot: str) -> str:
    """What stands in the place of a slot of CODES."""
    if slot == "#":
        return rng.choice(string.digits)
    if slot == "{digits}":
        return "".join(rng.choice(string.digits) for _ in range(rng.choice((3, 4, 6, 7))))
    if slot == "{key}":  # no I and no O, which look like digits
        signs = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
        return "".join(rng.choice(signs) for _ in range(rng.choice((2, 3, 4, 5))))
    if slot == "{letter}":
        return rng.choice(string.ascii_uppercase)
    if slot == "{domain}":
        return rng.choice(("com", "org", "example", "net"))
    word = made_up(rng) if rng.random() < 0.7 else rng.choice(NOUNS)
    return word.upper() if slot == "{WORD}" else word


def open_value(rng: Rng) -> str:
    """One to three words, made up or not, with or without capitals, or a number or a code."""
    x = rng.random()
    if x < 0.08:
        return number(rng)
    if x < 0.14:
        return code(rng)
    words = [any_word(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.5:
        words = [word.capitalize() for word in words]
    if len(words) == 3 and rng.random() < 0.5:
        words[1] = rng.choice(("of", "and", "in", "with", "for", "on"))
    return " ".join(words)


def any_word(rng: Rng) -> str:
    """A word, half of the time a made-up one."""
    x = rng.random()
    if x < 0.5:
        return made_up(rng)
    if x < 0.8:
        return rng.choice(NOUNS)
    return rng.choice(ADJECTIVES if x < 0.9 else ATTRIBUTES)


# ----------------------------------------------------------------------------------------------
# Values of a kind
# ----------------------------------------------------------------------------------------------


def noun(rng: Rng) -> str:
    """A thing to ask about: mostly one word, sometimes two, sometimes made up."""
    x = rng.random()
    if x < 0.55:
        return rng.choice(NOUNS)
    if x < 0.7:
        return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    if x < 0.85:
        return f"{rng.choice(NOUNS)} {rng.choice(NOUNS)}"
    return made_up(rng) if x < 0.95 else f"{made_up(rng)} {rng.choice(NOUNS)}"


def made_up_name(rng: Rng) -> str:
    """A made-up word with a capital."""
    return made_up(rng).capitalize()


def person(rng: Rng) -> str:
    """A first name, or a first and a last one; mostly made up."""
    first = rng.choice(FIRST_NAMES) if rng.random() < 0.35 else made_up_name(rng)
    if rng.random() < 0.65:
        return first
    last = rng.choice(SURNAMES) if rng.random() < 0.4 else made_up_name(rng)
    return f"{first} {last}"


def city(rng: Rng) -> str:
    """A city, mostly made up."""
    return rng.choice(CITIES) if rng.random() < 0.35 else made_up_name(rng)


def place(rng: Rng) -> str:
    """Where a thing may lie: "top drawer"."""
    return rng.choice(PLACES) if rng.random() < 0.5 else noun(rng)


def profession(rng: Rng) -> str:
    """A profession: "baker", "button baker"."""
    if rng.random() < 0.7:
        return rng.choice(PROFESSIONS)
    return f"{rng.choice(NOUNS)} {rng.choice(PROFESSIONS)}"


def color(rng: Rng) -> str:
    """A color: "green", "sour green"."""
    if rng.random() < 0.7:
        return rng.choice(COLORS)
    return f"{rng.choice(ADJECTIVES)} {rng.choice(COLORS)}"


def food(rng: Rng) -> str:
    """A dish, or anything."""
    return rng.choice(FOODS) if rng.random() < 0.5 else noun(rng)


def hobby(rng: Rng) -> str:
    """A hobby, or any action."""
    return rng.choice(HOBBIES) if rng.random() < 0.5 else action(rng)


def pet(rng: Rng) -> str:
    """An animal: "hen", "proud hen"."""
    if rng.random() < 0.5:
        return rng.choice(PETS)
    return f"{rng.choice(ADJECTIVES)} {rng.choice(PETS)}"


def title(rng: Rng) -> str:
    """The title of a book or a film."""
    words = ["The"] * rng.randrange(2) + [open_value(rng)]
    return " ".join(words).title()


PREPOSITIONS = ("in", "to", "on", "under", "behind", "from", "with", "before", "after")


def action(rng: Rng) -> str:
    """A verb phrase: "turn the blue handle"."""
    verb = rng.choice(VERBS)
    x = rng.random()
    if x < 0.55:
        return f"{verb} the {noun(rng)}"
    if x < 0.7:
        return f"{verb} the {noun(rng)} {rng.choice(PREPOSITIONS)} the {noun(rng)}"
    if x < 0.8:
        thing = noun(rng)
        some_time = "for " + span(rng)
        how = ("twice", "slowly", "at once", some_time, "three times", "first", "every day")
        return f"{verb} the {thing} {rng.choice(how)}"
    if x < 0.9:
        return f"{verb} {rng.choice(('a', 'your', 'all', 'some', 'one'))} {noun(rng)}"
    return f"run {code(rng)}" if x < 0.94 else f"ask {person(rng)}"


def amount(rng: Rng) -> str:
    """A number and its unit."""
    units = (
        "kg",
        "cm",
        "meters",
        "liters",
        "percent",
        "degrees",
        "grams",
        "miles",
        "km an hour",
        "pounds",
        "watts",
    )
    return f"{number(rng)} {rng.choice(units)}"


def money(rng: Rng) -> str:
    """A price."""
    return rng.choice(
        (
            f"{number(rng)} dollars",
            f"{number(rng)} euros",
            f"${number(rng)}",
            f"{number(rng)} coins",
            f"{number(rng)}.50 pounds",
            "nothing",
        )
    )


def span(rng: Rng) -> str:
    """A length of time."""
    units = ("minutes", "hours", "days", "weeks", "months", "years", "seconds")
    return f"{number(rng)} {rng.choice(units)}"


def clock(rng: Rng) -> str:
    """A time of day."""
    hour, minute = rng.randrange(1, 13), rng.randrange(0, 60, 5)
    return rng.choice(
        (
            f"{hour}:{minute:02}",
            f"{hour} o'clock",
            f"half past {NUMBERS[hour]}",
            f"{hour} am",
            f"{hour} pm",
            NUMBERS[hour],
            f"{hour}:{minute:02} am",
        )
    )


def day(rng: Rng) -> str:
    """A day of the week: "Monday", "the last Monday"."""
    if rng.random() < 0.7:
        return rng.choice(DAYS)
    return f"the {rng.choice(('first', 'second', 'third', 'last'))} {rng.choice(DAYS)}"


def date(rng: Rng) -> str:
    """A month, mostly with a day."""
    return rng.choice(
        (
            rng.choice(MONTHS),
            f"{rng.choice(MONTHS)} {rng.randrange(1, 29)}",
            f"{rng.randrange(1, 29)} {rng.choice(MONTHS)}",
        )
    )


def when(rng: Rng) -> str:
    """A time of day, a day, or a month."""
    return clock(rng) if rng.random() < 0.4 else rng.choice(DAYS + MONTHS)


KINDS = {  # as the lists of questions name them
    "amount": amount,
    "anything": open_value,
    "city": city,
    "code": code,
    "color": color,
    "date": date,
    "day": day,
    "food": food,
    "hobby": hobby,
    "money": money,
    "name": person,
    "noun": noun,
    "number": number,
    "pet": pet,
    "place": place,
    "profession": profession,
    "span": span,
    "time": clock,
    "title": title,
    "when": when,
}


def value(rng: Rng, kind: str) -> str:
    """A value of its kind; two times in five any value at all, so that no list can be learnt."""
    if kind == "action" or rng.random() < 0.4:
        return open_value(rng)
    return KINDS[kind](rng)
