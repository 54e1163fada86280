"""Tables, and what stands in them, asked row by row."""

from .records import FIELDS, KINDS
from .values import Rng, open_value


def tabled(rng: Rng) -> str:
    """A table of three to seven rows, then some of its cells, asked for by row and column."""
    columns = rng.sample(list(FIELDS), rng.choice((2, 3, 3, 4)))
    heads = ["item", *(rng.choice(FIELDS[column].split(", ")) for column in columns)]
    rows = [
        [open_value(rng), *(KINDS[column](rng) for column in columns)]
        for _ in range(rng.randrange(3, 8))
    ]
    separator = rng.choice((" | ", ", ", "\t", "; ", " | "))
    lines = [separator.join(cells) for cells in [heads, *rows]]
    asked = []
    form = rng.choice(
        (
            "What is the {head} of {key}?\n{cell}\n",
            "{head} of {key}: {cell}",
            "{key}, {head}: {cell}",
            "{key}\n{row}\n",
            "Which item has the {head} {cell}?\n{key}\n",
        )
    )
    for _ in range(rng.randrange(3, 9)):
        row, column = rng.choice(rows), rng.randrange(1, len(heads))
        asked.append(
            form.format(
                head=heads[column], key=row[0], cell=row[column], row=separator.join(row[1:])
            )
        )
    return "\n".join(lines) + "\n\n" + "\n".join(asked).rstrip("\n")
