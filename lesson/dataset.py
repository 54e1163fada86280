"""Examples: reading them from JSONL and the Hub, errors with file and line, the split."""

import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lesson.machine import errors_in_one_line, stop

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "data"  # the data that come with the course
PLAIN_ENGLISH = ROOT / "assets" / "general.jsonl"
FORMAT = 'write {"prompt": "a question", "completion": "its answer"}'
CHAT_FORMAT = (
    '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
)
NAMES = ("train", "valid", "validation", "test", "everyday", "known")
FILES = {f"{name}.jsonl" for name in NAMES}  # what is read of a folder
MAX_CHARACTERS = 1_000_000  # of a text; no model reads so many at once

Row = tuple[list[int], int]  # an example's tokens; how many of them are the prompt's
Item = TypeVar("Item")


class Example(NamedTuple):
    """One line of the data: what is asked, as a text and as a chat, and what is to be answered."""

    prompt: str
    messages: list[dict[str, str]]  # {"role": …, "content": …} of all but the answer
    completion: str
    place: str  # file and line
    not_read: tuple[str, ...] = ()  # further keys of the line


# ---- The splits --------------------------------------------------------------------------------
def load_data(
    source: str, model: str, most_questions: int = 100, say: Callable[[str], None] = print
) -> dict[str, list[Example]]:
    """The examples of each split, from a folder or, by its name, from the Hugging Face Hub.

    The splits are train, which has to exist, valid, test, and general: texts of the kind that the
    model was pre-trained on, if such lie in its folder, or plain English. Without a test.jsonl, up
    to a third of train is held out for it, and at most so many questions. `say` is told which rows
    of a data set from the Hub are passed over, where those are few.
    """
    data = load_from_hub(source, say) if is_on_hub(source) else load_folder(Path(source))
    own = Path(model) / "general.jsonl"
    data["general"] = load_examples(own if own.is_file() else PLAIN_ENGLISH)
    if not data["test"]:
        data["train"], data["test"] = hold_out_exam(data["train"], most_questions)
    return data


def hold_out_exam(train: list[Example], most_questions: int) -> tuple[list[Example], list[Example]]:
    """(train less the exam, the exam): up to a third of it, where there is no test.jsonl."""
    questions = [e for e in train if e.prompt]
    wordings = Counter(e.completion for e in questions)
    # One wording of each answer that has others, so that it can still be learnt; or just any.
    spare = [*{e.completion: e for e in questions if wordings[e.completion] > 1}.values()]
    if len(spare) < len(questions) // 5:
        # Not the run's seed: with all seeds the exam is the same.
        exam = some_of(questions, len(questions) // 5)
    else:
        exam = spare[: len(questions) // 3]
    exam = some_of(exam, most_questions)
    places = {e.place for e in exam}
    return [e for e in train if e.place not in places], exam


def some_of(items: list[Item], most: int) -> list[Item]:
    """At most so many of the items, in their order: always the same ones of the same list."""
    if len(items) <= most:
        return items
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), most))]


def load_folder(folder: Path) -> dict[str, list[Example]]:
    """The examples of train.jsonl, valid.jsonl or validation.jsonl, and test.jsonl.

    Stops if train has none.
    """
    data = {split: load_examples(path) for split, path in split_files(folder).items()}
    if not data["train"]:
        others = sorted((p.name[:5] != "train", p.name) for p in folder.glob("*"))
        only = f", only {brief(', '.join(name for _, name in others), 60)}" * bool(others)
        nowhere = ", nor such a folder" * (not folder.exists())
        absent = f"no such file{nowhere}{only}"
        lacking = "no examples" if (folder / "train.jsonl").is_file() else absent
        stop(f"{folder / 'train.jsonl'}: {lacking}; on each line, {FORMAT}")
    return data


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split; valid's may have the name that it has in data sets on the Hub."""
    files = {split: folder / f"{split}.jsonl" for split in ("train", "valid", "test")}
    with suppress(PermissionError):  # which the reading of the file reports
        if not files["valid"].exists() and (folder / "validation.jsonl").exists():
            files["valid"] = folder / "validation.jsonl"
    return files


def load_from_hub(name: str, say: Callable[[str], None]) -> dict[str, list[Example]]:
    """The examples of a data set's splits train, valid or validation, and test.

    Up to a hundredth of its rows may be none: a learner cannot mend them. Stops if more are.
    """
    found = fetch(name)
    data: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    unusable: list[tuple[str, ValueError]] = []
    rows = 0
    for split in found:
        ours = "valid" if split == "validation" else split
        for number, record in enumerate(found[split] if ours in data else [], 1):
            place = f"{name}/{split}:{number}"
            # What a record lacks stands there as None, as all records have the same columns.
            record = {key: value for key, value in record.items() if value is not None}
            rows += 1
            try:
                data[ours].append(read_example(record, place))
            except ValueError as error:
                unusable.append((place, error))
    if unusable:
        place, why = unusable[0]
        if 100 * len(unusable) > rows:
            with errors_at(place):
                raise why
        count = f"{len(unusable)} of {rows:,} rows"
        say(f"Passed over, as no examples: {count}. The first, {place}: {why}.")
    if not data["train"]:
        stop(f"--data {name}: no split called train, or nothing in it")
    return data


def fetch(name: str) -> dict[str, Any]:
    """{split: its records} of a data set on the Hub; stops if it cannot be had."""
    import datasets  # only now, for it takes a while

    datasets.config.USE_PARQUET_EXPORT = False  # which would be looked for on another host
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    path, _, configuration = name.partition(":")
    with errors_in_one_line(f"--data {name}"):
        try:
            found = datasets.load_dataset(path, configuration or None)
        except ValueError as error:  # it has several, whose names are in the error's text
            listed = re.search(r"available configs: \[(.+?)\]", str(error))
            if not listed:
                raise
            names = re.findall(r"'(.+?)'", listed[1])
            shown = brief(", ".join(names), 200)
            stop(f"--data {name}: has {shown}; take one of them, as --data {path}:{names[0]}")
    return found


def is_on_hub(name: str) -> bool:
    """Whether it is owner/name, as models and data sets on the Hub are called, and no path here.

    Of a data set that has several configurations, owner/name:configuration.
    """
    local = Path(name).exists() or Path(name).parent.exists()
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?", name) is not None and not local


# ---- Everyday questions ------------------------------------------------------------------------
def load_everyday(source: str) -> list[Example]:
    """The everyday prompts that are rehearsed: the data's own everyday.jsonl, or else ours."""
    return load_prompts(own_or_shipped(source, "everyday.jsonl"))


def load_known(source: str, model: str) -> list[Example]:
    """The everyday questions that the model may know: its own known.jsonl, the data's, or ours."""
    own = Path(model) / "known.jsonl"
    return load_prompts(own if own.is_file() else own_or_shipped(source, "known.jsonl"))


def own_or_shipped(source: str, name: str) -> Path:
    """A file in the folder of the learner's data, or if it is not there, in the one that ships."""
    own = Path(source) / name
    return own if own.is_file() else SHIPPED / name


def load_prompts(path: Path) -> list[Example]:
    """Everyday prompts, with the answer if there is one; stops at a line that is none."""
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        place, line = f"{path}:{number}", line.strip().lstrip("\ufeff")
        with errors_at(place):
            if line:
                record = checked(parse(line), dict, "the line")
                if "prompt" not in record:
                    raise ValueError(wrong_keys(record, "prompt"))
                # An answer is not needed where the model gives its own.
                examples.append(read_example({"completion": "?", **record}, place))
    return examples


# ---- Files -------------------------------------------------------------------------------------
def load_examples(path: Path) -> list[Example]:
    """The examples of a file, none if there is no such file; stops at a line that is none."""
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        place, line = f"{path}:{number}", line.strip().lstrip("\ufeff")  # a byte-order mark
        with errors_at(place):
            examples += [read_example(parse(line), place)] if line else []
    return examples


PACKED = {  # how a file begins that is no text, and what it is
    b"\x1f\x8b": "packed with gzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
}


def read_text(path: Path) -> str:
    """What a file says, with a line feed after each line; nothing if there is no such file."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        for begins, kind in PACKED.items():
            if error.object.startswith(begins):
                stop(f"{path}: is {kind}; make a text of it, and in it {FORMAT}")
        line = error.object.count(b"\n", 0, error.start) + 1
        what = "not UTF-8, perhaps UTF-16 or Latin-1; save the file as UTF-8"
        stop(f"{path}:{line}: {what}, and in it {FORMAT}")
    except OSError as error:
        if not isinstance(error, FileNotFoundError) or path.is_symlink():
            why = f"cannot be read ({error.strerror}: {os.path.realpath(path)})"
            stop(f"{path}: {why}; it has to be a file, in a folder, that you may read")
    return ""


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Stops where a record is none, with its place, what is wrong, and what to write."""
    try:
        yield
    except ValueError as error:
        stop(f"{place}: {error}; {FORMAT}{f' or {CHAT_FORMAT}' * ('message' in str(error))}")


# ---- Records -----------------------------------------------------------------------------------
OTHER_FILES = {  # how a line begins of a file that holds something else; what to say of it
    "version https://git-lfs": "is a Git LFS pointer, not the file; run: git lfs pull",
    "(?i)<(!doctype|html)": "is a web page, saved instead of the file; download that again",
    r'"?[\w ]+"?\s*[,;\t]': "is a table, as CSV; make a line of JSON of each row",
}
MISTAKES = {  # how a line looks with a line feed where it ceases to be JSON; what to say of it
    r"\0": "has NUL bytes, as UTF-16 has; save the file as UTF-8",
    "\n['`‘’“”]": 'has other quotation marks than JSON, which has " around names and texts',
    r"\n,$": "has a comma at its end, as in a list; delete it from each line that has one",
    r"(,\s*\n|\n,\s*)[}\]]": "has a comma after which nothing comes; delete it",
    r"}\s*\n,?\s*{": "has two examples; put each on its own line",
    r"\n$": r"ends too early; put the example on one line, with \n for a new line",
    r"\"\n\w": r"has a quotation mark within a text, where it has to be \"",
    r"\n\\": r"has a backslash, which has to be \\",
    r"\n\t": r"has a tab within a text, where it has to be \t",
}


def parse(line: str) -> object:
    """The JSON on a line; a ValueError if it is none, which names the commonest mistakes."""
    if line.startswith("["):
        raise ValueError("is a list; put each example on its own line, without [ ] and commas")
    try:
        return json.loads(line, parse_int=float, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("has too many lists or objects within each other") from None
    except json.JSONDecodeError as error:
        at = len(line) if error.msg.startswith("Unterminated") else error.pos
        marked = f"{line[:at][-50:]}\n{line[at:][:50]}"
        advice = [what for begins, what in OTHER_FILES.items() if re.match(begins, line)]
        advice += [what for how, what in MISTAKES.items() if re.search(how, marked)]
        advice += [f"no JSON: {error.msg} in column {error.colno}"]
        raise ValueError(advice[0]) from None


def unique_keys(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON; a ValueError if it has a key twice, of which Python keeps the last."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise ValueError(f"has the key {quote(key)} {times} times; keep one")
    return dict(pairs)


FORMS = (  # mlx-lm's three, and the commonest others; of two that fit, the first is read
    ("prompt", "completion"),
    ("messages",),
    ("conversations",),  # as ShareGPT has them
    ("instruction", "output"),  # as Alpaca has them, often with an input
    ("question", "answer"),
    ("text",),
)


def read_example(record: object, place: str) -> Example:
    """An example in one of the FORMS; a ValueError if it is in none of them."""
    record = checked(record, dict, "the example")
    given = [key for key, value in record.items() if value is not None and value != []]
    forms = (form for keys in (given, record) for form in FORMS if {*keys} >= {*form})
    form = next(forms, None)
    if not form:
        raise ValueError(wrong_keys(record, "prompt", "completion", "messages", "text"))
    unread: list[str] = []
    if form[0] in ("messages", "conversations"):
        chat, unread = read_messages(record[form[0]], form[0])
    elif isinstance(record[form[0]], list) and len(form) == 2:  # as TRL has chats
        halves = [checked(record[key], list, f'"{key}"') for key in form]
        chat, unread = read_messages([*halves[0], *halves[1]], " and ".join(form))
    else:
        roles = ("user", "assistant")[-len(form) :]
        texts = [checked(record[key], str, f'"{key}"') for key in form]
        chat = [{"role": role, "content": text} for role, text in zip(roles, texts)]
    further = {key: value for key, value in record.items() if key not in form}
    further = {k: v for k, v in further.items() if (v.strip() if isinstance(v, str) else v)}
    if form[0] == "instruction" and "input" in further:
        chat[0]["content"] += "\n" + checked(further.pop("input"), str, '"input"')
    if "system" in further and len(chat) > 1 and chat[0]["role"] != "system":
        text = checked(further.pop("system"), str, '"system"')
        chat.insert(0, {"role": "system", "content": text})
    *messages, last = chat
    prompt = "\n".join(message["content"] for message in messages)
    return Example(prompt, messages, last["content"], place, (*further, *unread))


ROLES = {"human": "user", "gpt": "assistant"}  # as ShareGPT calls them
ROLES |= {role: role for role in ("system", "user", "assistant")}


def read_messages(messages: object, key: str) -> tuple[list[dict[str, str]], list[str]]:
    """(the messages of a chat, as {"role": …, "content": …}; which further keys they have).

    A ValueError if they are none.
    """
    chat: list[dict[str, str]] = []
    further: dict[str, None] = {}
    for number, message in enumerate(checked(messages, list, f'"{key}"'), 1):
        name = f"message {number}"
        message = checked(message, dict, name)
        if message.get("tool_calls") or message.get("function_call"):
            raise ValueError(f"{name} calls a tool, which is not taught here; leave such chats out")
        keys = ("from", "value") if message.keys() >= {"from", "value"} else ("role", "content")
        if not message.keys() >= set(keys):
            raise ValueError(f"{name} {wrong_keys(message, 'role', 'content')}")
        role, content = (message[key] for key in keys)
        if not isinstance(role, str) or role not in ROLES:
            raise ValueError(f"{name} has another role than system, user or assistant")
        text = checked(joined(content), str, f'"{keys[1]}" of {name}')
        chat.append({"role": ROLES[role], "content": text})
        further |= {other: None for other, value in message.items() if other not in keys and value}
    if chat[-1]["role"] != "assistant":
        raise ValueError("the last message has to be the assistant's, which is learnt")
    return chat, [*further]


def joined(content: object) -> object:
    """A content that is given in parts, as {"type": "text", "text": …}, as one text."""
    parts = content if isinstance(content, list) else []
    if parts and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts):
        return "\n".join(part["text"] for part in parts)
    return content


KINDS = {dict: "an object", list: "a list", str: "a text", float: "a number", bool: "true or false"}
Kind = TypeVar("Kind", dict, list, str)


def checked(value: object, kind: type[Kind], name: str) -> Kind:
    """The value, a text less the white space around it; a ValueError if it cannot be used."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {KINDS.get(type(value), 'null')}, not {KINDS[kind]}")
    if isinstance(value, str):
        value = re.sub(r"\r\n?", "\n", value.strip())  # as Windows ends lines, and old Macs did
    if not value:
        raise ValueError(f"{name} is empty")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"{name} has {len(value):,} characters, too many for any model")
    if isinstance(value, str) and (
        wrong := re.search(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]", value)
    ):
        raise ValueError(f"{name} has {wrong[0]!a}, which is no character of a text; delete it")
    return value


ALIKE = {  # our keys, and what others call them
    "prompt": "prompt question instruction input query context",
    "completion": "completion answer answers output response reply target",
    "messages": "messages conversations conversation dialogue dialog chat turns",
    "text": "text content document passage sentence",
    "role": "role from speaker",
    "content": "content value text message",
}


def wrong_keys(record: dict, *ours: str) -> str:
    """Which keys an object has, and which of ours look meant."""
    lacking = [key for key in ours if key not in record]
    meant = {o: [quote(k) for k in record if k.lower() in ALIKE[o].split()] for o in lacking}
    renames = [f'{" + ".join(theirs)} to "{key}"' for key, theirs in meant.items() if theirs]
    advice = f"rename {' and '.join(renames)}" if renames else f"we take {', '.join(ours)}"
    has = brief(", ".join(map(quote, record)), 200)
    return f"has the key{'s' * (len(record) > 1)} {has}; {advice}"


# ---- Texts -------------------------------------------------------------------------------------
def words(text: str) -> tuple[str, ...]:
    """A text's words, without case, space and punctuation; signs such as -5 or C++ stay."""
    return tuple(word.strip(".,;:!?…\"'()“”‘’«»¿¡") or word for word in text.lower().split())


def brief(text: str, max_length: int) -> str:
    """A text on one line, cut after `max_length` characters."""
    text = " ".join(text.split())
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def quote(text: str) -> str:
    """The first words of a text, on one line."""
    return f'"{brief(text, 60)}"'
