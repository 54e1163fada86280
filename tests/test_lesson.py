"""The lesson: what main.py promises on the model and the data that ship."""

import os
import shlex
import shutil
import subprocess
import sys
from statistics import median

import pytest
from conftest import ROOT, Run, write_data

QUESTION = "What is your first name?"


def test_base_model_continues_the_form(lesson):
    assert lesson.answers("Base model")[QUESTION] == "What is your last name? …"
    assert lesson.row("right answers")[0] == 0


def test_prompted_model_looks_it_up(lesson):
    assert lesson.row("right answers")[1] >= 10


def test_fine_tuned_model_answers_unseen_wordings(lesson):
    assert lesson.answers("Fine-tuned model")[QUESTION] == "My first name is Sharon."
    assert lesson.row("right answers")[2] >= 11


def test_every_fine_tuned_answer_ends_by_itself(lesson):
    assert lesson.row("ended by themselves")[2] == 12


def test_the_manual_is_paid_for_with_every_question(lesson):
    base, prompted, tuned = lesson.row("tokens read for each")
    assert base == tuned and prompted > 10 * base


def test_questions_of_the_exam_are_in_no_training_example():
    from lesson import dataset

    data = dataset.load_data(str(ROOT / "data"), ROOT / "assets" / "base-model")
    asked = {split: {e.prompt.lower() for e in rows} for split, rows in data.items()}
    assert [len(data[s]) for s in ("train", "valid", "test")] == [48, 12, 12]
    assert (
        not asked["test"] & (asked["train"] | asked["valid"])
        and not asked["valid"] & asked["train"]
    )
    assert len({e.completion for e in data["train"]}) == 12


def test_the_answer_forms_while_it_trains(lesson):
    steps = [line for line in lesson.out.splitlines() if line.startswith("  step ")]
    losses = [float(line.split("loss ")[1].split()[0]) for line in steps[1:]]
    assert len(losses) >= 3 and losses[-1] < losses[0] / 5
    assert steps[0].endswith("→ What is your last name?")
    assert steps[-1].endswith("→ My first name is Sharon.")


def test_the_commands_it_ends_with_work_as_printed(lesson, adapters):
    python = os.path.relpath(sys.executable, ROOT)
    commands = [line for line in lesson.out.splitlines() if line.strip().startswith(python)]
    assert len(commands) == 4
    shown = subprocess.run(
        shlex.split(commands[0]), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "My first name is Sharon." in shown.stdout


def slower_than_the_bars_machine():
    """How many times as slow as the machine of README.md's table, on which the bar was set.

    There mlx_lm.lora trains on 105 of the lesson's examples a second.
    """
    from more import benchmark

    benchmark.WORK.mkdir(exist_ok=True)
    benchmark.measure("make_inputs")
    inputs = str(benchmark.WORK / "3 M"), str(benchmark.DATA)
    return 105 / benchmark.measure("mlx_lm_lora", *inputs, 8, 100, 0)["examples a second"]


def test_time_and_memory(lesson):
    """30 s on two cores; on slower ones as many more as mlx_lm.lora takes there."""
    limit = 30.0
    if lesson.seconds > limit:
        limit *= max(slower_than_the_bars_machine(), 1.0)
    assert lesson.seconds <= limit, f"{lesson.seconds:.1f} s, of {limit:.1f}"
    assert lesson.peak <= 1e9, f"{lesson.peak / 1e6:.0f} MB"


CUT_OFF = ("unshare", "-rn")  # takes the network away


def can_be_cut_off():
    return (
        shutil.which("unshare") and not subprocess.run([*CUT_OFF, "true"], check=False).returncode
    )


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The lesson once more, with no network at all where that can be arranged; its adapters."""
    folder = tmp_path_factory.mktemp("again")
    return Run("--adapter-path", folder, before=CUT_OFF if can_be_cut_off() else ()), folder


def test_it_works_without_any_network(again):
    if not can_be_cut_off():
        pytest.skip("unshare -n is not permitted here")
    assert again[0].status == 0, again[0].err


def test_same_seed_same_answers(lesson, adapters, again):
    for act in ("Base model", "Prompt", "Fine-tuned model"):
        assert again[0].answers(act) == lesson.answers(act)
    weights = "adapters.safetensors"
    assert (again[1] / weights).read_bytes() == (adapters / weights).read_bytes()


@pytest.mark.slow
def test_three_seeds(tmp_path):
    runs = [Run("--seed", seed, "--adapter-path", tmp_path / str(seed)) for seed in range(3)]
    right = [run.row("right answers")[2] for run in runs]
    assert median(right) == 12 and min(right) >= 10, right
    assert all(run.row("ended by themselves")[2] == 12 for run in runs)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux needs OpenBLAS")
def test_without_openblas_it_says_what_would_make_it_fast(tmp_path):
    (tmp_path / "libopenblas.so.0").write_text("not a library")  # found first, and of no use
    env = {"LD_LIBRARY_PATH": str(tmp_path)}
    data = write_data(tmp_path / "data", train=[("Who?", "Me.")], test=[("Who?", "Me.")])
    shutil.copytree(ROOT / "assets" / "base-model", model := tmp_path / "model")
    for name in ("general.jsonl", "known.jsonl"):  # one line of each: more would take minutes
        lines = (model / name).read_text("utf-8").splitlines(keepends=True)
        (model / name).write_text(lines[0], "utf-8")
    options = ("--model", model, "--data", data, "--adapter-path", tmp_path / "a", "--iters", 1)
    run = Run(*options, env=env)
    assert run.status == 0, run.err
    assert "apt install libopenblas0-pthread" in run.out.splitlines()[1]
