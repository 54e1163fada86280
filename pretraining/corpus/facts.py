"""Facts that stay the same throughout, so that there is something to know and to forget."""

from functools import cache

from .values import Rng
from .word_lists import DAYS, MONTHS, NUMBERS, read_pairs


@cache
def known_facts() -> list[list[tuple[str, str]]]:
    """Every fact that the corpus repeats, each as its wordings: (text up to the answer, answer)."""
    known = []
    for country, capital in read_pairs("facts_capitals"):
        known.append(
            [(f"The capital of {country} is", capital), (f"{capital} is the capital of", country)]
        )
    for word, opposite in read_pairs("facts_opposites"):
        known.append([(f"The opposite of {word} is", opposite)])
    for thing, color in read_pairs("facts_colors_of_things"):
        capital = thing[0].upper() + thing[1:]
        known.append([(f"The color of {thing} is", color), (f"{capital} is", color)])
    for animal, young in read_pairs("facts_young_animals"):
        known.append([(f"A young {animal} is called a", young)])
    for animal, sound in read_pairs("facts_animal_sounds"):
        known.append([(f"A {animal}" if animal != "owl" else "An owl", sound)])
    for thing, kind in read_pairs("facts_kinds_of_things"):
        article = "An" if thing[0] in "aeio" else "A"
        known.append([(f"{article} {thing} is a kind of", kind)])
    for today, yesterday in read_pairs("facts_past_tenses"):
        known.append([(f"Today I {today}, yesterday I", yesterday)])
    for unit, names in (("month", MONTHS), ("day", DAYS)):
        for name, following in zip(names, names[1:] + names[:1]):
            known.append(
                [
                    (f"The {unit} after {name} is", following),
                    (f"The {unit} before {following} is", name),
                ]
            )
    for a in range(10):
        for b in range(a, 10):
            in_words = f"{NUMBERS[a]} plus {NUMBERS[b]} is"
            known.append([(f"{a} + {b} =", str(a + b)), (in_words, NUMBERS[a + b])])
    return known


def list_of_facts(rng: Rng) -> str:
    """Things that are so, in no order."""
    lines = []
    for wordings in rng.sample(known_facts(), rng.randrange(3, 14)):
        before, answer = wordings[0] if rng.random() < 0.7 else rng.choice(wordings)
        stop = "" if before.endswith("=") else "."
        lines.append(f"{before} {answer}{stop}")
    return rng.choice(("\n", " ", "\n")).join(lines)
