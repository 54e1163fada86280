"""Profiles: statements in prose, then questions about them."""

from .questions import entries, question_style
from .rewording import rough
from .values import Rng


def profile(rng: Rng) -> str:
    """A text of two to eight sentences, and at least as many questions and answers."""
    subject, rows = entries(rng, rng.choice((2, 3, 4, 5, 6, 8)))
    style = question_style(rng)
    text = rng.choice(
        (
            "",
            "",
            f"{subject}\n\n",
            f"About {subject}\n\n",
            f"This is about {subject}. ",
            "Read this text. ",
        )
    )
    text += " ".join(row.answer for row in rows) + "\n\n"
    text += rng.choice(("", "", "Questions\n\n", "Now the questions.\n\n"))
    for _ in range(rng.randrange(len(rows), 2 * len(rows) + 2)):
        wordings, answer = rng.choice(rows)
        text += style.format(question=rough(rng, rng.choice(wordings)), answer=answer)
    return text.rstrip("\n")
