"""Guides: questions answered in full sentences of many kinds, then asked back in other words."""

from functools import partial

from .labels import slots
from .questions import Entry, asked_again, entry, neighbors, question_style, read_templates
from .rewording import any_sentence
from .sentences import loose_ending, loose_sentence, made_strange, spliced
from .values import Rng, noun, open_value, person
from .word_lists import read_list

GUIDES = read_templates("questions_guides")
CLAUSES = read_list("clauses")  # what may be added to an answer
TITLES = read_list("manual_titles")
LONGEST = 1150  # characters, about as many as the model's window holds
EVERYDAY = (0.0, 0.0, 0.1, 0.2, 0.35, 0.5)  # shares of words that are made strange: one is drawn
STRANGE = (0.0, 0.15, 0.3, 0.5, 0.7, 0.9)


def guide_entries(rng: Rng, count: int, everyday: bool = False) -> list[Entry]:
    """`count` questions with free sentences for answers; many of their words are made strange."""
    draw = partial(neighbors, rng) if rng.random() < 0.6 else rng.sample
    templates = draw(GUIDES, count)
    given = {"noun": noun(rng)} if rng.random() < 0.25 else {}
    share = rng.choice(STRANGE if rng.loose and not everyday else EVERYDAY)
    rows = []
    for template in templates:
        wordings, answer = entry(rng, template, given)
        if rng.random() < 0.1:
            answer = any_sentence(rng)
        if rng.loose:
            answer = loosened(rng, answer)
        elif rng.random() < 0.35 and answer.endswith("."):
            answer = answer.rstrip(".") + clause(rng)
        answer, *wordings = made_strange(rng, [answer, *wordings], share)
        rows.append(Entry(wordings, answer))
    return rows


def loosened(rng: Rng, answer: str) -> str:
    """The answer, or one that ends as nobody would guess, or any sentence at all."""
    x = rng.random()
    if x < 0.3:
        return answer
    if x < 0.5:
        return loose_sentence(rng)
    if x < 0.75:
        other = entry(rng, rng.choice(GUIDES), {}).answer
        return spliced(rng, answer, other if rng.random() < 0.5 else loose_sentence(rng))
    return answer.rstrip(".") + loose_ending(rng)


def clause(rng: Rng) -> str:
    """One of CLAUSES, filled in: ", but ask Ida before you turn the handle."."""
    return rng.choice(CLAUSES).format(**slots(rng), noun2=noun(rng), person2=person(rng))


def guide(rng: Rng) -> str:
    """A guide of three to ten entries, in which at least as many questions are asked again."""
    counts = (3, 4, 5, 6, 7, 8) if rng.loose else (3, 4, 5, 6, 8, 9, 10)
    return guide_of(rng, guide_entries(rng, rng.choice(counts)))


def long_guide(rng: Rng) -> str:
    """A guide of seven to ten entries with short answers, about what the lesson's prompt holds."""
    rows = guide_entries(rng, 14, everyday=True)
    shortest = sorted(rows, key=lambda row: len(row.answer))[: rng.choice((7, 8, 9, 10))]
    return guide_of(rng, rng.sample(shortest, len(shortest)))


def guide_of(rng: Rng, rows: list[Entry]) -> str:
    """A guide of these entries."""
    style = question_style(rng)
    text = rng.choice(TITLES).format(subject=open_value(rng)) + rng.choice(("\n\n", "\n\n", "\n"))
    for wordings, answer in rows:
        text += style.format(question=rng.choice(wordings), answer=answer)
    times = rng.randrange(len(rows), len(rows) + 7)
    text += asked_again(rng, rows, style, times, LONGEST - len(text))
    return text.rstrip("\n")


def reading(rng: Rng) -> str:
    """A text of three to eight free sentences, then questions that they answer."""
    rows = guide_entries(rng, rng.choice((3, 4, 5, 6, 8)))
    style = question_style(rng)
    text = rng.choice(("", "", f"{open_value(rng)}\n\n", "Read this text. "))
    text += " ".join(row.answer for row in rows) + "\n\n"
    times = rng.randrange(len(rows), 2 * len(rows))
    text += asked_again(rng, rows, style, times, LONGEST - len(text))
    return text.rstrip("\n")
