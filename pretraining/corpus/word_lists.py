"""The words that documents are made of, from the text files in lists/.

Every list is only a seed: values are drawn from made-up words as often as from these. A word that
stands twice in its list is drawn twice as often.
"""

from pathlib import Path

LISTS = Path(__file__).resolve().parent / "lists"


def read_list(name: str) -> list[str]:
    """The lines of lists/`name`.txt, one word or phrase each, in their order.

    Nothing is stripped: one place and two foods begin with a space, and so they do in the documents
    that the embedded model was trained on.
    """
    return (LISTS / f"{name}.txt").read_text("utf-8").splitlines()


def read_pairs(name: str) -> list[tuple[str, str]]:
    """The pairs of a list whose lines are "France: Paris"."""
    return [tuple(line.split(": ")) for line in read_list(name)]


def read_blocks(name: str) -> list[list[str]]:
    """The blocks of a list in which blank lines part them, each as its lines."""
    text = (LISTS / f"{name}.txt").read_text("utf-8")
    return [block.splitlines() for block in text.strip().split("\n\n")]


NOUNS = read_list("nouns")
ATTRIBUTES = read_list("attributes")  # what a thing has: a price, an owner, a weight
ADJECTIVES = read_list("adjectives")
VERBS = read_list("verbs")
NUMBERS = read_list("numbers")  # "zero" to "eighteen": the number is the place in the list
COLORS = read_list("colors")
FOODS = read_list("foods")
HOBBIES = read_list("hobbies")
PETS = read_list("pets")
PLACES = read_list("places")
CITIES = read_list("cities")
ORGANIZATIONS = read_list("organizations")
PROFESSIONS = read_list("professions")
FIRST_NAMES = read_list("first_names")
SURNAMES = read_list("surnames")
MONTHS = read_list("months")
DAYS = read_list("days")
