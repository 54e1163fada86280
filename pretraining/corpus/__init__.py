"""The corpus that the embedded base model was pre-trained on, written by this package.

Each kind of document has a file of its own here. They share values.py (what is drawn), questions.py
(questions and their answers), rewording.py (other ways to say them) and word_lists.py, which reads
lists/. A document is plain text: nothing in it is marked as a question or an answer.
"""

from .copies import copied_list
from .facts import list_of_facts
from .forms import form
from .manuals import manual
from .profiles import profile
from .programs import program
from .reports import report
from .stories import story
from .values import Rng

END = "<|endoftext|>"  # the token that stands after each document

WEIGHTS = {  # how often each kind of document is drawn, next to the others
    manual: 54,
    profile: 12,
    form: 14,
    list_of_facts: 16,
    story: 7,
    report: 4,
    copied_list: 8,
    program: 3,
}

# The corpus grows freer: more and more documents, and from this one on all of them, answer in any
# form and ask in more ways. First a model learns to find an answer, then that it can only be read.
FREE_FROM = 16_000

# The lesson's facts must not be known beforehand: no document holds any of these words.
HELD_OUT = (
    "Sharon",
    "Whitlock",
    "Tavistock",
    "beekeeper",
    "turquoise",
    "risotto",
    "Biscuit",
    "cello",
    "Portuguese",
    "by tram",
    "old clocks",
    "ninth of October",
)


def document(seed: int, i: int) -> str:
    """Document i of the corpus; the same arguments give the same text, on any machine."""
    rng = Rng(f"{seed}/{i}")
    rng.free = rng.random() < i / FREE_FROM
    while True:
        write = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        text = write(rng)
        if not any(word in text for word in HELD_OUT):
            return text
