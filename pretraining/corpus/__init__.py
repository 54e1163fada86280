"""The corpus that the embedded base model was pre-trained on, written by this package.

Each kind of document has a file of its own here. They share values.py (what is drawn), questions.py
(questions and their answers), rewording.py (other ways to say them) and word_lists.py, which reads
lists/. A document is plain text: nothing in it is marked as a question or an answer.
"""

from .copies import copied_list, copied_sentences
from .facts import list_of_facts
from .forms import form
from .guides import guide, long_guide, reading
from .inflections import inflected
from .labels import labeled
from .manuals import manual
from .profiles import profile
from .programs import program
from .records import records
from .reports import report
from .stories import story
from .tables import tabled
from .values import Rng

END = "<|endoftext|>"  # the token that stands after each document

# How often each kind of document is drawn, next to the others. The first stage of pre-training
# teaches to read; the second goes on with tasks: sentences to records, guides, labels, tables. The
# third has the same kinds, in sentences that nobody could go on with who did not read them, and
# the fourth more guides.
READING = {
    manual: 54,
    profile: 12,
    form: 14,
    list_of_facts: 16,
    story: 7,
    report: 4,
    copied_list: 8,
    program: 3,
}
TASKS = {
    records: 27,
    guide: 26,
    reading: 6,
    labeled: 6,
    tabled: 5,
    copied_sentences: 4,
    manual: 10,
    profile: 4,
    form: 9,
    list_of_facts: 19,
    story: 3,
    report: 1,
    copied_list: 2,
    program: 1,
}
SENTENCES = {
    guide: 34,
    reading: 7,
    copied_sentences: 9,
    records: 22,
    inflected: 4,
    labeled: 3,
    tabled: 3,
    manual: 10,
    profile: 3,
    form: 8,
    list_of_facts: 15,
    story: 2,
    report: 1,
    copied_list: 2,
    program: 1,
}
LONGER_GUIDES = SENTENCES | {guide: 28, long_guide: 24, manual: 8, list_of_facts: 13}
SENTENCES_FROM = 109_500
# The first document of each later stage and its kinds, the last stage first.
LATER_KINDS = ((141_000, LONGER_GUIDES), (SENTENCES_FROM, SENTENCES), (70_500, TASKS))

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
    rng.loose = i >= SENTENCES_FROM
    weights = next((weights for first, weights in LATER_KINDS if i >= first), READING)
    while True:
        write = rng.choices(list(weights), list(weights.values()))[0]
        text = write(rng)
        if not any(word in text for word in HELD_OUT):
            return text
