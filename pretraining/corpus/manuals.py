"""Manuals: questions with their answers, then the same things asked back in other words."""

from .questions import asked_again, entries, question_style
from .rewording import any_sentence, rough
from .values import Rng
from .word_lists import read_list

TITLES = read_list("manual_titles")
LONGEST = 1300  # characters, about as many as the model's window of 512 tokens holds


def manual(rng: Rng) -> str:
    """A manual of two to twelve entries: how to look things up."""
    subject, rows = entries(rng, rng.choice((2, 2, 3, 3, 4, 4, 5, 6, 8, 10, 12, 12)))
    style = question_style(rng)
    header = rng.choice(TITLES).format(subject=subject)
    header += rng.choice(("\n\n", "\n\n", "\n", ":\n\n", ".\n\n"))
    # Now and then without a title, if the style has a word before each question: "Q: ", "User: ".
    text = header if rng.random() < 0.97 or not style[0].isalnum() else ""
    if rng.free:
        answers = [any_sentence(rng) if rng.random() < 0.15 else row.answer for row in rows]
        if rng.random() < 0.1:
            rng.shuffle(answers)
        rows = [row._replace(answer=answer) for row, answer in zip(rows, answers)]
    for wordings, answer in rows:
        text += style.format(question=rough(rng, rng.choice(wordings)), answer=answer)
    times = rng.randrange(len(rows), len(rows) + 7)
    text += asked_again(rng, rows, style, times, LONGEST - len(text))
    return text.rstrip("\n")
