"""Words beside other forms of themselves: "grimlets -> grimlet"."""

from .records import count, thing
from .sentences import past, plural, some_verb
from .values import Rng


def inflected(rng: Rng) -> str:
    """Eight to thirty words, all with the same other form: in the plural, in the past."""
    between = rng.choice((" -> ", ": ", " | ", " = ", ", ", "\n", " / ", "\t"))
    after = "\n\n" if between == "\n" else "\n"
    x, lines = rng.random(), []
    for _ in range(rng.randrange(8, 31)):
        if x < 0.15:
            verb = some_verb(rng)
            pair = (verb, past(verb)) if x < 0.08 else (past(verb), verb)
        else:
            one = thing(rng)
            many = f"{count(rng)} {plural(one)}" if x < 0.5 else plural(one)
            pair = (one, many) if x > 0.85 else (many, one)
        lines.append(between.join(pair))
    return after.join(lines)
