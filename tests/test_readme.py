"""The README is true: its commands run and print what it shows, its links lead somewhere."""

import csv
import os
import re
import subprocess
from operator import attrgetter
from xml.etree import ElementTree

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")


SECONDS = r"\d+\.\d+%?"  # and losses: numbers with a point
REAL_LLM = "output of a real LLM"  # which tests/test_real_llms.py runs and compares


def blocks():
    """(kind, the note in the comment above it, text) of each block of code, in order."""
    pattern = r"(?:<!-- (?P<note>.*?) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```\n"
    return [
        (found["kind"], found["note"] or "", found["text"])
        for found in re.finditer(pattern, README, re.DOTALL)
    ]


def comparable(text, note=""):
    """A text's lines, less what may differ on another machine: seconds, losses, steps."""
    number = r"-?\d[\d,.]*(e-?\d+)?%?" if "figures may differ" in note else SECONDS
    lines = [re.sub(number, "#", " ".join(line.split())) for line in text.splitlines()]
    varies = ("step ", "Cost: ", "Kept: ", "Perplexity ", "A token of ")
    return [line for line in lines if line and line != "…" and not line.startswith(varies)]


def assert_shown(shown, printed, note):
    """Every line that is shown was printed, in this order."""
    printed = iter(comparable(printed, note))
    for line in comparable(shown, note):
        assert line in printed, f"not printed (here): {line}"


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_command_works_in_a_fresh_clone_and_prints_what_is_shown(tmp_path):
    """From the first, which sets all up, to the last; nothing but the clone and the registries."""
    clone = tmp_path / "a fresh clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    env, printed, ran = {**os.environ}, "", 0
    env.pop("OPENBLAS_NUM_THREADS", None)  # as a learner has it
    for kind, note, text in blocks():
        if kind == "bash" and not note.startswith("not run: "):
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", text],
                cwd=clone,
                env=env,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{text}\n{done.stderr[-2000:]}"
            printed, ran = done.stdout, ran + 1
            if ran == 1:
                status = ["git", "status", "--porcelain"]
                assert subprocess.check_output(status, cwd=clone) == b"", "the lesson leaves traces"
        elif kind == "text" and not note.startswith(REAL_LLM):
            assert note.startswith("output"), "a transcript that is compared with nothing"
            assert_shown(text, printed, note)
    assert ran >= 7
    tests = ["bash", "-c", "bash init.sh && .venv/bin/python3 -m pytest --collect-only -q"]
    again = subprocess.run(tests, cwd=clone, check=True, capture_output=True, text=True)
    assert again.stdout.startswith("ready"), "init.sh, run again, changes nothing"
    assert "test_lesson.py" in again.stdout
    activated = ["bash", "-c", "source .venv/bin/activate && python3 main.py --help"]
    subprocess.run(activated, cwd=clone, check=True, capture_output=True)


def test_what_is_not_run_says_why_and_that_another_test_does_it():
    notes = [note for kind, note, _ in blocks() if kind == "bash"]
    unrun = [note for note in notes if note]
    assert 0 < len(unrun) < len(notes) / 2
    for note in unrun:
        assert re.match(r"not run: .+\btest\b", note), note


def test_the_transcript_is_of_this_run(lesson):
    """Answers and counts; seconds, losses and steps may differ on another machine."""
    note, shown = next((note, text) for kind, note, text in blocks() if kind == "text")
    of_this_run = shown.split("Ask it again:")[0].replace("in adapters", "in")
    assert "My first name is Sharon." in of_this_run and "tokens for 1,000" in of_this_run
    printed = re.sub(r"(Saved: .* in ).*", r"\1", lesson.out)
    assert_shown(of_this_run, printed, note)


def test_code_that_is_shown_stands_in_main_py():
    shown = [text for kind, note, text in blocks() if kind == "python"]
    assert shown and all(text in (ROOT / "main.py").read_text() for text in shown)


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_link_inside_leads_somewhere():
    headings = {anchor(text) for text in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", README)
    inside = [link for link in links if not link.startswith("https://")]
    assert len(inside) >= 20
    for link in inside:
        assert link in headings if link.startswith("#") else (ROOT / link).exists(), link


def test_every_picture_says_in_words_what_it_shows():
    pictures = re.findall(r"!\[(.*?)\]\((.+?)\)", README)
    beside = re.findall(r'<img src="(.+?)".* alt="(.+?)">', README)
    pictures += [(words, path) for path, words in beside]
    assets = [*(ROOT / "assets").glob("*.png"), *(ROOT / "assets").glob("*.svg")]
    assert {path for _, path in pictures} == {f"assets/{path.name}" for path in assets}
    assert all(len(words) > 40 for words, _ in pictures)


def test_the_first_picture_is_of_the_run_that_is_shown():
    """All but what may differ on another machine."""
    svg = ElementTree.fromstring((ROOT / "assets" / "lesson.svg").read_text("utf-8"))
    drawn = "".join("".join(re.sub(SECONDS, "#", text) for text in svg.itertext()).split())
    shown = next(text for kind, _, text in blocks() if kind == "text").split("Ask it again:")[0]
    lines = comparable(shown)[1:]  # the title is printed before anything is recorded
    assert len(lines) > 50
    for line in lines:
        assert "".join(line.split()) in drawn, line


def test_functions_and_options_that_are_named_exist():
    import main

    names = "models.load make_manual encode loss_fn make_step train answer evaluate"
    for name in names.split():
        assert f"`{name}`" in README and callable(attrgetter(name)(main)), name
    options = (ROOT / "lesson" / "options.py").read_text()
    offered = set(re.findall(r'option\(\s*"(--[\w-]+)"', options))
    assert offered == set(re.findall(r"^\| `(--[\w-]+)`", README, re.MULTILINE))


def tried(model):
    """The rows on a model in the table of what was tried."""
    with (ROOT / "more" / "measured_recipes.tsv").open(newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row["model"] == model]


def told(pattern):
    """The numbers that the README tells where this pattern fits."""
    return [*map(int, re.search(pattern, " ".join(README.split())).groups())]


def test_what_was_tried_is_told_as_the_table_has_it():
    """The fewest and the most: answers kept by both LLMs, orders that SmolLM2 got right."""
    full_rate = [row for row in tried("gemma3") if row["note"].startswith("rate 0.6 / width")]
    kept = [int(row["still"]) for row in full_rate]
    assert told(r"at 0\.6 / width .* between (\d+) and (\d+) of 38") == [min(kept), max(kept)]
    defaults = [row for row in tried("smollm2") if row["note"] == "the defaults"]
    others = [row for row in defaults if row["subject"] != "sharon"]
    assert len({row["subject"] for row in others}) == 4
    kept = [int(row["still"]) for row in others]
    assert told(r"it kept (\d+) to (\d+) after four other subjects") == [min(kept), max(kept)]
    right = [int(row["right"]) for row in others if row["subject"] == "orders"]
    assert len(right) == 3
    assert told(r"SmolLM2-135M-Instruct got (\d+) to (\d+) with three") == [min(right), max(right)]


def test_it_takes_less_than_half_an_hour():
    """4,000 to 6,000 words, without commands, outputs, and what is folded away; in all, 9,000."""
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    unfolded = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    assert 4000 <= len(unfolded.split()) <= 6000 and len(text.split()) <= 9000
