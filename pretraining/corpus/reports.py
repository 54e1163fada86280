"""Instructions, descriptions, notices: the prose of offices and shops."""

from .questions import entries
from .values import Rng, action


def report(rng: Rng) -> str:
    """Numbered steps, a paragraph, or a list under its title."""
    subject, rows = entries(rng, rng.choice((2, 3, 4, 5)))
    x = rng.random()
    if x < 0.35:
        return instructions(rng)
    if x < 0.7:
        return " ".join(row.answer for row in rows)
    return "\n".join([subject, "", *(f"- {row.answer}" for row in rows)])


def instructions(rng: Rng) -> str:
    """How to do something, in two to six steps."""
    title = f"How to {action(rng)}"
    steps = [action(rng) for _ in range(rng.randrange(2, 7))]
    lines = [f"{i}. {step[0].upper() + step[1:]}." for i, step in enumerate(steps, 1)]
    return title + "\n\n" + "\n".join(lines)
