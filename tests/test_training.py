"""Training: which weights are kept, when it ends, what a step is, in what order it learns.

On the embedded model and a few facts, in dozens of steps: each break of the loop shows in a second.
"""

import random
from itertools import islice, pairwise

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from conftest import ROOT
from mlx import nn
from mlx.utils import tree_flatten

import main
from lesson import dataset, machine, models, recipes, rehearsal, saving, screen
from lesson.options import parse

BASE = str(ROOT / "assets" / "base-model")
ASKED = ["Who keeps the lighthouse?", "When is it lit?", "Where is the key?", "Who has the boat?"]
TAUGHT = ["Old Marta does.", "At nine.", "Behind the door, on a hook.", "Nobody has it now."]
OTHERWISE = ["Young Tom does.", "At six in summer.", "Under a stone.", "A man in town."]
SETTINGS = {
    "iters": 20,
    "steps_per_eval": 2,
    "batch_size": 2,
    "learning_rate": 5e-3,
    "rehearsed": 2,
    "rehearsal_weight": 1.0,
    "seed": 0,
}
NO_STEP = 1e-12  # a learning rate at which nothing is learnt


def example(prompt, completion=""):
    """An example that comes from nowhere."""
    return dataset.Example(prompt, [{"role": "user", "content": prompt}], completion, "here:1")


def fresh():
    """(model, tokenizer, config): the embedded model as it is loaded, for this test alone."""
    with screen.console.capture():
        return models.load(BASE)


def with_adapters():
    """The embedded model with the adapters of main.py, which begin the same each time."""
    model, _, _ = fresh()
    mx.random.seed(0)
    main.add_adapters(model, -1, "lora", main.LORA)
    return model


def weights(model):
    """{name: array} of what is trained."""
    return dict(tree_flatten(model.trainable_parameters()))


def same(some, others):
    """Whether both have the same names and the same numbers."""
    return some.keys() == others.keys() and all(
        mx.array_equal(some[name], others[name]).item() for name in some
    )


def say_nothing():
    """For train(), where it does not matter how the model answers by now."""
    return ""


@pytest.fixture(scope="module")
def encoded(base):
    """What makes rows of answers to ASKED: none, what is taught, or something else."""
    return lambda answers: [main.encode(base[1], example(q, a)) for q, a in zip(ASKED, answers)]


@pytest.fixture(scope="module")
def everyday(base):
    """Rows of four everyday prompts, of other lengths each, with what the model says to them."""
    prompts = [main.encode_prompt(base[1], e) for e in dataset.load_everyday("data")[:4]]
    return rehearsal.note_answers(*base, prompts)


@pytest.fixture
def train(encoded):
    """What trains a model on TAUGHT: (its history, the model), with these rows and settings."""

    def trained(valid=(), look=None, rows=None, model=None, **settings):
        model = model or with_adapters()
        rows = {"everyday": [], "known": []} | (rows or {})
        rows = {"train": encoded(TAUGHT), "valid": encoded(valid)} | rows
        # A look that wants the model is given it.
        see = (lambda: look(model)) if look else say_nothing
        return main.train(model, rows, see, **SETTINGS | settings), model

    return trained


def kept(history):
    """The step of the one check that was kept."""
    (step,) = [check["step"] for check in history if check.get("kept")]
    return step


# ---- Which weights are kept --------------------------------------------------------------------
def test_the_best_weights_come_back_and_it_ends_early(train):
    """What is held out contradicts what is taught: after a while, each step makes that worse."""
    seen = []
    history, model = train(OTHERWISE, look=lambda m: seen.append(weights(m)) or say_nothing())
    steps, scores = [check["step"] for check in history], [check["score"] for check in history]
    best = steps.index(kept(history))
    assert 0 < best < len(history) - 1 and scores[best] < min(scores) + main.TOLERANCE
    assert same(weights(model), seen[best])
    assert not same(weights(model), seen[-1])
    # No check in two is better; there would have been time for eleven.
    assert steps == [*range(0, steps[best] + 5, 2)] and steps[-1] < SETTINGS["iters"]


def test_while_it_becomes_better_it_goes_on_to_the_end(train):
    history, _ = train(TAUGHT, iters=7, steps_per_eval=3)
    assert [check["step"] for check in history] == [0, 3, 6, 7] and kept(history) == 7
    assert history[0]["right"] == 0 and all(check["of"] == 4 for check in history)


def test_without_valid_it_goes_to_the_end_and_keeps_the_last(train):
    seen = []
    history, model = train(
        look=lambda m: seen.append(weights(m)) or say_nothing(), iters=6, steps_per_eval=1
    )
    assert len(history) == 7 and kept(history) == 6
    assert same(weights(model), seen[-1]) and not same(seen[-1], seen[-2])


@pytest.mark.parametrize("rate", [NO_STEP, 1e-5])
def test_hardly_better_is_not_better(rate, train):
    """Where checks are the same, or differ by less than TOLERANCE, the earliest is kept."""
    history, _ = train(TAUGHT, learning_rate=rate, steps_per_eval=1)
    scores = [check["score"] for check in history]
    assert kept(history) == 0 and len(history) == 3
    assert max(scores) - min(scores) < main.TOLERANCE
    assert rate == NO_STEP or (scores == sorted(scores, reverse=True) and scores[0] > scores[1])


def test_what_it_forgets_counts_as_much_as_what_it_learns(base, encoded):
    """The share of its own answers' tokens that are no longer the likeliest, added to the loss."""
    model, tokenizer = base
    questions = [example("The capital of France is"), example("The opposite of early is")]
    prompts = [main.encode_prompt(tokenizer, question) for question in questions]
    own = [
        ([*prompt, *tokens[:3]], len(prompt))
        for prompt, tokens in zip(prompts, models.generate(model, tokenizer, prompts, 8)[1])
    ]
    wrong = [([*tokens[:-1], 5], length) for tokens, length in own]
    valid = encoded(TAUGHT)
    loss, _, _ = main.held_out_loss(model, valid)
    for known, keeps in ((own, 1.0), (own + wrong, 10 / 12), ([], None)):
        found = main.progress(model, {"valid": valid, "known": known}, batch_size=3)
        assert found["keeps"] == (keeps if keeps is None else pytest.approx(keeps))
        forgotten = 0 if keeps is None else 1 - keeps
        assert found["score"] == pytest.approx(loss + forgotten, rel=1e-4)
        assert found["valid"] == pytest.approx(loss, rel=1e-4)
    nothing = main.progress(model, {"valid": [], "known": own}, batch_size=3)
    assert nothing["score"] is None and nothing["of"] == 0 and nothing["keeps"] == 1


def test_after_ctrl_c_it_ends_with_the_next_step_and_keeps_what_it_learnt(train, monkeypatch):
    monkeypatch.setattr(machine, "interrupted", type(machine.interrupted)())
    history, _ = train(look=lambda m: machine.interrupted.set() or say_nothing())
    assert [check["step"] for check in history] == [0, 1] and kept(history) == 1


# ---- What is counted ---------------------------------------------------------------------------
def surprises(model, row):
    """For each token of a row's answer, read alone: its loss, and whether it is the likeliest."""
    tokens, prompt_length = row
    logits = np.array(model(mx.array([tokens[:-1]])))[0].astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    at = range(prompt_length - 1, len(tokens) - 1)
    return [(-logs[i, tokens[i + 1]], logs[i].argmax() == tokens[i + 1]) for i in at]


def without_line_break(rows):
    """Rows whose answers begin at once, which nothing foretells, as the line break is foretold."""
    return [([*tokens[:length], *tokens[length + 1 :]], length) for tokens, length in rows]


def test_the_loss_is_the_mean_of_the_answers_tokens(encoded, train):
    """Each counts the same, in long answers and short ones; questions and padding do not count."""
    rows, model = encoded(["No.", "At nine, or when there is fog.", "No.", "No."]), with_adapters()
    rows = without_line_break(rows)
    losses = [loss for row in rows for loss, _ in surprises(model, row)]
    assert len({len(tokens) for tokens, _ in rows}) > 2  # so there is padding
    by_row = np.mean([np.mean([loss for loss, _ in surprises(model, row)]) for row in rows])
    assert abs(by_row - np.mean(losses)) > 0.01
    step, _ = main.make_step(model, iters=1, learning_rate=NO_STEP)
    (batch,) = main.batches(rows, 4, random.Random(0))
    assert step(batch) == (pytest.approx(np.mean(losses), rel=1e-4), 0.0)
    both = {"train": rows, "valid": rows}
    one_batch = {"batch_size": 4, "iters": 2, "steps_per_eval": 1, "learning_rate": NO_STEP}
    history, _ = train(rows=both, model=model, **one_batch)
    shown = [(check["loss"], check["valid"]) for check in history]
    mean = pytest.approx(np.mean(losses), rel=1e-4)
    assert shown == [(None, mean), (mean, mean), (mean, mean)]


def test_at_a_check_the_loss_is_of_the_steps_since_the_last(train):
    every, _ = train(iters=4, steps_per_eval=1)
    second, _ = train(iters=4, steps_per_eval=2)
    losses = [check["loss"] for check in every[1:]]
    assert losses[0] > losses[3] + 0.5
    means = [np.mean(losses[:2]), np.mean(losses[2:])]
    assert [check["loss"] for check in second[1:]] == pytest.approx(means, rel=1e-4)


def test_held_out_loss_counts_tokens_and_whole_answers(base, encoded):
    """Of five rows, in batches of two and in one; only one of them is what the model would say."""
    model, tokenizer = base
    prompt = main.encode_prompt(tokenizer, example("The capital of France is"))
    (said,) = models.generate(model, tokenizer, [prompt], 7)[1]
    rows = [*without_line_break(encoded(TAUGHT)), ([*prompt, *said], len(prompt))]
    each = [surprises(model, row) for row in rows]
    losses, likeliest = zip(*(pair for row in each for pair in row))
    assert 7 < sum(likeliest) < len(likeliest)  # some of the others' tokens are right as well
    for batch_size in (2, 8):
        loss, share, whole = main.held_out_loss(model, rows, batch_size)
        assert loss == pytest.approx(np.mean(losses), rel=1e-4)
        assert share == pytest.approx(np.mean(likeliest)) and whole == 1


def test_answers_that_begin_alike_count_whole():
    """What all rows begin with is read once; where that reaches into the answers, they count."""
    begins = [3 + number % 90 for number in range(40)]
    rows = [([*begins, *ends], 30) for ends in ([5, 6, 7], [8, 9, 10, 11], [12])]
    model = with_adapters()
    losses = [loss for row in rows for loss, _ in surprises(model, row)]
    assert models.shared_prefix_length(model, rows) == 40 and len(losses) == 3 * 10 + 8
    mean = pytest.approx(np.mean(losses), rel=1e-4)
    assert main.held_out_loss(model, rows)[0] == mean
    step, _ = main.make_step(model, iters=1, learning_rate=NO_STEP, shared=(40, 0))
    (batch,) = main.batches(rows, 4, random.Random(0))
    assert step(batch)[0] == mean


def test_tokens_that_are_read_are_counted(encoded, train, everyday):
    """Those of the examples without padding; and those of the everyday prompts of each step."""
    one_pass = {"iters": 2, "steps_per_eval": 1, "learning_rate": NO_STEP}
    history, _ = train(**one_pass)
    lengths = [len(tokens) for tokens, _ in encoded(TAUGHT)]
    assert history[-1]["tokens"] == sum(lengths) > history[1]["tokens"] > history[0]["tokens"] == 0
    alike = everyday[:1] * 6
    rehearsing, _ = train(rows={"everyday": alike}, rehearsed=3, **one_pass)
    assert rehearsing[-1]["tokens"] == sum(lengths) + 2 * 3 * len(alike[0][0])
    # That they all begin alike, and so are read but once, is no matter to the examples.
    losses, others = ([check["loss"] for check in h[1:]] for h in (history, rehearsing))
    assert losses == pytest.approx(others, rel=1e-4)


# ---- A step ------------------------------------------------------------------------------------
def length_of(arrays):
    """The Euclidean length of all the numbers together."""
    return float(np.sqrt(sum((array * array).sum().item() for array in arrays.values())))


def first_moments(state):
    """Adam's running mean of the gradients, after one step a tenth of the gradient."""
    names = ((name, array) for name, array in tree_flatten(state[1]) if name.endswith(".m"))
    return {name.removesuffix(".m"): array for name, array in names}


def changed(model):
    """The model with one matrix changed, so that something is lost of what it said."""
    layer = model.layers[0].mlp.down_proj
    matrix = getattr(layer, "linear", layer)
    matrix.weight = matrix.weight * 0.7
    return model


@pytest.mark.parametrize("weight", [0.5, 20.0])
def test_a_step_follows_the_gradient_of_both_losses(weight, encoded, everyday):
    """The mean loss of the answers and, with its weight, that of the rehearsal; clipped to 1."""
    model = changed(with_adapters())
    (batch,) = main.batches(encoded(TAUGHT), 4, random.Random(0))
    prompts = next(rehearsal.batches(everyday, 4, random.Random(0)))

    def objective(model):
        loss, count = main.loss_fn(model, batch)
        lost, kept_count = main.rehearsal_loss(model, prompts)
        return loss / count + weight * lost / kept_count, loss / count, lost / kept_count

    losses, gradients = nn.value_and_grad(model, objective)(model)
    gradients = dict(tree_flatten(gradients))
    assert length_of(gradients) > 1.2  # so it is too long
    step, state = main.make_step(model, iters=1, learning_rate=1e-6, rehearsal_weight=weight)
    assert step(batch, prompts) == pytest.approx([n.item() for n in losses[1:]], rel=1e-3)
    moments = first_moments(state)
    assert length_of(moments) == pytest.approx(0.1, rel=1e-3)
    scale = 0.1 / length_of(gradients)
    assert moments.keys() == gradients.keys()
    apart = {name: moments[name] - scale * gradients[name] for name in gradients}
    assert length_of(apart) < 1e-3


def test_the_rehearsal_loss_is_the_divergence_where_something_is_kept(everyday):
    """By hand, prompt by prompt: of the tokens that were likely, and all others as one."""
    model, divergences = changed(fresh()[0]), []
    for tokens, ids, likely in everyday:
        logits = np.array(model(mx.array([tokens[:-1]])))[0].astype(np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        now = np.take_along_axis(chances, np.array(ids).astype(int), -1)
        both = (np.array(likely).astype(np.float64), now)
        before, now = (np.column_stack([p, 1 - p.sum(-1)]).clip(1e-6) for p in both)
        kept_ones = np.array(likely).sum(-1) > 0
        divergences += [*(before * np.log(before / now)).sum(-1)[kept_ones]]
    batch = next(rehearsal.batches(everyday, 4, random.Random(0)))
    loss, count = main.rehearsal_loss(model, batch)
    assert count.item() == len(divergences)
    assert loss.item() == pytest.approx(np.sum(divergences), rel=1e-4)


def test_rehearsal_with_more_weight_loses_less(train, everyday):
    """train() hands its weight on, and practises the everyday prompts."""
    lost = []
    for weight in (0.0, 20.0):
        rows = {"everyday": everyday}
        _, model = train(rows=rows, iters=12, steps_per_eval=12, rehearsal_weight=weight)
        loss, count = main.rehearsal_loss(
            model, next(rehearsal.batches(everyday, 4, random.Random(0)))
        )
        lost.append(loss.item() / count.item())
    assert lost[1] < lost[0] / 2, lost


def test_the_rate_rises_and_then_fades(encoded):
    """Over a tenth of the steps, from no step of nothing; then ever less, to next to nothing."""
    rate = main.warm_up_and_fade(2.0, 100)
    rates = [rate(mx.array(step)).item() for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[:11] == sorted(rates[:11])
    assert max(rates) == pytest.approx(2.0) and rates.index(max(rates)) in (9, 10, 11)
    assert rates[12:] == sorted(rates[12:], reverse=True)
    assert rates[55] == pytest.approx(1.0, abs=0.1) and 0 <= rates[-1] < 0.02
    steps = [main.warm_up_and_fade(2.0, 1)(mx.array(step)).item() for step in range(2)]
    assert steps[0] == pytest.approx(2.0)  # one step alone is no small one
    # And a step of the training goes by it.
    model = with_adapters()
    step, state = main.make_step(model, iters=30, learning_rate=1e-3)
    (batch,) = main.batches(encoded(TAUGHT), 4, random.Random(0))
    used = []
    for _ in range(6):
        step(batch)
        used.append(state[1]["learning_rate"].item())
    expected = main.warm_up_and_fade(1e-3, 30)
    assert used == pytest.approx([expected(mx.array(i)).item() for i in range(6)], rel=1e-4)
    assert used[0] < 0.5 * max(used)


# ---- In what order -----------------------------------------------------------------------------
def rows_of(lengths):
    """Rows of so many tokens, each of which is the row's number and nothing else."""
    return [([number] * length, 1) for number, length in enumerate(lengths)]


def numbers(batch):
    """The numbers of the rows in a batch."""
    return [row[0] for row in batch[0].tolist()]


FEW, MANY = [9, 4, 6, 5, 7, 8, 3], [5, 9, 7, 11] * 10  # MANY are sorted by length


@pytest.mark.parametrize("lengths", [FEW, MANY])
def test_each_pass_has_each_row_once_with_its_lengths(lengths):
    rows = rows_of(lengths)
    several = [*main.batches(rows, 4, random.Random(0))]
    assert sorted(n for batch in several for n in numbers(batch)) == [*range(len(rows))]
    sizes = sorted(len(batch[0]) for batch in several)
    assert sizes[1:] == [4] * (len(sizes) - 1) and len(several) == -(-len(rows) // 4)
    for batch in several:
        assert batch[2].tolist() == [lengths[n] for n in numbers(batch)]
        assert batch[0].shape[1] == max(batch[2].tolist())
        assert batch[1].tolist() == [1] * len(batch[0])


@pytest.mark.parametrize("lengths", [FEW, MANY])
def test_each_pass_and_each_seed_has_another_order(lengths):
    rows = rows_of(lengths)
    one_pass = -(-len(rows) // 4)

    def passes(seed):
        endless = map(numbers, main.endless_batches(rows, 4, random.Random(seed)))
        return [[*islice(endless, one_pass)] for _ in range(4)]

    orders = passes(0)
    assert all(a != b for a, b in pairwise(orders))
    assert passes(0) == orders and passes(1) != orders
    # Others meet, too, even among those of one length; and the short ones are not always first.
    assert len({frozenset(map(frozenset, order)) for order in orders}) > 1
    firsts = {len(rows[order[0][0]][0]) for seed in range(5) for order in passes(seed)}
    assert len(firsts) > 1


def test_everyday_prompts_are_shuffled_and_each_comes_once_in_a_pass(everyday):
    """Five of them in batches of two; what is padded is not to be kept."""
    rows = [*everyday, everyday[0]]
    rows = [([n, *tokens[1:]], ids, chances) for n, (tokens, ids, chances) in enumerate(rows)]
    orders, batches = [], rehearsal.batches(rows, 2, random.Random(0))
    for _ in range(6):
        several = [*islice(batches, 3)]
        orders.append([n for batch in several for n in numbers(batch)])
        assert sorted(orders[-1]) == [*range(5)]
        for tokens, ids, chances in several:
            assert ids.shape == chances.shape == (*tokens[:, 1:].shape, rehearsal.LIKELIEST)
            for n, padded, likely in zip(tokens[:, 0].tolist(), tokens, chances):
                length = len(rows[n][0])
                assert padded[:length].tolist() == rows[n][0]
                assert mx.array_equal(likely[: length - 1], rows[n][2]).item()
                assert likely[length - 1 :].sum().item() == 0
    assert len({*map(tuple, orders)}) > 3


def test_the_seed_settles_the_order(train, everyday):
    """Of the examples, as their losses tell; and of the everyday prompts, as their lengths tell."""

    def order(seed):
        rows = {"everyday": everyday}
        quick = {"iters": 6, "steps_per_eval": 1, "learning_rate": NO_STEP, "rehearsed": 1}
        history, _ = train(rows=rows, seed=seed, **quick)
        everything, _ = train(rows=rows, seed=seed, batch_size=4, **quick)
        losses = [round(check["loss"], 3) for check in history[1:]]
        return losses, [check["tokens"] for check in everything]

    (losses, lengths), (other_losses, other_lengths) = order(0), order(1)
    assert order(0) == (losses, lengths)
    assert losses != other_losses and lengths != other_lengths


def test_the_seed_settles_where_adapters_begin_and_a_folder_is_one_runs(tmp_path, capsys):
    """As main() begins; a second run in the same folder is refused."""
    begins = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        machine.begin(tmp_path / folder, seed)
        model, _, _ = fresh()
        main.add_adapters(model, 1, "lora", main.LORA)
        begins.append(weights(model))
    assert same(begins[0], begins[1]) and not same(begins[0], begins[2])
    with pytest.raises(SystemExit) as end:
        machine.begin(tmp_path / "a", 3)
    assert end.value.code == 2 and "another run is using it" in capsys.readouterr().err


# ---- What is trained ---------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
@pytest.mark.parametrize(("number", "trained"), [(1, {3}), (3, {1, 2, 3}), (-1, {0, 1, 2, 3})])
def test_the_last_layers_are_trained_and_nothing_else(kind, number, trained):
    """Adapters beside frozen weights; or with full, the layers' own weights, in full precision."""
    model, _, _ = fresh()
    model.set_dtype(mx.bfloat16)
    main.add_adapters(model, number, kind, main.LORA)
    names = [*weights(model)]
    assert {int(name.split(".")[2]) for name in names} == trained
    assert all(name.startswith("model.layers.") for name in names)
    ends = {name.rpartition(".")[2] for name in names}
    assert ends == {"lora": {"lora_a", "lora_b"}, "dora": {"lora_a", "lora_b", "m"}}.get(
        kind, {"weight"}
    )
    if kind == "full":
        assert {array.dtype for array in weights(model).values()} == {mx.float32}
        assert model.model.embed_tokens.weight.dtype == mx.bfloat16


class Taught:
    """fine_tune() of a model on one fact, all options as they may be given."""

    def __init__(self, base, *, iters, learning_rate=4e-3, grad_checkpoint=False, resume=None):
        mx.random.seed(0)
        self.model, self.tokenizer, config = fresh()
        self.notes, self.seen, layer = [], [], self.model.layers[-1]
        kind, notes = type(layer), self.notes
        # The layer is a real one; it only notes whether it is being trained.
        layer.__class__ = type(
            "Noted",
            (kind,),
            {
                "__call__": lambda own, *a, **b: (
                    notes.append(own.training) or kind.__call__(own, *a, **b)
                )
            },
        )
        rows = {"train": [main.encode(base[1], example(ASKED[0], TAUGHT[0]))]}
        self.history = main.fine_tune(
            self.model,
            config,
            rows | {"valid": [], "everyday": [], "known": []},
            self.look,
            num_layers=2,
            fine_tune_type="lora",
            grad_checkpoint=grad_checkpoint,
            resume_adapter_file=resume,
            **SETTINGS | {"iters": iters, "steps_per_eval": iters, "learning_rate": learning_rate},
        )

    def look(self):
        """At each check: what the weights are, and what was noted in the steps before."""
        self.seen.append((weights(self.model), [*self.notes]))
        self.notes.clear()
        return say_nothing()

    def answer(self, max_tokens=20):
        """The Answer to the question that it was taught."""
        (given,) = main.answer(self.model, self.tokenizer, max_tokens, [example(ASKED[0])])
        return given


@pytest.fixture(scope="module")
def taught(base):
    return Taught(base, iters=24)


def test_layers_know_when_they_are_trained(taught):
    """Some layers can only then be gone through backwards; and dropout is for training alone."""
    (_, before), (_, in_training) = taught.seen
    assert before == [] and in_training and all(in_training)
    assert not any(module.training for module in taught.model.modules())


def test_it_says_what_it_was_taught_and_stops(taught):
    """By the end of text; what is cut earlier did not end by itself."""
    given = taught.answer()
    assert given.text == TAUGHT[0] and given.ended and 3 < given.written < 20
    cut = taught.answer(max_tokens=3)
    assert not cut.ended and cut.written == 3 and TAUGHT[0].startswith(cut.text)


def test_it_goes_on_with_what_was_learnt_earlier(taught, base, tmp_path):
    file = tmp_path / "adapters.safetensors"
    mx.save_safetensors(str(file), weights(taught.model))
    again = Taught(base, iters=1, learning_rate=NO_STEP, resume=file)
    assert same(again.seen[0][0], weights(taught.model))
    assert again.history[1]["loss"] < 0.5 < taught.history[1]["loss"]
    assert again.answer().text == TAUGHT[0]


def test_with_grad_checkpoint_layers_compute_anew(base, monkeypatch):
    """And what is learnt is the same."""
    kind = type(base[0].layers[0])
    read = kind.__call__
    monkeypatch.setattr(kind, "__call__", read)  # mlx-lm changes it for the whole process
    losses = []
    for grad_checkpoint in (False, True):
        run = Taught(base, iters=2, learning_rate=1e-3, grad_checkpoint=grad_checkpoint)
        losses.append(run.history[1]["loss"])
        assert (kind.__call__ is not read) == grad_checkpoint
        # What all rows begin with is then not read once, for that would be kept.
        alike = [([*range(5, 40), number], 36) for number in range(2)]
        shared = models.shared_prefix_length(run.model, alike)
        assert shared == (0 if grad_checkpoint else 35)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_is_saved_is_what_was_learnt_and_mlx_lm_loads_it(taught, base, tmp_path):
    """The adapters alone, a twentieth of the model; an earlier run's record is gone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.json").write_text("{}")
    settings = {"model": BASE, "fine_tune_type": "lora", "num_layers": 2}
    saving.save_adapters(tmp_path / "a", taught.model, settings, main.LORA, taught.history)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*saving.ADAPTERS}
    assert same(mx.load(str(tmp_path / "a" / "adapters.safetensors")), weights(taught.model))
    model, tokenizer = mlx_lm.load(BASE, adapter_path=str(tmp_path / "a"))
    model.set_dtype(mx.float32)
    (given,) = main.answer(model, tokenizer, 20, [example(ASKED[0])])
    assert given.text == TAUGHT[0] and given.ended


# ---- Settings ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("examples", "batch_size", "seen", "steps"),
    [
        (48, 4, 560, 140),  # as README.md shows it
        (1, 4, 560, 30),  # at most thirty times
        (10, 4, 560, 90),
        (100, 4, 240, 75),  # at least three times
        (101, 4, 240, 78),
        (60, 4, 240, 60),  # four times
        (60, 60, 240, 4),
    ],
)
def test_steps_go_by_the_size_of_the_data(examples, batch_size, seen, steps):
    assert recipes.steps_for(examples, batch_size, seen) == steps


def test_the_recipe_goes_by_width_and_kind():
    narrow, base, chat = (recipes.RECIPES[name] for name in ("narrow", "base", "chat"))
    assert len({narrow, base, chat}) == 3
    kinds = [(256, False), (256, True), (511, True), (512, False), (576, True), (2048, False)]
    assert [recipes.recipe_for(*kind) for kind in kinds] == [
        narrow,
        narrow,
        narrow,
        base,
        chat,
        base,
    ]
    assert recipes.rate_for(narrow, 256, "lora") == pytest.approx(0.6 / 256)
    assert recipes.rate_for(base, 1024, "dora") == recipes.rate_for(base, 512, "dora") / 2
    assert recipes.rate_for(base, 512, "full") == pytest.approx(
        recipes.rate_for(base, 512, "lora") / 3
    )


def test_what_is_given_goes_before_the_recipe(base):
    """The embedded model's recipe, and its four layers."""
    options = ["--batch-size", "4", "--seed", "7"]
    by_itself = recipes.training_settings(parse(options), base[0], False, 60)
    narrow = recipes.RECIPES["narrow"]
    assert by_itself == {
        "iters": 140,
        "steps_per_eval": 28,
        "batch_size": 4,
        "learning_rate": recipes.rate_for(narrow, 256, "lora"),
        "rehearsed": narrow.rehearsed,
        "rehearsal_weight": narrow.rehearsal_weight,
        "seed": 7,
        "num_layers": 4,
        "fine_tune_type": "lora",
        "grad_checkpoint": False,
        "resume_adapter_file": None,
    }
    options += ["--iters", "3", "--learning-rate", "0.25", "--num-layers", "-1"]
    settings = recipes.training_settings(parse(options), base[0], False, 60)
    given = {"iters": 3, "steps_per_eval": 1, "learning_rate": 0.25, "num_layers": -1}
    assert settings == by_itself | given


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ([3.0, 0.5, 0.7], "step 10, the best for valid"),
        ([3.0, 0.5, 0.495], "step 10; later ones were better by less than 0.01"),
        ([3.0, 0.5, None], "step 20, the last one"),
    ],
)
def test_it_says_why_an_earlier_check_is_kept(scores, why):
    history = [
        {"step": 10 * i, "valid": score, "score": score, "tokens": 0, "seconds": 0}
        for i, score in enumerate(scores)
    ]
    (history[2] if scores[2] is None else history[1])["kept"] = True
    with screen.console.capture() as shown:
        screen.show_cost(history, 1.0, main.TOLERANCE)
    assert f"Kept: the adapters of {why}" in shown.get()
