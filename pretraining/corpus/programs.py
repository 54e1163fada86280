"""A little code and markup, so that every printable character stands somewhere."""

from .values import Rng, made_up
from .word_lists import NOUNS


def program(rng: Rng) -> str:
    """One to three snippets in Python, JSON, shell, HTML, JavaScript, Markdown, SQL."""

    def word() -> str:
        """A name of a variable, a file, a table."""
        return made_up(rng) if rng.random() < 0.5 else rng.choice(NOUNS)

    def n() -> int:
        """A number below 100."""
        return rng.randrange(100)

    a, b, c = word(), word(), word()  # the names that a snippet uses more than once
    snippets = [
        (
            f"def {a}({b}, {c}={n()}):\n"
            f"    if {b} > {n()}:\n"
            f"        return {c} * {n()}\n"
            f"    return {b} + {c}\n"
        ),
        f'for {a} in range({n()}):\n    print({a}, "{b}")\n',
        f"{a} = [{n()}, {n()}, {n()}]\nprint(len({a}))\n",
        f'{{"{a}": "{b}", "{c}": {n()}, "{word()}": [{n()}, {n()}]}}\n',
        f"$ {a} --{b} {n()} | {c} > {word()}.txt\n",
        f'<{a} class="{b}">{c} & {word()}</{a}>\n',
        f"import {a}\n\nclass {b.capitalize()}({a}.{c.capitalize()}):\n    pass\n",
        f"let {a} = {n()} % {n()}; // {b}\nif ({a} != {n()}) {{ {c}(); }}\n",
        f"# {a} {b}\n\n* {c}: {n()}^2 ~ {n()}\n* `{word()}`\n",
        f"SELECT {a}, {b} FROM {c} WHERE {a} = '{word()}';\n",
        f"{a}@{b}:~$ cd /{c}\\{word()}\n",
        f"{a}?{b}={n()}&{c}={n()}\n",
    ]
    return "\n".join(rng.sample(snippets, rng.randrange(1, 4))).rstrip("\n")
