"""Short stories: a few sentences about somebody, with something that comes back."""

from .values import Rng, action, clock, money, noun, person, value
from .word_lists import ADJECTIVES, DAYS, MONTHS, PROFESSIONS, VERBS


def story(rng: Rng) -> str:
    """A beginning, two to seven sentences in any order, and an end."""
    who, friend = person(rng), person(rng)
    thing, other = noun(rng), noun(rng)
    where = value(rng, "city")
    he, his, him = rng.choice((("he", "his", "him"), ("she", "her", "her")))
    he_first = he.capitalize()  # where a sentence begins
    adjective, profession = rng.choice(ADJECTIVES), rng.choice(PROFESSIONS)
    middle = [
        f"{he_first} wanted to {action(rng)}, but the {thing} was {adjective}.",
        f"{he_first} looked for the {other} and found {his} {thing} instead.",
        f'{friend} said, "I will {action(rng)} for you."',
        f'"Where is my {thing}?" asked {who}. "It is in the {other}," said {friend}.',
        f"On {rng.choice(DAYS)} the {profession} came to see the {thing}.",
        (
            f"It was {rng.choice(ADJECTIVES)} in {where}, "
            f"and the {other} was {rng.choice(ADJECTIVES)}."
        ),
        f"{friend} gave {him} {rng.choice(('a', 'the', 'one'))} {other}.",
        f'"Thank you, {friend}," said {who}.',
        f"So {he} took the {thing} and went to {value(rng, 'city')}.",
        (
            f"{he_first} {rng.choice(('thought', 'knew', 'hoped'))} that the {other} would "
            f"{rng.choice(VERBS)} the {thing}."
        ),
        f"At {clock(rng)} {he} was tired and went home.",
        f"Everybody in {where} liked the {thing}; nobody liked the {other}.",
        f"There was only one rule: {action(rng)}!",
        f"The {thing} cost {money(rng)}, so {he} asked {friend} to pay.",
    ]
    rng.shuffle(middle)
    start = rng.choice(
        (
            f"Once there was a {profession} called {who} who lived in {where}.",
            f"{who} was a {adjective} {profession} from {where}.",
            f"One day in {rng.choice(MONTHS)}, {who} found a {thing} in the {other}.",
            f"In {where} there lived a {profession}. {he_first} was called {who}.",
            f"{who} and {friend} had a {thing}.",
            f"Dear {friend},\n\nI am writing to you from {where}.",
        )
    )
    end = rng.choice(
        (
            f"In the end {who} was happy.",
            f"And {who} never saw the {thing} again.",
            f"From that day {who} and {friend} were friends.",
            f"That is the story of {who} and the {thing}.",
            f"The {thing} is still in {where} today.",
        )
    )
    return " ".join([start, *middle[: rng.randrange(2, 8)], end])
