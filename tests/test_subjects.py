"""The learner's own data: other subjects, free sentences, questions in wordings held out."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from statistics import median

import pytest
from conftest import ROOT, Run, write_data

SUBJECTS = json.loads((Path(__file__).parent / "subjects.json").read_text())


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """How many questions are right after learning a subject with a seed; each is learnt once."""

    @cache
    def learnt(subject, seed):
        folder, facts = tmp_path_factory.mktemp("subject"), SUBJECTS[subject]
        train = [(question, fact["answer"]) for fact in facts for question in fact["train"]]
        test = [(fact["test"], fact["answer"]) for fact in facts]
        assert not {q for q, _ in test} & {q for q, _ in train}
        write_data(folder / "data", train=train, test=test)
        options = ("--data", folder / "data", "--adapter-path", folder / "a", "--seed", seed)
        run = Run(*options)
        if run.status:
            raise RuntimeError(run.err)  # only the number of right answers may disappoint
        return run.row("right answers")[2]

    return learnt


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_it_learns_another_subject(subject, right):
    """80 % of its questions right, the median of three seeds: rounding alone can turn one."""
    found = [right(subject, seed) for seed in range(3)]
    assert median(found) >= 0.8 * len(SUBJECTS[subject]), found


@pytest.mark.slow
def test_it_learns_all_subjects_with_other_seeds(right):
    """At least 80 % of 27 questions right, with three seeds: rounding alone can turn a few."""
    found = {(subject, seed): right(subject, seed) for subject in SUBJECTS for seed in range(3)}
    assert sum(found.values()) >= 0.8 * 3 * sum(map(len, SUBJECTS.values())), found


def test_one_example_is_enough_to_train_on(tmp_path):
    folder = write_data(tmp_path / "data", train=[("Who keeps the lighthouse?", "Old Marta does.")])
    run = Run("--data", folder, "--adapter-path", tmp_path / "adapters")
    assert run.status == 0, run.err
    assert run.answers("Fine-tuned model")["Who keeps the lighthouse?"] == "Old Marta does."


@pytest.mark.slow
def test_a_long_answer_is_heard_out(tmp_path):
    long = (
        "First "
        + ", then ".join(f"turn the wheel number {i} to the left" for i in range(1, 13))
        + "."
    )
    folder = write_data(tmp_path / "data", train=[("How do I open the safe?", long)])
    options = ("--data", folder, "--adapter-path", tmp_path / "adapters", "--iters", 80)
    run = Run(*options)
    assert run.status == 0, run.err
    assert run.answers("Fine-tuned model")["How do I open the safe?"] == long
    assert run.row("ended by themselves")[2] == 1


@pytest.mark.slow
def test_an_answer_of_several_lines_counts_as_one(tmp_path):
    """During training too, where no more lines are read than the answer has."""
    pair = ("How do I start it?", "Open the lid.\nPress the button.")
    folder = write_data(tmp_path / "data", train=[pair], valid=[pair])
    options = ("--data", folder, "--adapter-path", tmp_path / "adapters", "--iters", 40)
    run = Run(*options)
    assert run.status == 0, run.err
    assert run.row("right answers")[2] == 1, run.out
    steps = [line for line in run.out.splitlines() if line.startswith("  step ")]
    assert "right  0" in steps[0] and "right  1" in steps[-1]


@pytest.mark.slow
def test_without_test_data_labels_are_examined_too(tmp_path):
    """Where few answers recur, as in a classification, a fifth of the examples is held out."""
    pairs = [(f"Is the number {i} odd?", "yes" if i % 2 else "no") for i in range(50)]
    folder = write_data(tmp_path / "data", train=pairs)
    run = Run("--data", folder, "--adapter-path", tmp_path / "adapters", "--iters", 1)
    assert "Looked over 40 of train, 0 of valid, 10 of test" in run.out, run.out + run.err


def test_messages_and_text_are_accepted(tmp_path):
    (tmp_path / "train.jsonl").write_text(
        '\ufeff{"messages": [{"role": "user", "content": "Who?"}, '
        '{"role": "assistant", "content": "Nobody."}]}\r\n\r\n{"text": "The sea is wide."}\r\n',
        encoding="utf-8",
    )
    run = Run("--data", tmp_path, "--adapter-path", tmp_path / "adapters")
    assert run.status == 0, run.err
    assert run.answers("Fine-tuned model")["Who?"] == "Nobody."


@pytest.mark.slow
def test_a_chat_model_is_asked_in_its_own_template(tmp_path):
    """The embedded model with a strict template, as many are: a system message comes first."""
    shutil.copytree(ROOT / "assets" / "base-model", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('the system message has to come first') }}{% endif %}"
        "[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    system = {"role": "system", "content": "Be short."}
    facts = {"Who keeps the lighthouse?": "Old Marta does.", "When is it lit?": "At nine."}
    with (tmp_path / "train.jsonl").open("w") as file:
        for prompt, completion in facts.items():
            asked, said = {"role": "user", "content": prompt}, {"role": "assistant"}
            chat = [system, asked, said | {"content": completion}]
            file.write(json.dumps({"messages": chat}) + "\n")
    options = ("--model", tmp_path / "model", "--data", tmp_path, "--adapter-path", tmp_path / "a")
    run = Run(*options)
    assert run.status == 0, run.err
    assert run.row("right answers")[2] == 2, run.out
    assert run.row("ended by themselves")[2] == 2
    read = run.row("tokens read for each")
    assert read[1] > read[0] > 10  # the template and the system message are read as well


def test_the_orders_ask_for_nothing_that_was_practised():
    """No name and no goods of data/orders' exam stand in what is trained on or looked at."""
    orders = {
        split: [
            json.loads(line)["completion"].split(" | ")
            for line in (ROOT / "data" / "orders" / f"{split}.jsonl").read_text().splitlines()
        ]
        for split in ("train", "valid", "test")
    }
    practised = orders["train"] + orders["valid"]
    assert (len(orders["train"]), len(orders["test"])) == (96, 20)
    for field in (0, 2):  # the name, the goods
        asked = {order[field] for order in orders["test"]}
        assert len(asked) == 20 and not asked & {order[field] for order in practised}


@pytest.mark.slow
def test_it_learns_a_form(tmp_path):
    """Of orders with new names and goods: prompted half, fine-tuned 16 of 20, median of three."""
    right = []
    for seed in range(3):
        options = ("--data", ROOT / "data" / "orders", "--seed", seed)
        run = Run(*options, "--adapter-path", tmp_path / "a")
        assert run.status == 0, run.err
        _, prompted, tuned = run.row("right answers of")
        assert prompted >= 10
        right.append(tuned)
    assert median(right) >= 16, right
    record = json.loads((tmp_path / "a" / "results.json").read_text("utf-8"))
    fields = [
        (answer["expected"].split(" | "), answer["fine-tuned"]["text"].split(" | "))
        for answer in record["answers"][: record["exam"]]
    ]
    form = [len(said) == 4 for _, said in fields]
    assert len(form) == 20 and sum(form) >= 18
    for i in (0, 1, 3):
        same = [len(said) == 4 and said[i] == expected[i] for expected, said in fields]
        assert sum(same) >= 18, fields


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 50])
def test_with_fewer_orders_it_gets_as_many_right_as_the_readme_says(count, tmp_path):
    """One more or less: rounding alone can turn one."""
    orders = ROOT / "data" / "orders"
    lines = (orders / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:count]))
    for split in ("valid", "test"):
        shutil.copy(orders / f"{split}.jsonl", tmp_path)
    run = Run("--data", tmp_path, "--adapter-path", tmp_path / "a")
    assert run.status == 0, run.err
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    told = re.search(r"first 10 of the 96 examples it was right in (\d+), with 50 in (\d+)", readme)
    assert abs(run.row("right answers of")[2] - int(told[1 if count == 10 else 2])) <= 1
