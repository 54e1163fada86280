"""Lists written twice: the plainest lesson in copying."""

from .guides import guide_entries
from .values import Rng, code, made_up, noun, open_value


def copied_list(rng: Rng) -> str:
    """Three to fifteen values, written twice or more: as a list, or as keys with their values."""
    count = rng.randrange(3, 16)
    values = [open_value(rng) if rng.random() < 0.7 else code(rng) for _ in range(count)]
    if rng.random() < 0.5:
        line = rng.choice((" ", ", ", "\n", "; ", " - ")).join(values)
        between = rng.choice(("\n", "\n\n", " | "))
        return between.join([line] * rng.choice((2, 2, 3)))
    keys = [made_up(rng) if rng.random() < 0.5 else noun(rng) for _ in values]
    between = rng.choice((": ", " = ", " -> ", " is ", "\t"))
    lines = [f"{key}{between}{value}" for key, value in zip(keys, values)]
    again = rng.choices(lines, k=rng.randrange(len(lines), 2 * len(lines)))
    return "\n".join(lines) + "\n\n" + "\n".join(again)


def copied_sentences(rng: Rng) -> str:
    """Two to seven free sentences, then some of them again after their beginnings, in any order."""
    sentences = [row.answer for row in guide_entries(rng, rng.randrange(2, 8))]
    again = rng.choices(sentences, k=rng.randrange(2, 8))
    between = rng.choice(("\n", "\n\n", " ", "\n- "))
    return between.join([*sentences, "", *again]).strip()
