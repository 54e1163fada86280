"""Forms, surveys, questionnaires: questions without answers, first name before last name."""

from .questions import (
    GENERAL,
    ORGANIZATION,
    PERSON,
    SECOND_PERSON,
    entry,
    organization,
    third_person,
)
from .rewording import rough
from .values import Rng, made_up_name, noun
from .word_lists import FIRST_NAMES

TITLES = (
    "Registration form",
    "Survey",
    "Questionnaire",
    "Application form",
    "Interview questions",
    "Please fill in",
)


def form(rng: Rng) -> str:
    """The questions of a form, one a line; in four of five forms each in its first wording."""
    to_a_person = rng.random() < 0.6
    plain = rng.random() < 0.8
    questions = questions_to_a_person(rng) if to_a_person else questions_to_an_organization(rng)
    if plain:
        lines = [wordings[0] for wordings in questions]
    else:
        lines = [rough(rng, rng.choice(wordings)) for wordings in questions]
    title = rng.choice(TITLES)
    x = rng.random()
    if x < 0.75:
        return "\n".join(lines)
    if x < 0.85:
        lines = [f"{i}. {line}" for i, line in enumerate(lines, 1)]
    elif x >= 0.95:
        lines = [f"{line} ________" for line in lines]
    return title + "\n\n" + "\n".join(lines)


def questions_to_a_person(rng: Rng) -> list[list[str]]:
    """The wordings of 3 to 13 questions, mostly in PERSON's order; every other time names first."""
    given = SECOND_PERSON if rng.random() < 0.9 else third_person(rng, rng.choice(FIRST_NAMES))
    count = rng.randrange(3, 12)
    chosen = sorted(rng.sample(range(2, len(PERSON)), count))
    if rng.random() < 0.3:
        rng.shuffle(chosen)
    if rng.random() < 0.5:
        chosen = [0, 1, *chosen]  # first name, last name
    return [entry(rng, PERSON[i], given).wordings for i in chosen]


def questions_to_an_organization(rng: Rng) -> list[list[str]]:
    """The wordings of 4 to 11 questions, some about an organization and some about anything."""
    given = organization(rng, made_up_name(rng))
    thing = {"noun": noun(rng)} if rng.random() < 0.4 else {}
    chosen = rng.sample(ORGANIZATION, rng.randrange(2, 6))
    questions = [entry(rng, template, given).wordings for template in chosen]
    chosen = rng.sample(GENERAL, rng.randrange(2, 7))
    questions += [entry(rng, template, thing).wordings for template in chosen]
    rng.shuffle(questions)
    return questions
