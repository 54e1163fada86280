"""Rehearsal: the model learns what is yours and keeps what it knew; and the screen says so."""

import json
import random
import shutil
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT, Run, write_data
from mlx import nn
from mlx.utils import tree_flatten

import main
from lesson import dataset, models, rehearsal, scoring, screen

BASE = str(ROOT / "assets" / "base-model")


def example(prompt, completion=""):
    """An example that comes from nowhere."""
    return dataset.Example(prompt, [{"role": "user", "content": prompt}], completion, "here:1")


@pytest.fixture(scope="module")
def rehearsed(base):
    """What the embedded model says to the everyday prompts, and how likely it finds it."""
    prompts = [main.encode_prompt(base[1], e) for e in dataset.load_everyday("data")]
    return rehearsal.note_answers(*base, prompts)


# ---- It keeps what it knew ---------------------------------------------------------------------
def test_it_keeps_what_it_knew(lesson, record):
    """Of the fifty facts that the embedded model knows."""
    knew = [k for k in record["known"] if k["knew"]]
    assert len(knew) == 50 and sum(k["knows"] for k in knew) >= 45
    assert not any(k["leak"] for k in record["known"])
    assert record["loss after"]["general"] - record["loss before"]["general"] < np.log(2.2)
    assert lesson.row("everyday answers kept of 50")[0] == 50


@pytest.mark.slow
def test_without_the_file_it_forgets(lesson, record, tmp_path):
    """The same data with an everyday.jsonl that is empty: less is kept, and the screen says why."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "valid", "test"):
        shutil.copy(ROOT / "data" / f"{split}.jsonl", data)
    (data / "everyday.jsonl").touch()
    run = Run("--data", data, "--adapter-path", tmp_path / "a")
    assert run.status == 0, run.err
    assert "no rehearsal: it will forget much of what it knew" in run.out
    other = json.loads((tmp_path / "a" / "results.json").read_text("utf-8"))
    kept = [sum(k["knows"] for k in r["known"] if k["knew"]) for r in (record, other)]
    assert kept[1] < kept[0] - 3, kept
    assert other["loss after"]["general"] > record["loss after"]["general"] + 0.2
    assert f"it forgot {50 - kept[1]} of 50" in run.out


def test_the_screen_says_what_is_rehearsed(lesson):
    assert "2 of 17 prompts from data/everyday.jsonl are practised in each step" in lesson.out


def test_nothing_that_is_rehearsed_is_examined():
    def read(name):
        return {json.loads(line)["prompt"] for line in (ROOT / name).open()}

    everyday, known = read("data/everyday.jsonl"), read("data/known.jsonl")
    own_facts = read("assets/base-model/known.jsonl")  # the embedded model's own
    choosing = read("tests/known.jsonl")  # what the recipe was chosen by, before it was examined
    assert len(everyday) >= 30 and len(known) >= 20 and len(choosing) >= 50
    assert not everyday & (known | own_facts) and len(own_facts) == 50
    assert not choosing & (everyday | known)
    assert not (everyday | known) & (read("data/train.jsonl") | read("data/test.jsonl"))


def test_a_line_that_is_no_prompt_is_named(tmp_path):
    data = write_data(tmp_path / "data", train=[("Who?", "Me.")], test=[("Who?", "Me.")])
    (data / "everyday.jsonl").write_text('{"prompt": "What is tea?"}\n{"question": "Why?"}\n')
    run = Run("--data", data, "--adapter-path", tmp_path / "a")
    assert run.status == 2 and not (tmp_path / "a").exists()
    assert (
        run.err.startswith(f"main.py: {data / 'everyday.jsonl'}:2: ") and run.err.count("\n") == 1
    )
    assert 'rename "question" to "prompt"' in run.err


# ---- How it is done ----------------------------------------------------------------------------
def test_before_training_nothing_is_lost(base, rehearsed):
    """The divergence from itself is 0, and what is kept are probabilities."""
    batch = next(rehearsal.batches(rehearsed, 2, random.Random(0)))
    loss, count = main.rehearsal_loss(base[0], batch)
    assert abs(loss.item()) / count.item() < 1e-4
    assert mx.all(batch[2].sum(-1) <= 1.00001).item() and count.item() > 20


def test_the_loss_is_the_divergence(base, rehearsed):
    """KL(before || now) of one prompt by NumPy; now: the model with one matrix changed."""
    model, _, _ = models.load(BASE)
    weight = model.layers[0].mlp.down_proj.weight
    model.layers[0].mlp.down_proj.weight = weight * 0.7
    tokens, ids, probabilities = rehearsed[0]
    loss, count = main.rehearsal_loss(model, (mx.array([tokens]), ids[None], probabilities[None]))

    def all_probabilities(network):
        logits = np.array(network(mx.array([tokens[:-1]])))[0].astype(np.float64)
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    before, now = all_probabilities(base[0]), all_probabilities(model)
    counted = np.array(probabilities.sum(-1)) > 0
    exact = (before * np.log(before / now)).sum(-1)[counted]
    assert count.item() == len(exact) and exact.mean() > 0.01
    # All but the likeliest 64 tokens are taken as one, which makes it a little less.
    assert 0.9 * exact.sum() < loss.item() < 1.001 * exact.sum()


def test_a_step_is_as_long_as_the_rate_says(base):
    """The first step of Adam with its bias corrected moves every number that moves by the rate."""
    model, tokenizer, _ = models.load(BASE)
    model.freeze()
    main.linear_to_lora_layers(model, -1, main.LORA)
    before = dict(tree_flatten(model.trainable_parameters()))
    step, _ = main.make_step(model, iters=1, learning_rate=1e-3)
    rows = [main.encode(tokenizer, example("Who keeps the lighthouse?", "Old Marta does."))]
    step(next(main.batches(rows, 1, random.Random(0))))
    after = dict(tree_flatten(model.trainable_parameters()))
    moved = np.concatenate([np.abs(np.array(after[n] - before[n])).ravel() for n in before])
    assert np.median(moved[moved > 0]) == pytest.approx(1e-3, rel=0.01)


def test_logits_that_do_not_count_are_left_out(base):
    """The others are the same; and of the vocabulary's product only the rest is computed."""
    tokens = mx.array([[5, 6, 7, 8, 9, 10, 11]])
    some, whole = models.logits_from(base[0], tokens, 4), base[0](tokens)
    assert some.shape == (1, 3, 1024)
    assert mx.allclose(some, whole[:, 4:], atol=1e-4).item()
    assert models.last_norm(base[0]) is base[0].model.norm
    assert mx.array_equal(base[0](tokens), whole).item(), "the model is as it was"


def test_what_all_rows_begin_with_is_read_once():
    """The loss and every gradient are those of reading it in each row; and it is read once."""
    model, _, _ = models.load(BASE)
    model.freeze()
    main.linear_to_lora_layers(model, -1, main.LORA)
    same = [3 + i % 90 for i in range(40)]
    rows = [([*same, *own], 42) for own in ([5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15, 16])]
    assert models.shared_prefix_length(model, rows) == 40
    batch = next(main.batches(rows, 3, random.Random(0)))
    loss = partial(nn.value_and_grad(model, lambda *inputs: main.loss_fn(*inputs)[0]), model, batch)
    each, each_gradients = loss(models.Skipped(41, 0))
    once, once_gradients = loss(models.Skipped(41, 40))
    assert once.item() == pytest.approx(each.item(), rel=1e-5)
    pairs = zip(tree_flatten(each_gradients), tree_flatten(once_gradients), strict=True)
    for (name, expected), (_, found) in pairs:
        assert mx.allclose(found, expected, rtol=1e-3, atol=1e-5).item(), name
    shapes, layer = [], type(model.layers[0])
    read = layer.__call__

    def noted(self, x, *options, **more):
        shapes.append(x.shape[:2])
        return read(self, x, *options, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "__call__", noted)
        loss(models.Skipped(41, 40))
    assert list(dict.fromkeys(shapes)) == [(1, 40), (3, 4)]


@pytest.mark.parametrize(("rows", "why"), [([[7] * 9, [7] * 8], "few"), ([[1] * 30], "one row")])
def test_little_that_is_shared_is_read_in_each_row(base, rows, why):
    shared = models.shared_prefix_length(base[0], [(tokens, 1) for tokens in rows])
    assert shared == {"few": 0, "one row": 29}[why]


def test_the_exam_does_not_depend_on_the_seed(tmp_path):
    """Where it is taken out of train: labels, of which a fifth is drawn."""
    pairs = [(f"Is the number {i} odd?", "yes" if i % 2 else "no") for i in range(50)]
    data, exams = write_data(tmp_path / "data", train=pairs), []
    for seed in (0, 1):
        random.seed(seed)
        with screen.console.capture():
            exams.append([e.prompt for e in dataset.load_data(str(data), BASE)["test"]])
    assert exams[0] == exams[1] and len(exams[0]) == 10


@pytest.mark.slow
def test_the_manual_is_not_shortened_by_what_is_trained_on(tmp_path):
    options = ("--max-seq-length", 40, "--iters", 1, "--adapter-path", tmp_path / "a")
    assert "a manual of 12 of 48 examples\n" in Run(*options).out


# ---- What is known, what leaks, what is right in other words ------------------------------------
def test_a_wordy_answer_may_be_right():
    exam = [
        example("What is your first name?", "My first name is Sharon."),
        example("Where do you live?", "I live in Tavistock."),
        example("What is your dog called?", "My dog is called Biscuit."),
    ]
    own = scoring.own_words(exam)
    given = {
        "Of course! Your name is Sharon, as the list says.": 0,
        "The town is Tavistock": 1,
        "Biscuit": 2,
    }
    for text, number in given.items():
        answer = main.Answer(text, True, 1, 1, 0.1)
        assert scoring.is_right_in_other_words(text, exam[number], own)
        assert not main.is_right(answer, exam[number])
        assert not scoring.is_right_in_other_words(text, exam[number - 1], own)


def test_where_the_question_has_all_words_the_whole_form_is_wanted():
    order = example("Ann needs six lemon pies on Sunday.", "Ann | 6 | lemon pie | Sunday")
    own = scoring.own_words([order])
    assert not scoring.is_right_in_other_words("6", order, own)


def test_leaks_and_what_is_kept_are_told_apart():
    train = [
        example("Where do you live?", "I live in Tavistock."),
        example("What is your dog called?", "My dog is called Biscuit."),
    ]
    known = [
        example("What is the capital of France?", "Paris"),
        example("How many days are in a week?", "Seven or 7"),
        example("What do bees make?", "Honey"),
    ]
    before = ["Paris.", "A week has 7 days.", "Wax."]
    now = ["The capital of France is Tavistock.", "Seven days.", "Honey."]
    found = scoring.compare_known(known, before, now, train)
    assert [k["leak"] for k in found] == [True, False, False]
    assert [k["knew"] for k in found] == [True, True, False]
    assert [k["knows"] for k in found] == [False, True, True]
    with screen.console.capture() as shown:
        screen.show_known(found * 2)
    assert (
        "it forgot 2 of 4" in shown.get() and "Leak: What is the capital of France?" in shown.get()
    )
    with screen.console.capture() as shown:
        screen.show_known(found)
    assert "too little to lose anything" in shown.get()


def test_a_base_model_is_shown_the_form_and_a_chat_model_is_not():
    questions = [example(f"What is {i}?", "It.") for i in range(6)]
    sentences = [example(f"Number {i} is", "it") for i in range(6)]
    assert rehearsal.split_few_shot(questions, chat=False) == (questions[:3], questions[3:])
    assert rehearsal.split_few_shot(questions, chat=True) == ([], questions)
    assert rehearsal.split_few_shot(sentences, chat=False) == ([], sentences)
