"""Questions in many wordings, and their answers: what manuals, profiles, forms and reports share.

The lists questions_person.txt, questions_organization.txt and questions_general.txt hold a block
for each question: in brackets the kind of value that answers it, then the question's wordings, and
behind "=>" the forms of its answer. What stands in braces is filled in:

    {value}                      what is asked for, of the kind in brackets (see values.KINDS); for
                                 the kind "action" a second action, or anything
    {noun} {attribute} {verb} {profession} {person}
                                 a word of that sort, the same throughout the block
    {action} {second_action}     "turn the handle"; {Action} and {Second_action} with a capital
    {acts}                       the action in the third person: "turns the handle"
    {skill}                      another action
    {state}                      "the handle is wet"
    {your} {you} {do} {are} {My} {I} {We} {s} and so on
                                 whose answer it is: mine and yours, somebody else's (third_person),
                                 a shop's or a club's (organization)
"""

import re
from typing import NamedTuple

from .rewording import free_form, rough
from .values import Rng, action, noun, open_value, person, value
from .word_lists import ADJECTIVES, ATTRIBUTES, ORGANIZATIONS, PROFESSIONS, VERBS, read_blocks


class Template(NamedTuple):
    """A block of the lists: a question's wordings, the forms of its answer, its kind of value."""

    wordings: list[str]
    answers: list[str]
    kind: str


class Entry(NamedTuple):
    """A question's wordings and its answer, with nothing left to fill in."""

    wordings: list[str]
    answer: str


def read_templates(name: str) -> list[Template]:
    """The blocks of a list of questions."""
    templates = []
    for kind, *lines in read_blocks(name):
        wordings = [line for line in lines if not line.startswith("=> ")]
        answers = [line.removeprefix("=> ") for line in lines if line.startswith("=> ")]
        templates.append(Template(wordings, answers, kind.strip("[]")))
    return templates


PERSON = read_templates("questions_person")
ORGANIZATION = read_templates("questions_organization")
GENERAL = read_templates("questions_general")

# ----------------------------------------------------------------------------------------------
# Whose answers they are
# ----------------------------------------------------------------------------------------------

SECOND_PERSON = {
    "your": "your",
    "Your": "Your",
    "you": "you",
    "yours": "yours",
    "do": "do you",
    "Do": "Do you",
    "are": "are you",
    "My": "My",
    "my": "my",
    "I": "I",
    "am": "am",
    "me": "me",
    "s": "",
    "es": "",
}


def third_person(rng: Rng, name: str) -> dict[str, str]:
    """What is filled into PERSON in a text about somebody else."""
    he, his, him = rng.choice((("he", "his", "him"), ("she", "her", "her")))
    subject = rng.choice((name, he.capitalize()))
    return {
        "your": f"{name}'s",
        "Your": f"{name}'s",
        "you": name,
        "yours": f"{name}'s",
        "do": f"does {name}",
        "Do": f"Does {name}",
        "are": f"is {name}",
        "My": rng.choice((f"{name}'s", his.capitalize())),
        "my": his,
        "I": subject,
        "am": "is",
        "me": him,
        "s": "s",
        "es": "es",
    }


def organization(rng: Rng, name: str) -> dict[str, str]:
    """What is filled into ORGANIZATION: a shop, a club, a school, spoken to or spoken of."""
    if rng.random() < 0.5:
        return {
            "your": "your",
            "you": "you",
            "your_shop": "your "
            + rng.choice(("shop", "club", "company", "school", "team", "group")),
            "do": "do you",
            "are": "are you",
            "We": "We",
            "Our": "Our",
            "us": "us",
            "s": "",
        }
    it = name if rng.random() < 0.4 else "the " + rng.choice(ORGANIZATIONS)
    return {
        "your": "the",
        "you": it,
        "your_shop": it,
        "do": f"does {it}",
        "are": f"is {it}",
        "We": rng.choice(("We", it[0].upper() + it[1:])),
        "Our": "Our",
        "us": "us",
        "s": "",
    }


# ----------------------------------------------------------------------------------------------
# Entries
# ----------------------------------------------------------------------------------------------


def entry(rng: Rng, template: Template, given: dict[str, str]) -> Entry:
    """The template filled in: with what is given, and with anything where nothing is."""
    first, second = action(rng), action(rng)
    verb, rest = first.split(" ", 1)
    filling = {
        "value": value(rng, template.kind),
        "noun": noun(rng),
        "attribute": rng.choice(ATTRIBUTES),
        "profession": rng.choice(PROFESSIONS),
        "person": person(rng),
        "action": first,
        "Action": first[0].upper() + first[1:],
        "second_action": second,
        "Second_action": second[0].upper() + second[1:],
        "acts": f"{verb}s {rest}",
        "state": f"the {noun(rng)} is {rng.choice(ADJECTIVES)}",
        "skill": action(rng),
        "verb": rng.choice(VERBS),
        **given,
    }
    if template.kind == "action" and "{action}" in "".join(template.wordings):
        filling["value"] = second  # how to do the first is answered by the second
    wordings = [fill(wording, filling) for wording in template.wordings]
    answer = fill(rng.choice(template.answers), filling)
    return Entry(wordings, free_form(rng, answer, filling["value"]) if rng.free else answer)


def fill(text: str, filling: dict[str, str]) -> str:
    """The text with its braces filled in, and a capital at the start."""
    text = text.format_map(filling)
    return text[0].upper() + text[1:]


def neighbors(rng: Rng, templates: list[Template], count: int) -> list[Template]:
    """`count` templates, in runs of up to three that stand together: the easiest to mix up."""
    chosen = []
    while len(chosen) < count:
        start = rng.randrange(len(templates))
        stop = min(start + rng.choice((1, 1, 2, 3)), len(templates))
        chosen += [i for i in range(start, stop) if i not in chosen]
    chosen = chosen[:count]
    rng.shuffle(chosen)
    return [templates[i] for i in chosen]


def about_a_person(rng: Rng, name: str, count: int) -> list[Entry]:
    """Questions to somebody, or about somebody else."""
    given = SECOND_PERSON if rng.random() < 0.75 else third_person(rng, name)
    return [entry(rng, template, given) for template in neighbors(rng, PERSON, count)]


def about_an_organization(rng: Rng, name: str, count: int) -> list[Entry]:
    """Questions to a shop, a club, a school, or about one."""
    given = organization(rng, name)
    return [entry(rng, template, given) for template in neighbors(rng, ORGANIZATION, count)]


def about_one_thing(rng: Rng, count: int) -> list[Entry]:
    """Many questions about the same thing, which may be called "it"."""
    given = {
        "noun": rng.choice((noun(rng), "machine")),
        "profession": rng.choice(PROFESSIONS),
        "attribute": rng.choice(ATTRIBUTES),
    }
    fitting = [template for template in GENERAL if "{noun}" in template.wordings[0]]
    rows = [entry(rng, template, given) for template in neighbors(rng, fitting, count)]
    if rng.random() < 0.4:
        name = re.compile(rf"\bthe {re.escape(given['noun'])}\b(?!')")
        rows = [
            Entry([name.sub("it", w) if rng.random() < 0.5 else w for w in wordings], answer)
            for wordings, answer in rows
        ]
    return rows


def about_several_things(rng: Rng, count: int) -> list[Entry]:
    """A few questions about a few things: both have to be matched."""
    chosen = rng.sample(GENERAL, rng.choice((1, 2, 3, 4)))
    things = [
        {
            "noun": noun(rng),
            "person": person(rng),
            "attribute": rng.choice(ATTRIBUTES),
            "profession": rng.choice(PROFESSIONS),
            "skill": action(rng),
        }
        for _ in range(count)
    ]
    rows = [entry(rng, template, thing) for template in chosen for thing in things]
    rng.shuffle(rows)
    return rows


def about_anything(rng: Rng, name: str, count: int) -> list[Entry]:
    """All sorts of questions; half of the time the first half is about an organization."""
    rows = [entry(rng, template, {}) for template in neighbors(rng, GENERAL, count)]
    if rng.random() < 0.5:
        given, half = organization(rng, name), count // 2
        rows[:half] = [entry(rng, template, given) for template in rng.sample(ORGANIZATION, half)]
    return rows


def entries(rng: Rng, count: int) -> tuple[str, list[Entry]]:
    """(what they are about, up to `count` entries), no two of which ask or answer the same."""
    x = rng.random()
    name = person(rng) if x < 0.5 else open_value(rng)
    if x < 0.40:
        rows = about_a_person(rng, name, count)
    elif x < 0.54:
        rows = about_an_organization(rng, name, count)
    elif x < 0.68:
        rows = about_one_thing(rng, count)
    elif x < 0.82:
        rows = about_several_things(rng, count)
    else:
        rows = about_anything(rng, name, count)
    seen, unique = set(), []
    for row in rows:
        if row.wordings[0] not in seen and row.answer not in seen:
            seen |= {row.wordings[0], row.answer}
            unique.append(row)
    return name, unique[:count]


# ----------------------------------------------------------------------------------------------
# How a question and its answer are set
# ----------------------------------------------------------------------------------------------

STYLES = {  # and how often each is drawn, next to the others
    "{question}\n{answer}\n\n": 18,
    "{question}\n{answer}\n": 2,
    "Q: {question}\nA: {answer}\n": 2,
    "Q: {question}\nA: {answer}\n\n": 2,
    "Question: {question}\nAnswer: {answer}\n\n": 2,
    "{question} {answer}\n": 2,
    "- {question}\n  {answer}\n": 1,
    "## {question}\n\n{answer}\n\n": 1,
    "User: {question}\nAssistant: {answer}\n": 1,
}


def question_style(rng: Rng) -> str:
    """One of STYLES."""
    return rng.choices(list(STYLES), list(STYLES.values()))[0]


def asked_again(rng: Rng, rows: list[Entry], style: str, times: int, room: int) -> str:
    """Some of the questions in other words, with their answers, up to `room` characters or so."""
    text = ""
    for _ in range(times):
        wordings, answer = rng.choice(rows)
        text += style.format(question=rough(rng, rng.choice(wordings)), answer=answer)
        if len(text) > room:
            break
    return text
