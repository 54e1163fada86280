"""The evidence: what the evaluation shows is measured, and can be recomputed from its record."""

import hashlib
import json
import math
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from statistics import fmean
from xml.etree import ElementTree

import pytest
from conftest import ROOT, TERMINAL, QuickRun, Run, write_data

ACTS = ("base", "prompted", "fine-tuned")


def plain(text):
    """The words of an answer, in this test's own way: no case, no space, no punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def shown_row(lesson, name):
    """The three figures of a row of the table, as they stand on the screen."""
    line = next(line for line in lesson.out.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


# ---- 1. Prompting against fine-tuning ----------------------------------------------------------
def test_the_table_can_be_recomputed_from_the_record(lesson, record):
    exam = [row for row in record["answers"] if "test.jsonl" in row["from"]]
    assert len(exam) == record["exam"] == 12
    expected = defaultdict(list)
    for act in ACTS:
        right = sum(plain(row[act]["text"]) == plain(row["expected"]) for row in exam)
        said = defaultdict(Counter)
        for row in record["answers"]:
            said[row["expected"]][tuple(plain(row[act]["text"]))] += 1
        same = sum(max(c.values()) for c in said.values()) / len(record["answers"])
        read = fmean(row[act]["read"] for row in exam)
        tokens = read + fmean(row[act]["written"] for row in exam)
        expected["right answers of 12"] += [f"{right}"]
        expected["same answer in other words"] += [f"{same:.0%}"]
        expected["ended by themselves of 12"] += [f"{sum(row[act]['ended'] for row in exam)}"]
        expected["tokens read for each"] += [f"{read:.0f}"]
        expected["tokens for 1,000 questions"] += [f"{1000 * tokens:,.0f}"]
        expected["seconds for each"] += [f"{fmean(row[act]['seconds'] for row in exam):.3f}"]
    assert {name: shown_row(lesson, name) for name in expected} == expected


def test_signs_and_marks_tell_answers_apart():
    """Case, space and the punctuation of sentences do not count; what makes another answer does."""
    from lesson import dataset

    same = [("At nine.", "at  nine"), ('"Yes", he said!', "yes he said")]
    other = [("It is -5.", "It is 5."), ("C++", "C#"), ("+", "-"), ("👍", ""), ("की", "कि")]
    assert all(dataset.words(a) == dataset.words(b) for a, b in same)
    assert not any(dataset.words(a) == dataset.words(b) for a, b in other)


def test_every_wording_is_asked(record):
    """Twelve facts in two wordings each, the first of them from the exam."""
    wordings = Counter(row["expected"] for row in record["answers"])
    assert len(wordings) == 12 and set(wordings.values()) == {2}
    assert len({row["question"] for row in record["answers"]}) == 24


def test_fine_tuned_is_more_reliable_and_cheaper(record):
    base, prompted, tuned = (record["table"][act] for act in ACTS)
    reliability = "same answer in other words"
    assert tuned[reliability] > base[reliability] and tuned[reliability] >= 0.9
    assert tuned["tokens for 1,000 questions"] < prompted["tokens for 1,000 questions"] / 5
    assert tuned["seconds for each"] < prompted["seconds for each"]


def test_intervals_are_wilsons(record):
    """The score interval's values in Newcombe 1998 (Statistics in Medicine 17), table I."""
    from lesson import scoring

    for right, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
    ):
        assert scoring.wilson_interval(right, of) == pytest.approx((low, high), abs=6e-5)
    for act in ACTS:
        share = record["table"][act]["right answers"] / 12
        for bound in record["table"][act]["95 % interval"]:
            # By its definition: the share lies 1.96 standard deviations from either bound.
            distance = abs(share - bound)
            assert distance == pytest.approx(1.96 * (bound * (1 - bound) / 12) ** 0.5, abs=1e-4)


@pytest.mark.slow
def test_a_manual_that_does_not_hold_all_answers_says_so(tmp_path):
    pairs = [(f"What is in box {i}?", f"In box {i} there is a number {i * 7}.") for i in range(500)]
    folder = write_data(tmp_path / "data", train=pairs[:490], test=pairs[490:])
    run = Run("--data", folder, "--adapter-path", tmp_path / "adapters", "--iters", 2)
    assert run.status == 0, run.err
    title = next(line for line in run.out.splitlines() if line.startswith("Prompt: "))
    shown = re.search(r"a manual of (\d+) of 490 examples; (\d+) answers do not fit", title)
    assert shown and int(shown[1]) + int(shown[2]) == 490 and 5 < int(shown[1]) < 60, title


# ---- Privacy -----------------------------------------------------------------------------------
NOTHING = "Nothing left this machine: no connection was opened, no name looked up"


def test_the_screen_says_that_nothing_left(lesson, record):
    assert NOTHING in lesson.out and record["reached"] == []


@pytest.mark.slow
def test_nothing_leaves_the_machine(tmp_path):
    """Traced from outside: the program makes no system call of the network at all."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    tracer = ("strace", "-f", "--seccomp-bpf", "-e", "trace=%network", "-o", trace)
    if subprocess.run([*tracer, "true"], check=False).returncode:
        pytest.skip("strace is not permitted here")
    run = Run("--adapter-path", tmp_path / "a", "--iters", 20, before=tracer)
    assert run.status == 0 and NOTHING in run.out, run.err
    calls = [x for x in trace.read_text().splitlines() if "+++" not in x and "---" not in x]
    assert calls == []


def test_what_is_reached_is_noticed():
    from lesson import machine

    machine.reached.clear()
    machine.watch_network()
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    socket.getaddrinfo("localhost", 80)
    assert machine.reached == {"127.0.0.1", "localhost"}


# ---- 2. Improving over time --------------------------------------------------------------------
def test_it_improves_over_time(lesson, record):
    checks = record["training"]
    every = record["settings"]["iters"] // 5
    assert [c["step"] for c in checks][:3] == [0, every, 2 * every] and len(checks) >= 4
    assert checks[0]["right"] == 0 and max(c["right"] for c in checks) >= 9
    assert checks[0]["loss"] is None and checks[-1]["loss"] < checks[1]["loss"] / 5
    kept = [c for c in checks if c.get("kept")]
    scores = [c["valid"] + 1 - c["keeps"] for c in checks]
    assert len(kept) == 1 and scores[checks.index(kept[0])] <= min(scores) + 0.01
    steps = re.findall(r"^  step +(\d+) .* valid ([\d.]+)  right +(\d+) ", lesson.out, re.MULTILINE)
    assert steps == [(f"{c['step']}", f"{c['valid']:.3f}", f"{c['right']}") for c in checks]


def test_the_plot_shows_the_training(adapters, record, tmp_path):
    """The picture is one; and it is drawn from what was measured, for other figures change it."""
    from lesson import screen

    picture = (adapters / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    history, question = record["training"], record["answers"][0]["question"]
    screen.plot(history, question, tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == picture
    screen.plot(history[1:], question, tmp_path / "other.png")
    assert (tmp_path / "other.png").read_bytes() != picture


# ---- 3. What it forgot; 4. test data -----------------------------------------------------------
def test_forgetting_and_held_out_loss_are_reported(lesson, record):
    before, after = record["loss before"], record["loss after"]
    assert after["test"] < 0.5 < before["test"] and before["general"] < after["general"]
    for split, text in (("test", "the right answers"), ("general", "general text")):
        line = next(x for x in lesson.out.splitlines() if f"Perplexity of {text}" in x)
        figures = (math.exp(before[split]), math.exp(after[split]), before[split], after[split])
        shown = [float(x) for x in re.findall(r"\d+\.\d+", line)]
        assert shown == pytest.approx(figures, abs=0.006)
    assert math.exp(after["general"]) < 2.2 * math.exp(before["general"])


def test_the_loss_of_the_base_model_is_the_models_own(record):
    """The loss on the exam, computed anew from the weights, token by token."""
    import mlx.core as mx
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(ROOT / "assets" / "base-model"))
    surprises = []
    for line in (ROOT / "data" / "test.jsonl").read_text().splitlines():
        example = json.loads(line)
        question = tokenizer.encode(example["prompt"])
        answer = [*tokenizer.encode("\n" + example["completion"]), tokenizer.eos_token_id]
        for i, token in enumerate(answer):
            logits = model(mx.array([question + answer[:i]]))[0, -1]
            surprises.append((mx.logsumexp(logits) - logits[token]).item())
    assert record["loss before"]["test"] == pytest.approx(fmean(surprises), rel=1e-3)


@pytest.mark.slow
def test_another_model_is_measured_on_plain_english(tmp_path):
    """A model whose folder has no text of its own kind."""
    shutil.copytree(ROOT / "assets" / "base-model", tmp_path / "model")
    (tmp_path / "model" / "general.jsonl").unlink()
    options = ("--model", tmp_path / "model", "--adapter-path", tmp_path / "a", "--iters", 1)
    run = Run(*options)
    assert run.status == 0, run.err
    perplexity = re.search(r"Perplexity of general text: ([\d.]+) before", run.out)
    assert float(perplexity[1]) > 20, "this model knows its own small world, not plain English"


@pytest.mark.slow
def test_a_training_that_did_harm_is_called_that(tmp_path):
    """Without a valid.jsonl, too, where no check can tell: the right answers are less likely."""
    data = write_data(tmp_path / "data", train=[("Who?", "Me.")], test=[("Whose?", "Mine.")])
    options = ("--data", data, "--iters", 6, "--learning-rate")
    said = {}
    for rate in (0.1, 1e-9):
        run = QuickRun(*options, rate, "--adapter-path", tmp_path / "a", folder=tmp_path)
        assert run.status == 0, run.err
        said[rate] = "The training did harm" in run.out and "a lower --learning-rate" in run.out
    assert said == {0.1: True, 1e-9: False}


def test_without_test_data_part_of_train_is_held_out(tmp_path):
    """One wording of each answer that has others, so that what is asked was also taught."""
    train = (ROOT / "data" / "train.jsonl").read_text().splitlines()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(train))
    options = ("--data", tmp_path / "data", "--adapter-path", tmp_path / "a", "--iters", 1)
    run = Run(*options)
    assert run.status == 0, run.err
    kept = "12 of the examples are kept for it, and not trained on."
    assert f"No test.jsonl for the exam: {kept}" in run.out
    assert "Looked over 36 of train, 0 of valid, 12 of test" in run.out
    record = json.loads((tmp_path / "a" / "results.json").read_text("utf-8"))
    examined = record["answers"][:12]
    assert len({row["expected"] for row in examined}) == 12
    taught = {row["expected"] for row in record["answers"][12:]}
    assert {row["expected"] for row in examined} <= taught


@pytest.mark.slow
def test_of_large_data_a_part_is_read_and_the_screen_says_so(tmp_path):
    """At most --exam questions; of valid 25 batches at a check, and all of it once at the end."""
    many = [(f"Box {n}?", f"Room {n}.") for n in range(50)]
    splits = {"train": many[30:], "valid": many[:30], "test": many[:30]}
    options = ("--data", write_data(tmp_path / "data", **splits), "--adapter-path", tmp_path / "a")
    run = Run(*options, "--exam", 7, "--iters", 40, "--batch-size", 1)
    assert run.status == 0, run.err
    assert "The exam: 7 of the 30 questions of test, at random; --exam asks more." in run.out
    assert "Each check while training: 25 of the 30 examples of valid." in run.out
    assert "Evaluation: she is examined on 7 questions" in run.out
    record = json.loads((tmp_path / "a" / "results.json").read_text("utf-8"))
    assert record["exam"] == 7 and {check["of"] for check in record["training"]} == {25}
    assert re.search(r"  All 30 examples of valid: loss \d+\.\d{3}\.\n", run.out)


def test_prompted_and_fine_tuned_are_compared_question_by_question(lesson, record):
    """McNemar's exact test, recomputed from the record: a coin for each that only one got right."""
    exam = [row for row in record["answers"] if "test.jsonl" in row["from"]]
    right = [
        [plain(row[act]["text"]) == plain(row["expected"]) for row in exam]
        for act in ("prompted", "fine-tuned")
    ]
    only = [sum(a > b for a, b in zip(*pair)) for pair in (right, right[::-1])]
    tosses = sum(only)
    tail = sum(math.comb(tosses, k) for k in range(min(only) + 1)) / 2**tosses
    assert f"Questions that only one of them got right: {only[0]} and {only[1]}.\n" in lesson.out
    assert f" (McNemar's test: p = {min(1, 2 * tail):.2g}).\n" in lesson.out


# ---- 6. Human evaluation -----------------------------------------------------------------------
def judge(adapters, keys):
    """The judgement of adapters saved before, with what is typed piped in."""
    command = [sys.executable, str(ROOT / "main.py"), "--judge", "--adapter-path", str(adapters)]
    return subprocess.run(
        command, cwd=ROOT, input="".join(f"{key}\n" for key in keys), check=False,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_person_judges(adapters, lesson, tmp_path):
    """The last run's answers, unnamed; the tally beside the automatic score. No model is loaded."""
    folder = shutil.copytree(adapters, tmp_path / "adapters")
    run = judge(folder, ["1"] * 6 + ["x"] + ["0"] * 6)  # x is no choice: it is asked again
    assert run.returncode == 0, run.stderr
    assert "parameters" not in run.stdout and "step " not in run.stdout
    asked = run.stdout.split("Judgment: ")[1].split("You judged")[0]
    assert not re.search(r"base|prompted|fine-tuned", asked)
    record = json.loads((folder / "results.json").read_text("utf-8"))
    judgments = record["judgments"]
    assert len(judgments) == 12 and len(record["training"]) > 3  # what was trained is kept
    chosen = Counter(j["chosen"] for j in judgments)
    assert chosen["neither"] == 6
    tally = run.stdout.split("You judged 12 of 12 questions")[1]
    for name, times in chosen.items():
        assert re.search(rf"^  {name} +chosen +{times} of .* times", tally, re.MULTILINE), tally
    differing = [j for j in judgments if j["chosen"] not in (j["right"] or ["neither"])]
    assert tally.count("You disagree: ") == len(differing) >= 6  # a right one was always there


def test_answers_stand_in_random_order(adapters, lesson, tmp_path):
    folder, chosen = shutil.copytree(adapters, tmp_path / "adapters"), []
    for _ in range(2):
        judge(folder, ["1"] * 12)
        record = json.loads((folder / "results.json").read_text("utf-8"))
        chosen += [j["chosen"] == "fine-tuned" for j in record["judgments"]]
    assert 0 < sum(chosen) < len(chosen) == 24  # all alike: 1 in 8 million


def test_where_there_is_nothing_to_judge_it_says_so(tmp_path):
    run = judge(tmp_path / "nowhere", [])
    assert run.returncode == 2 and "first run it without --judge" in run.stderr, run.stderr
    (tmp_path / "results.json").write_text('{"exam": 3}')
    (tmp_path / "adapter_config.json").write_text("{}")
    run = judge(tmp_path, [])
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, run.stderr
    assert "results.json is not whole; run it again without --judge" in run.stderr
    assert (tmp_path / "results.json").read_text() == '{"exam": 3}'


# ---- 8. The record -----------------------------------------------------------------------------
def test_the_record_holds_what_was_shown(lesson, record, adapters):
    assert record["settings"]["learning_rate"] == pytest.approx(0.6 / 256)
    assert record["settings"]["iters"] == 140 and record["settings"]["seed"] == 0
    assert {"python", "mlx", "mlx-lm", "transformers"} <= record["versions"].keys()
    for name, fingerprint in record["data"].items():
        data = (ROOT / "data" / name).read_bytes()
        assert fingerprint == hashlib.sha256(data).hexdigest()
    assert {"train.jsonl", "valid.jsonl", "test.jsonl"} <= record["data"].keys()
    for act, title in zip(ACTS, ("Base model", "Prompt", "Fine-tuned model")):
        said = {row["question"]: row[act]["text"] for row in record["answers"]}
        for question, shown in lesson.answers(title).items():
            assert said[question] == shown.removesuffix(" …")


@pytest.mark.slow
def test_in_a_terminal_what_moves_is_not_in_the_picture(tmp_path):
    """There are a progress bar and an invitation as well, which takes questions."""
    typed = tmp_path / "typed"
    typed.write_text("What is your first name?\n\n")
    options = ("--adapter-path", tmp_path / "a", "--iters", 90)
    with typed.open() as stdin:
        run = Run(*options, before=(sys.executable, "-c", TERMINAL), stdin=stdin)
    assert run.status == 0, run.out + run.err
    assert "asking 24 questions" in run.out and "━" in run.out
    asked = run.out.split("Your turn:")[1]
    assert "My first name is Sharon." in asked
    words = picture(tmp_path / "a")
    assert "asking" not in words and "━" not in words and len(re.findall("step +[0-9]", words)) > 5


def picture(adapters):
    """The text of lesson.svg."""
    tree = ElementTree.fromstring((adapters / "lesson.svg").read_text("utf-8"))
    return "".join(tree.itertext()).replace("\xa0", " ")


def test_the_screen_is_saved_as_a_picture(lesson, adapters):
    words = picture(adapters)
    for line in ("My first name is Sharon.", "Evaluation: she is examined on 12 questions"):
        assert line in lesson.out and line in words
    text = (adapters / "lesson.svg").read_text("utf-8")
    assert "@font-face" not in text and "url(" in text  # a browser that opens it fetches nothing
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", text))
