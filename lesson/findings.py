"""Error analysis: the data are looked over before training."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files
from itertools import chain, pairwise

from mlx_lm.tokenizer_utils import TokenizerWrapper
from rich.markup import escape

from lesson.dataset import PLAIN_ENGLISH, Example, Row, load_examples, quote, words
from lesson.machine import stop
from lesson.models import special_tokens

Worded = tuple[Example, tuple[str, ...], tuple[str, ...]]  # and the words of question and answer

MAX_SHOWN = 10  # findings of each kind
MAX_CONTRADICTIONS = 4  # answers to one question, beyond which they are a task, as telling stories


def look_over(
    data: dict[str, list[Example]],
    rows: dict[str, list[Row]],
    max_tokens: int,
    tokenizer: TokenizerWrapper,
) -> tuple[dict[str, list[Example]], dict[str, list[Row]], str]:
    """(the examples, their rows, both less those of over `max_tokens`; what is wrong, as text)."""
    sizes = ", ".join(f"{len(data[split])} of {split}" for split in ("train", "valid", "test"))
    findings, fitting = check_data(data, special_tokens(tokenizer)), {}
    if strange := check_language(data["train"], tokenizer):
        findings["Language that this model knows little of"].append(strange)
    for split, examples in data.items():
        pairs = list(zip(examples, rows[split]))
        fitting[split] = [(example, row) for example, row in pairs if len(row[0]) <= max_tokens]
        for example, (tokens, _) in pairs:
            # If it were cut, it would lose its end, and the model would not learn to stop.
            if len(tokens) > max_tokens and split != "general":
                found = f"{named(example)}, {len(tokens)} tokens"
                findings[f"Left out, of over {max_tokens} tokens"].append(found)
    if not fitting["train"]:
        long = f"{data['train'][0].place}: over {max_tokens} tokens, as are all examples"
        stop(f"{long}; shorten them, or raise --max-seq-length if the model takes more")
    data = {split: [example for example, _ in pairs] for split, pairs in fitting.items()}
    rows = {split: [row for _, row in pairs] for split, pairs in fitting.items()}
    return data, rows, report(sizes, findings)


def report(sizes: str, findings: dict[str, list[str]]) -> str:
    """What was looked over, and the first findings of each kind, as text with rich's markup."""
    total = sum(map(len, findings.values()))
    faults = f"{total} finding{'s' * (total > 1)}" if total else "nothing to mend"
    lines = [f"  Looked over {sizes}: {faults}.\n"]
    for kind, places in findings.items():
        lines += [f"  [yellow]{kind}[/]: {len(places)}"]
        lines += [f"    {escape(place)}" for place in places[:MAX_SHOWN]]
        lines += [f"    and {len(places) - MAX_SHOWN} more"] * (len(places) > MAX_SHOWN)
        lines += [""]
    return "\n".join(lines)


# Words that English has in most sentences, and others that German, French, Spanish and so on have.
ENGLISH = frozenset(words("the and to you your my what who where when how that this which with"))
OTHERS = frozenset(
    words(
        "der die das und ist nicht ein eine le la les des et est el los que una il di che per"
        " het een van niet og er til det som na nie se os não"
    )
)


def is_foreign(examples: list[Example]) -> bool:
    """Whether the texts are, mostly, in another language than English; code and labels are not."""
    text = [word for e in examples for word in (*words(e.prompt), *words(e.completion))]
    letters = [letter for letter in "".join(text) if letter.isalpha()]
    others = sum(word in OTHERS for word in text)
    english = sum(word in ENGLISH for word in text)
    not_latin = sum(letter > "\u024f" for letter in letters)
    return others > max(english, 2) or 3 * not_latin > len(letters)


def check_language(examples: list[Example], tokenizer: TokenizerWrapper) -> str:
    """What to say of a language that falls into many more tokens than English does; or nothing.

    A tokenizer's tokens are the pieces of words that were frequent in what it was made from, which
    is what the model was brought up on, too.
    """
    some, plain = examples[:100], load_examples(PLAIN_ENGLISH)
    if not is_foreign(some):
        return ""
    texts = ["\n".join(f"{e.prompt}\n{e.completion}" for e in part) for part in (some, plain)]
    own, english = (len(tokenizer.encode(text)) / len(text.encode()) for text in texts)
    if own < 1.4 * english:  # German in a tokenizer for English has 1.5, in one for both 1.2
        return ""
    advice = "better take a model that was brought up on it, as Qwen3 or Gemma 3"
    return f"{own:.2f} tokens a byte, where plain English has {english:.2f}; {advice}"


def check_data(
    data: dict[str, list[Example]], special: Collection[str] = ()
) -> dict[str, list[str]]:
    """{kind of fault: [file, line, and the words in question]}, for the kinds that occur.

    special: tokens such as the end of text, which stand for something else than their letters.
    """
    findings: dict[str, list[str]] = defaultdict(list)
    answers: dict[tuple[str, ...], tuple[str, str]] = {}  # question: (place, answer)
    foreign = is_foreign(data["train"][:1000])
    splits = [
        [(e, words(e.prompt), words(e.completion)) for e in data[split]]
        for split in ("train", "valid", "test")
    ]
    different = defaultdict(set)  # question: the answers to it
    for _, question, answer in chain(*splits):
        different[question].add(answer)
    for examples in splits:
        seen: dict[tuple, Example] = {}  # (question, answer): the first such example
        for example, question, answer in examples:
            text = f"{example.prompt}\n{example.completion}"
            for wrong, right in () if foreign else misspellings(text):
                findings["Misspelt"].append(f'{example.place}: "{wrong}", for {right}')
            for token in re.findall(r"[<\[][^\s<>\[\]]+[>\]]", text):
                if token in special:
                    kind = "Holds a special token, which is no text to the model"
                    findings[kind].append(f"{named(example)} has {token}")
            place, other = answers.setdefault(question, (example.place, example.completion))
            count = len(different[question])
            if question and count > MAX_CONTRADICTIONS:
                if place == example.place:
                    found = f"{named(example)} has {count}: a task, which the exam cannot score"
                    findings["Many answers to one question"].append(found)
            elif question and words(other) != answer:
                both = f"{quote(example.completion)}, but in {place} {quote(other)}"
                findings["Two answers to one question"].append(f"{named(example)} is {both}")
            first = seen.setdefault((question, answer), example)
            if first is not example:
                findings["Repeated"].append(f"{named(example)}, as {first.place}")
        for earlier, later in near_repetitions([(e, *texts) for texts, e in seen.items()]):
            found = f"{named(later)}, almost as {earlier.place}"
            findings["Nearly repeated"].append(found)
    train, valid, test = splits
    rehearsed = {question: example.place for example, question, _ in train if question}
    for example, question, _ in chain(valid, test):
        if (trained := rehearsed.get(question)) and len(different[question]) <= MAX_CONTRADICTIONS:
            found = f"{named(example)} stands in {trained}"
            findings["Asked in training too, so the exam proves less"].append(found)
    return findings


def named(example: Example) -> str:
    """An example's file, line, and first words."""
    return f"{example.place}: {quote(example.prompt or example.completion)}"


@cache
def dictionary() -> dict[str, str]:
    """The dictionary of codespell: {misspelt word: what was probably meant}."""
    text = (files("codespell_lib") / "data" / "dictionary.txt").read_text("utf-8")
    pairs = (line.split("->") for line in text.splitlines())
    return {wrong.lower(): right.strip(", ") for wrong, right in pairs}


def misspellings(text: str) -> Iterator[tuple[str, str]]:
    """(word, what was meant) by codespell's dictionary; a word in capitals is taken for a name."""
    for match in re.finditer(r"(?<![\w'’.@/-])[^\W\d_]+(?:'[^\W\d_]+)?(?![\w'’@/-])", text):
        if right := dictionary().get(match[0].lower()):
            # Where a sentence begins, all words have a capital.
            begins = re.search(r"(^|[.?!\n])\W*$", text[: match.start()])
            if match[0].islower() or (begins and match[0].istitle() and len(match[0]) > 4):
                yield match[0], right


def near_repetitions(examples: list[Worded]) -> Iterator[tuple[Example, Example]]:
    """Pairs (earlier, later) with four fifths of their word pairs and all names and numbers alike.

    Two such examples have one of the rarest fifth of either's word pairs in common, so only those
    are looked up (prefix filtering: Chaudhuri et al. 2006, "A Primitive Operator for Similarity
    Joins in Data Cleaning").
    """
    pairs, names = [], []
    for example, *texts in examples:
        pairs.append([{(side, *p) for p in pairwise(("", *t))} for side, t in enumerate(texts)])
        text = re.findall(r"\w+", f"{example.prompt} {example.completion}")
        names.append(frozenset(word for word in text if word[0].isupper() or word[0].isdigit()))
    frequency = Counter(chain.from_iterable(chain.from_iterable(pairs)))
    index: dict[tuple, list[int]] = defaultdict(list)
    for later, (question, answer) in enumerate(pairs):
        rarest = sorted(question | answer, key=lambda pair: (frequency[pair], pair))
        keys = [(pair, names[later]) for pair in rarest[: len(rarest) // 5 + 1]]
        for earlier in dict.fromkeys(chain.from_iterable(index[key] for key in keys)):
            both = zip(pairs[earlier], pairs[later])
            if all(5 * len(a & b) >= 4 * len(a | b) for a, b in both):
                yield examples[earlier][0], examples[later][0]
                break
        else:  # only what repeats nothing is looked up later
            for key in keys:
                index[key].append(later)
