"""Broken data: read as a person would expect, or refused in one line that says what to do.

A refusal names the file and the line, what is wrong and how to put it right; the exit status is 2,
nobody sees a traceback, and nothing on disk has changed.
"""

import json
import os
import shutil

import pytest
from conftest import QuickRun, Run

from lesson import dataset, screen

LIKE_THIS = 'write {"prompt": "a question", "completion": "its answer"}'
GOOD = b'{"prompt": "Who?", "completion": "Me."}\n'


USER, ASSISTANT = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}
HUMAN, GPT = {"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}
PART = {"type": "text", "text": "Who?"}


def chat(*turns):
    """A line of messages, from pairs of role and content."""
    return json.dumps({"messages": [{"role": role, "content": said} for role, said in turns]})


# ---- One line of a file ------------------------------------------------------------------------
LINES = {  # the second line of train.jsonl, a text or bytes; words of the refusal
    # JSON
    "no JSON": ("Who? Me.", "no JSON: Expecting value in column 1"),
    "single quotes": ("{'prompt': 'Who?', 'completion': 'Me.'}", "other quotation marks than JSON"),
    "single quotes around a text": (
        """{"prompt": 'Who?', "completion": "Me."}""",
        "other quotation marks than JSON",
    ),
    "typographic quotes": ("{“prompt”: “Who?”, “completion”: “Me.”}", "other quotation marks"),
    "no quotes": ('{prompt: "Who?", completion: "Me."}', "double quotes in column 2"),
    "a quotation mark in a text": (
        '{"prompt": "Who is "it"?", "completion": "Me."}',
        r"a quotation mark within a text, where it has to be \"",
    ),
    "a trailing comma": (
        '{"prompt": "Who?", "completion": "Me.",}',
        "a comma after which nothing comes; delete it",
    ),
    "a comma between lines": (
        '{"prompt": "Who?", "completion": "Me."},',
        "a comma at its end, as in a list; delete it from each line",
    ),
    "no comma": ('{"prompt": "Who?" "completion": "Me."}', "Expecting ',' delimiter in column 19"),
    "two objects": (
        '{"prompt": "Who?", "completion": "Me."} {"prompt": "What?", "completion": "It."}',
        "two examples; put each on its own line",
    ),
    "two objects and a comma": (
        '{"prompt": "Who?", "completion": "Me."},{"prompt": "What?", "completion": "It."}',
        "two examples; put each on its own line",
    ),
    "an object over several lines": ("{", "ends too early; put the example on one line"),
    "a line break in a text": ('{"prompt": "Who', r"with \n for a new line"),
    "an array": ('["Who?", "Me."]', "is a list; put each example on its own line"),
    "all in an array": (
        '[{"prompt": "Who?", "completion": "Me."}, {"prompt": "What?", "completion": "It."}]',
        "is a list; put each example on its own line, without [ ] and commas",
    ),
    "an array over several lines": (
        '[\n  {"prompt": "Who?", "completion": "Me."},\n',
        "is a list; put each example on its own line",
    ),
    "a backslash": (
        r'{"prompt": "Where is C:\prompt?", "completion": "Me."}',
        r"a backslash, which has to be \\;",
    ),
    "a tab": (
        '{"prompt": "Who\t?", "completion": "Me."}',
        r"a tab within a text, where it has to be \t",
    ),
    "NUL bytes": ('{"prompt": "Who\0?", "completion": "Me."}', "NUL bytes"),
    "UTF-16 without its mark": (
        '{"prompt": "Who?", "completion": "Me."}'.encode("utf-16-le"),
        "NUL bytes, as UTF-16 has; save the file as UTF-8",
    ),
    "Latin-1": (
        '{"prompt": "Café?", "completion": "Me."}'.encode("latin-1"),
        "not UTF-8, perhaps UTF-16 or Latin-1; save the file as UTF-8",
    ),
    "deeply nested": ("[" * 100_000, "a list"),
    "deeply nested within a text": (
        '{"prompt": ' + "[" * 100_000,
        "too many lists or objects within each other",
    ),
    # Values
    "null alone": ("null", "the example is null, not an object"),
    "a text alone": ('"Who? Me."', "the example is a text, not an object"),
    "NaN alone": ("NaN", "the example is a number, not an object"),
    "a number": ('{"prompt": "Who?", "completion": 3}', '"completion" is a number, not a text'),
    "NaN": ('{"prompt": NaN, "completion": "Me."}', '"prompt" is a number, not a text'),
    "a number of 5,000 digits": (
        '{"prompt": %s, "completion": "Me."}' % ("9" * 5000),
        '"prompt" is a number, not a text',
    ),
    "true": ('{"prompt": "Who?", "completion": true}', '"completion" is true or false, not a text'),
    "null": ('{"prompt": null, "completion": "Me."}', '"prompt" is null, not a text'),
    "a list": ('{"prompt": "Who?", "completion": ["Me."]}', '"completion" is a list, not a text'),
    "an object": (
        '{"prompt": {"text": "Who?"}, "completion": "Me."}',
        '"prompt" is an object, not a text',
    ),
    "no text": ('{"prompt": "Who?", "completion": ""}', '"completion" is empty'),
    "empty text": ('{"prompt": " ", "completion": "Me."}', '"prompt" is empty'),
    "only white space": ('{"text": " \\n\\t\u00a0\u2003"}', '"text" is empty'),
    "half a character": (
        '{"prompt": "Who \\ud83d?", "completion": "Me."}',
        r""""prompt" has '\ud83d', which is no character of a text; delete it""",
    ),
    "a control character": (
        '{"prompt": "Who?", "completion": "\\u001b[2JMe."}',
        r""""completion" has '\x1b', which is no character of a text; delete it""",
    ),
    "5 MB": (
        '{"prompt": "Who?", "completion": "%s"}' % ("Me. " * 1_250_000),
        '"completion" has 4,999,999 characters, too many for any model',
    ),
    "5 MB with no end": ('{"prompt": "' + "Who? " * 1_000_000, "ends too early"),
    # Keys
    "no keys": ("{}", "the example is empty"),
    "query and reply": (
        '{"query": "Who?", "reply": "Me."}',
        'keys "query", "reply"; rename "query" to "prompt" and "reply" to "completion"',
    ),
    "question and output": (
        '{"question": "Who?", "output": "Me."}',
        'rename "question" to "prompt" and "output" to "completion"',
    ),
    "input and output": (
        '{"input": "Who?", "output": "Me."}',
        'rename "input" to "prompt" and "output" to "completion"',
    ),
    "instruction, input and answer": (
        '{"instruction": "Answer.", "input": "Who?", "answer": "Me."}',
        'rename "instruction" + "input" to "prompt" and "answer" to "completion"',
    ),
    "an input that is a list": (
        '{"instruction": "Answer.", "input": ["Who?"], "output": "Me."}',
        '"input" is a list, not a text',
    ),
    "a system that is a number": (
        '{"prompt": "Who?", "completion": "Me.", "system": 3}',
        '"system" is a number, not a text',
    ),
    "capitals": (
        '{"Prompt": "Who?", "Completion": "Me."}',
        'rename "Prompt" to "prompt" and "Completion" to "completion"',
    ),
    "one of two": ('{"prompt": "Who?", "response": "Me."}', 'rename "response" to "completion"'),
    "half an example": (
        '{"prompt": "Who?"}',
        'has the key "prompt"; we take prompt, completion, messages, text',
    ),
    "other keys": (
        '{"frage": "Wer?", "antwort": "Ich."}',
        'has the keys "frage", "antwort"; we take prompt, completion, messages, text',
    ),
    # Something else under the file's name
    "a Git LFS pointer": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234567",
        "is a Git LFS pointer, not the file; run: git lfs pull",
    ),
    "a web page": ("<!DOCTYPE html>\n<html><head>", "is a web page, saved instead"),
    "CSV": ("prompt,completion\nWho?,Me.", "is a table, as CSV"),
    "a comma in a sentence before the mistake": (
        '{"prompt": "When do you open?", "completion": "We open at nine on weekdays and Saturdays,'
        ' and the "old" shed is shut."}',
        "has a quotation mark within a text",
    ),
    "CSV in quotation marks": ('"prompt","completion"\n"Who?","Me."', "is a table, as CSV"),
    "a thousand keys": (json.dumps({f"key {n}": n for n in range(1000)}), '"key 0", "key 1"'),
    "a key with a line break": ('{"a\\nb": "Who?"}', 'has the key "a b"'),
    "a key twice": (
        '{"prompt": "Who?", "prompt": "What?", "completion": "Me."}',
        'has the key "prompt" 2 times; keep one',
    ),
    # Messages
    "a dialogue": (
        '{"dialogue": [{"role": "user", "content": "Who?"}]}',
        'rename "dialogue" to "messages"',
    ),
    "speaker and text": (
        '{"messages": [{"speaker": "user", "text": "Who?"}, {"speaker": "bot", "text": "Me."}]}',
        'message 1 has the keys "speaker", "text"; rename "speaker" to "role" and "text" to "cont',
    ),
    "a tool that is called": (
        json.dumps({"messages": [USER, {**ASSISTANT, "tool_calls": [{"id": "c1"}]}]}),
        "message 2 calls a tool, which is not taught here; leave such chats out",
    ),
    "a tool that is called, and nothing said": (
        json.dumps({"messages": [USER, {"role": "assistant", "function_call": {"name": "f"}}]}),
        "message 2 calls a tool",
    ),
    "a conversation that the human ends": (
        json.dumps({"conversations": [HUMAN, GPT, HUMAN]}),
        "the last message has to be the assistant's",
    ),
    "a role too few": (
        '{"messages": [{"content": "Who?"}, {"role": "assistant", "content": "Me."}]}',
        'message 1 has the key "content"; we take role, content',
    ),
    "a picture": (
        json.dumps({"messages": [{**USER, "content": [PART, {"type": "image"}]}, ASSISTANT]}),
        '"content" of message 1 is a list, not a text',
    ),
    "a chat that is answered with a text": (
        json.dumps({"prompt": [USER], "completion": "Me."}),
        '"completion" is a text, not a list',
    ),
    "an unknown role": (
        chat(("robot", "Who?"), ("assistant", "Me.")),
        "message 1 has another role than system, user or assistant",
    ),
    "a role that is a list": (
        chat((["user"], "Who?"), ("assistant", "Me.")),
        "message 1 has anoth",
    ),
    "no answer": (chat(("user", "Who?")), "the last message has to be the assistant's"),
    "no answer at the end": (
        chat(("user", "Who?"), ("assistant", "Me."), ("user", "Why?")),
        "the last message has to be the assistant's",
    ),
    "no messages": ('{"messages": []}', '"messages" is empty'),
    "messages of null": ('{"messages": null}', '"messages" is null, not a list'),
    "a text for messages": ('{"messages": "Who? Me."}', '"messages" is a text, not a list'),
    "texts for messages": ('{"messages": ["Who?", "Me."]}', "message 1 is a text, not an object"),
    "a message of null": (
        chat(("user", "Who?"), ("assistant", None)),
        '"content" of message 2 is null, not a text',
    ),
    "an empty message": (
        chat(("user", "Who?"), ("assistant", " ")),
        '"content" of message 2 is empty',
    ),
}


# ---- Whole folders -----------------------------------------------------------------------------
def link(name, to):
    """Gives the data folder a link of that name."""
    return lambda data: (data / name).symlink_to(to)


def not_a_folder(put):
    """Has something else done where the data folder would be."""
    return lambda data: (data.rmdir(), put(data))


BAD = b'{"prompt": "Who?"}\n'
TEXT = b'{"text": "The sea is wide."}\n'
FOLDERS = {  # the files in it, or what else is done to it; words of the refusal
    "a file packed with gzip": (
        {"train.jsonl": b"\x1f\x8b\x08\x00" + bytes(9) + b"\xff"},
        "train.jsonl: is packed with gzip; make a text of it, and in it write",
    ),
    "a Parquet file": ({"train.jsonl": b"PAR1\x15\x04\xff\xff"}, "train.jsonl: is a Parquet file"),
    "an empty file": ({"train.jsonl": b""}, "train.jsonl: no examples; on each line, "),
    "blank lines alone": (
        {"train.jsonl": b"\n \r\n\t\n"},
        "train.jsonl: no examples; on each line",
    ),
    "a mark alone": ({"train.jsonl": b"\xef\xbb\xbf"}, "train.jsonl: no examples; on each line, "),
    "UTF-16": (
        {"train.jsonl": GOOD.decode().encode("utf-16")},
        "train.jsonl:1: not UTF-8, perhaps UTF-16 or Latin-1; save the file as UTF-8",
    ),
    "UTF-16, the other way round": (
        {"train.jsonl": b"\xfe\xff" + GOOD.decode().encode("utf-16-be")},
        "train.jsonl:1: not UTF-8, perhaps UTF-16",
    ),
    "a program": ({"train.jsonl": b"\x7fELF\2\1\1\0\0\0"}, "train.jsonl:1: has NUL bytes"),
    "old line ends": (
        {"train.jsonl": GOOD.replace(b"\n", b"\r") + BAD},
        "train.jsonl:2: has the key",
    ),
    "after blank lines": (
        {"train.jsonl": b"\r\n\r\n" + GOOD + b"\n" + BAD},
        "train.jsonl:5: has the",
    ),
    "a broken valid.jsonl": (
        {"train.jsonl": GOOD, "valid.jsonl": GOOD + BAD},
        "valid.jsonl:2: has",
    ),
    "a broken test.jsonl": (
        {"train.jsonl": GOOD, "test.jsonl": b"\xff"},
        "test.jsonl:1: not UTF-8",
    ),
    "nothing to ask": ({"train.jsonl": TEXT}, "train.jsonl:1: no questions in the data"),
    "nothing in it": ({}, "train.jsonl: no such file; on each line, "),
    "only test.jsonl": (
        {"test.jsonl": GOOD},
        "train.jsonl: no such file, only test.jsonl; on each",
    ),
    "train.json": (
        {"train.json": b"[]", "notes": b""},
        "train.jsonl: no such file, only train.json, notes; on each line, ",
    ),
    "train.csv": (
        {"a.csv": b"", "train.csv": b"question,answer\nWho?,Me.\n"},
        "train.jsonl: no such file, only train.csv, a.csv; on each line, ",
    ),
    "a hundred other files": (
        {f"page {number}.txt": b"" for number in range(100)},
        "train.jsonl: no such file, only page 0.txt, ",
    ),
    "a file for the folder": (
        not_a_folder(lambda data: data.write_bytes(GOOD)),
        "train.jsonl: cannot be read (Not a directory",
    ),
    "no folder": (
        not_a_folder(lambda data: None),
        "train.jsonl: no such file, nor such a folder; on each line, ",
    ),
    "a folder that links to nowhere": (
        not_a_folder(lambda data: data.symlink_to("nowhere")),
        "train.jsonl: no such file, nor such a folder; on each line",
    ),
    "a folder for the file": (
        lambda data: (data / "train.jsonl").mkdir(),
        "train.jsonl: cannot be read (Is a directory",
    ),
    "a link to nowhere": (
        link("train.jsonl", to="nowhere.jsonl"),
        "nowhere.jsonl); it has to be a file, in a folder",
    ),
    "a link to itself": (
        link("train.jsonl", to="train.jsonl"),
        "train.jsonl: cannot be read (Too many levels of symb",
    ),
    "a split that links to nowhere": (
        link("valid.jsonl", to="nowhere.jsonl"),
        "valid.jsonl: cannot be read (No such file or directory: ",
    ),
}


def snapshot(folder):
    """All that lies in a folder: how and when it was changed last and, where it may be, read."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        about, readable = path.lstat(), path.is_file() and os.access(path, os.R_OK)
        found[path] = about.st_mode, about.st_mtime_ns, readable and path.read_bytes()
    return found


class Home:
    """A folder with the data of a case, in which main.py is started."""

    def __init__(self, folder, case=None):
        self.folder, self.data, self.aside = folder / "home", folder / "home" / "data", folder
        self.data.mkdir(parents=True)
        if case in LINES:
            line = LINES[case][0]
            self.write({"train.jsonl": GOOD + (line if isinstance(line, bytes) else line.encode())})
        elif case in FOLDERS:
            files = FOLDERS[case][0]
            files(self.data) if callable(files) else self.write(files)

    def write(self, files):
        for name, content in files.items():
            (self.data / name).write_bytes(content)

    def run(self, *options, before=None):
        """main.py with these data: forked, or as a process of its own if there is a `before`."""
        options = ("--data", "data", "--adapter-path", "adapters", *options)
        if before is None:
            return QuickRun(*options, cwd=self.folder, folder=self.aside)
        return Run(*options, cwd=self.folder, before=before)

    def refuses(self, *words, options=(), before=None):
        """The run ends as it should, with one line that has all these words; nothing is changed."""
        earlier = snapshot(self.folder)
        run = self.run(*options, before=before)
        assert run.status == 2, run.out + run.err
        assert len(run.err.splitlines()) == 1 and run.err.endswith("\n"), run.err
        assert "Traceback" not in run.err + run.out
        assert len(run.err) < 700
        assert not [said for said in words if said not in run.err], run.err
        assert snapshot(self.folder) == earlier
        assert not (self.folder / "adapters").exists()


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_cannot_be_used(case, tmp_path):
    place = "main.py: data/train.jsonl:2: "
    Home(tmp_path, case).refuses(place, LINES[case][1], LIKE_THIS)


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_cannot_be_used(case, tmp_path):
    Home(tmp_path, case).refuses("main.py: data/", FOLDERS[case][1])


@pytest.mark.parametrize("case", ["query and reply", "UTF-16", "a link to nowhere"])
def test_it_is_the_same_in_a_process_of_its_own(case, tmp_path):
    Home(tmp_path, case).refuses("main.py: data/", {**LINES, **FOLDERS}[case][1], before=())


@pytest.mark.parametrize("name", ["train.jsonl", "."])
def test_data_that_may_not_be_read(name, tmp_path):
    """Root may read everything, unless it is started without that right."""
    before, rights = (), "-dac_override,-dac_read_search"
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("we are root, and there is no setpriv to take its rights away")
        before = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    home = Home(tmp_path)
    home.write({"train.jsonl": GOOD})
    (home.data / name).chmod(0)
    try:
        home.refuses("main.py: data/train.jsonl: cannot be read (Permission denied", before=before)
    finally:
        (home.data / name).chmod(0o700)


# ---- What is handled ---------------------------------------------------------------------------
def example(prompt, completion, **others):
    return (json.dumps({"prompt": prompt, "completion": completion, **others}) + "\n").encode()


WHO = ("Who?", "Me.")
AGAIN = ("Who?\nMe.\nWho?", "Me.")
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
READ = {  # a train.jsonl; the questions and answers that are read from it
    "a byte-order mark": (b"\xef\xbb\xbf" + GOOD, [WHO]),
    "a mark in the middle": (GOOD + b"\xef\xbb\xbf" + GOOD, [WHO, WHO]),
    "CRLF": (GOOD.replace(b"\n", b"\r\n") * 2, [WHO, WHO]),
    "CR": (GOOD.replace(b"\n", b"\r") * 2, [WHO, WHO]),
    "CRLF and CR in the texts": (
        example("Who?\r\nWhere?", "Me.\rHere."),
        [("Who?\nWhere?", "Me.\nHere.")],
    ),
    "blank lines": (b"\n \t\n" + GOOD + b"\n\r\n\xc2\xa0\n" + GOOD + b"\n\n", [WHO, WHO]),
    "no line end": (GOOD.strip(), [WHO]),
    "white space around": (example("\n Who?\t", " Me.\u3000 "), [WHO]),
    "white space within": (example("Who  is\n it?", "Me."), [("Who  is\n it?", "Me.")]),
    "emoji": (example("Who? \U0001f600", f"Me {FAMILY}"), [("Who? \U0001f600", f"Me {FAMILY}")]),
    "emoji as they are": (
        '{"prompt": "\U0001f600", "completion": "\u2764\ufe0f"}'.encode(),
        [("\U0001f600", "\u2764\ufe0f")],
    ),
    "right to left": (
        example("\u05de\u05d9?", "\u0623\u0646\u0627."),
        [("\u05de\u05d9?", "\u0623\u0646\u0627.")],
    ),
    "combining marks": (
        example("Cafe\u0301?", "Z\u0351\u034a\u030aalgo"),
        [("Cafe\u0301?", "Z\u0351\u034a\u030aalgo")],
    ),
    "other line ends in a text": (
        '{"prompt": "Who\u2028?", "completion": "Me\u0085."}'.encode(),
        [("Who\u2028?", "Me\u0085.")],
    ),
    "further keys": (example(*WHO, id=7, score=float("nan"), tags=[None, {}]), [WHO]),
    "mixed formats": (
        GOOD
        + chat(("system", "Be kind."), ("user", "Who?"), ("assistant", "Me.")).encode()
        + b"\n"
        + TEXT,
        [WHO, ("Be kind.\nWho?", "Me."), ("", "The sea is wide.")],
    ),
    "instruction and output": (
        b'{"instruction": "Who?", "input": "", "output": "Me.", "text": "### Who? Me."}',
        [WHO],
    ),
    "instruction, input and output": (
        b'{"instruction": "Who?", "input": "You.", "output": "Me."}',
        [("Who?\nYou.", "Me.")],
    ),
    "question and answer": (b'{"question": "Who?", "answer": "Me.", "id": 3}', [WHO]),
    "conversations": (json.dumps({"conversations": [HUMAN, GPT]}).encode(), [WHO]),
    "from and value": (json.dumps({"messages": [HUMAN, GPT, HUMAN, GPT]}).encode(), [AGAIN]),
    "prompt and completion as chats": (
        json.dumps({"prompt": [USER], "completion": [ASSISTANT]}).encode(),
        [WHO],
    ),
    "content in parts": (
        json.dumps({"messages": [{**USER, "content": [PART, PART]}, ASSISTANT]}).encode(),
        [("Who?\nWho?", "Me.")],
    ),
    "a system message beside": (example(*WHO, system="Be kind."), [("Be kind.\nWho?", "Me.")]),
    "empty keys of another form": (
        b'{"text": "The sea.", "question": null, "answer": null, "conversations": []}',
        [("", "The sea.")],
    ),
    "a blank input": (b'{"instruction": "Who?", "input": " ", "output": "Me."}', [WHO]),
    "no system message": (example(*WHO, system=None) + example(*WHO, system="\n"), [WHO, WHO]),
    "both formats in a line": (
        b'{"prompt": "Who?", "messages": [{"role": "assistant", "content": "Me."}], "text": 1}',
        [("", "Me.")],
    ),
    "900,000 characters": (example("Who?", "M" * 900_000), [("Who?", "M" * 900_000)]),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read_as_one_would_expect(case, tmp_path):
    content, expected = READ[case]
    (tmp_path / "train.jsonl").write_bytes(content)
    examples = dataset.load_examples(tmp_path / "train.jsonl")
    assert [(e.prompt, e.completion) for e in examples] == expected


def test_keys_that_are_not_read_are_named(tmp_path):
    """Each once; those without a value are nothing that is missed."""
    home = Home(tmp_path)
    train = example(*WHO, id=7, source="mine", note=None) + example(*WHO, id=8, tags=[])
    alpaca = {"instruction": "Who?", "input": "", "output": "Me.", "text": "### Who? Me."}
    home.write({"train.jsonl": train + json.dumps(alpaca).encode(), "test.jsonl": GOOD})
    data = dataset.load_data(str(home.data), "")
    assert [e.not_read for e in data["train"]] == [("id", "source"), ("id",), ("text",)]
    thinking = {**ASSISTANT, "reasoning_content": "Hm.", "tool_calls": [], "name": None}
    (home.data / "aloud.jsonl").write_text(json.dumps({"messages": [USER, thinking], "id": 7}))
    assert [e.not_read for e in dataset.load_examples(home.data / "aloud.jsonl")] == [
        ("id", "reasoning_content")
    ]
    with screen.console.capture() as shown:
        screen.describe_data(data, str(home.data))
    assert shown.get() == (
        "Not read: aloud.jsonl. What is read is called train.jsonl, valid.jsonl, test.jsonl.\n"
        'Not read of the data: "id", "source", "text".\n'
    )


def test_the_system_column_is_the_system_message(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(example(*WHO, system="Be kind."))
    (read,) = dataset.load_examples(tmp_path / "train.jsonl")
    system, user = read.messages
    assert system == {"role": "system", "content": "Be kind."} and user["role"] == "user"


def test_valid_may_have_the_name_that_it_has_on_the_hub(tmp_path):
    """If both are there, valid.jsonl is read, and the screen says so."""
    home = Home(tmp_path)
    home.write({"train.jsonl": GOOD, "validation.jsonl": example("Whose?", "Mine.")})
    questions = [e.prompt for e in dataset.load_data(str(home.data), "")["valid"]]
    assert questions == ["Whose?"]
    home.write({"valid.jsonl": example("Where?", "Here.")})
    assert [e.prompt for e in dataset.load_data(str(home.data), "")["valid"]] == ["Where?"]
    with screen.console.capture() as shown:
        screen.describe_data(dataset.load_data(str(home.data), ""), str(home.data))
    assert shown.get().startswith("Of valid.jsonl and validation.jsonl, the first is read.\n")


LONG_QUESTION = example("Who? " * 60, "Me.")
LONG_ANSWER = example("Tell me.", "It is I. " * 20)


def test_the_lesson_goes_on_with_what_is_left(tmp_path):
    """All of that at once; what is too long, and what differs in white space alone, it says."""
    home, lines = Home(tmp_path), [content for content, _ in READ.values()]
    first = b"".join([LONG_QUESTION, LONG_ANSWER, GOOD, example(" Who?", "Me. ")])
    train = b"\n".join([first, *lines[:-1]])
    home.write({"train.jsonl": train, "test.jsonl": GOOD, "valid.jsonl": b"\xef\xbb\xbf\r\n"})
    run = home.run("--iters", 1, "--max-seq-length", 40)
    assert run.status == 0, run.err
    assert "Left out, of over 40 tokens: 2\n" in run.out, run.out
    assert 'train.jsonl:1: "Who? Who?' in run.out and 'train.jsonl:2: "Tell me."' in run.out
    assert 'train.jsonl:4: "Who?", as data/train.jsonl:3\n' in run.out
    assert (home.folder / "adapters" / "results.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["prompt", "completion"])
def test_what_is_left_out_is_not_asked_either(case, tmp_path):
    """Nor does a long answer let the model write as much to each question."""
    home, long = Home(tmp_path), {"prompt": "Who is it?", "completion": "It is I."}
    home.write({"train.jsonl": GOOD + example(**long | {case: "Who then? " * 2000}) + GOOD})
    run = home.run("--iters", 1)
    assert run.status == 0, run.err
    assert "Left out, of over 512 tokens: 1\n" in run.out
    record = json.loads((home.folder / "adapters" / "results.json").read_text())
    assert {answer["question"] for answer in record["answers"]} == {"Who?"}
    assert all(answer["base"]["written"] <= 60 for answer in record["answers"])


TOO_LONG = {  # train.jsonl, --max-seq-length, words of the refusal
    "an answer": (LONG_ANSWER, 40, "data/train.jsonl:1: over 40 tokens, as are all examples"),
    "a question, which leaves nothing of the answer": (LONG_QUESTION + LONG_ANSWER, 40, "over 40"),
    "a question longer than the model's context": (example("Who? " * 600, "Me."), 2048, "over 512"),
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_examples_of_which_each_is_too_long(case, tmp_path):
    content, most, said = TOO_LONG[case]
    home = Home(tmp_path)
    home.write({"train.jsonl": content})
    home.refuses(
        said, "shorten them, or raise --max-seq-length", options=("--max-seq-length", most)
    )
