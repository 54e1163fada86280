"""What makes the lesson fast: the causes, not the seconds, which more/benchmark.py measures."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

COUNTED = """
import atexit, json, runpy, sys
from mlx_lm.models.llama import Model
calls, forward = [], Model.__call__
def counted(self, inputs, *rest, **named):
    calls.append(inputs.size)
    return forward(self, inputs, *rest, **named)
Model.__call__ = counted
output, *sys.argv = sys.argv[1:]
seen = lambda: {"calls": len(calls), "tokens": sum(calls), "modules": [*sys.modules]}
atexit.register(lambda: json.dump(seen(), open(output, "w")))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def rows_of(lengths):
    """Encoded examples of so many tokens, half of which are the question's."""
    return [([1] * length, length // 2) for length in lengths]


@pytest.fixture(scope="module")
def shipped():
    """The training data that the lesson comes with, encoded."""
    import main
    from lesson import dataset, models, screen

    base = str(ROOT / "assets" / "base-model")
    with screen.console.capture():
        _, tokenizer, _ = models.load(base)
    return [main.encode(tokenizer, e) for e in dataset.load_data(str(ROOT / "data"), base)["train"]]


def padded(rows, size, seed=0):
    """(tokens, tokens with the padding, shapes) of one pass over the rows."""
    import main

    batches = [*main.batches(rows, size, random.Random(seed))]
    tokens = sum(lengths.sum().item() for _, _, lengths in batches)
    return tokens, sum(b.size for b, _, _ in batches), {b.shape for b, _, _ in batches}


def test_little_is_padded(shipped):
    """Like lengths together, and only up to the longest: of the lesson's data 5 %, of many 1 %."""
    tokens, with_padding, _ = padded(shipped, 8)
    assert with_padding <= 1.06 * tokens
    rng = random.Random(0)
    many = rows_of(rng.randint(10, 200) for _ in range(1000))
    tokens, with_padding, _ = padded(many, 8)
    assert with_padding <= 1.015 * tokens


def test_of_few_examples_others_meet_in_every_pass():
    """Three answers in three wordings each: sorted by length, no batch would have all of them."""
    import main

    few = rows_of([10, 10, 10, 20, 20, 20, 30, 30, 30])
    passes = [main.batches(few, 3, random.Random(seed)) for seed in range(20)]
    met = {tuple(sorted(lengths.tolist())) for one in passes for _, _, lengths in one}
    assert (10, 20, 30) in met and len(met) > 5


def test_few_shapes_have_to_be_compiled(shipped):
    """Each shape is compiled anew: there are never more of them than batches in one pass."""
    shapes = [padded(shipped, 8, seed)[2] for seed in range(20)]
    assert len(set().union(*shapes)) <= len(shipped) / 8


@pytest.mark.slow
def test_forward_passes_of_the_lesson(tmp_path):
    """The manual is read once, not 36 times (8,500 tokens more); all are asked at once."""
    command = [sys.executable, "-c", COUNTED, tmp_path / "seen", ROOT / "main.py"]
    command += ["--adapter-path", tmp_path / "adapters", "--iters", 120]
    done = subprocess.run(map(str, command), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "seen").read_text())
    assert 10_000 < seen["tokens"] < 48_000 and 100 < seen["calls"] < 1000
    assert "datasets" not in seen["modules"] and "torch" not in seen["modules"]


def test_the_first_line_waits_for_no_library():
    """On screen before anything is imported that takes a while: Python tells what it imports."""
    command = [sys.executable, "-X", "importtime", ROOT / "main.py", "--help"]
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
    shown = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([*map(str, command)], check=True, env=unbuffered, **shown)
    before, title, after = done.stdout.partition("Fine-tuning in one script")
    modules = [line.rpartition("|")[2].strip().split(".")[0] for line in before.splitlines()]
    heavy = {"mlx", "mlx_lm", "transformers", "huggingface_hub", "numpy", "rich"}
    assert title and "lesson" in modules and not heavy & set(modules)
    assert all(f" {name}\n" in after for name in heavy)


@pytest.mark.parametrize(("scale", "dtype"), [(1, "float32"), (1e4, "float32"), (3, "bfloat16")])
def test_the_loss_is_the_librarys(scale, dtype):
    """Cross-entropy as MLX's own, its gradient too; with logits far apart, in half precision."""
    import mlx.core as mx
    from mlx import nn

    import main

    mx.random.seed(0)
    logits = (scale * mx.random.normal((3, 9, 50))).astype(getattr(mx, dtype))
    tokens, asked, lengths = mx.random.randint(0, 50, (3, 10)), [2, 4, 1], [10, 8, 5]

    def theirs(logits):
        losses = nn.losses.cross_entropy(logits.astype(mx.float32), tokens[:, 1:])
        return mx.concatenate(
            [row[a - 1 : n - 1] for row, a, n in zip(losses, asked, lengths)]
        ).mean()

    def ours(logits):
        loss, number = main.loss_fn(lambda _: logits, (tokens, mx.array(asked), mx.array(lengths)))
        return loss / number

    (one, its), (other, others) = (mx.value_and_grad(f)(logits) for f in (ours, theirs))
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    assert mx.allclose(its, others, rtol=1e-2 if dtype == "bfloat16" else 1e-4, atol=1e-6).item()


@pytest.mark.parametrize("kind", ["swiglu", "gelu"])
def test_activations_are_the_librarys_to_rounding(kind):
    """Their values and gradients, where the power of e is very small or infinite, too."""
    import mlx.core as mx
    from mlx import nn

    from lesson import models

    theirs = {"swiglu": lambda gate, x: nn.silu(gate) * x, "gelu": lambda gate, x: gelu(gate) * x}
    ours = {"swiglu": models.swiglu, "gelu": lambda gate, x: models.gelu_approx(gate) * x}

    def gelu(x):
        return 0.5 * x * (1 + mx.tanh(0.7978845608 * (x + 0.044715 * x**3)))

    mx.random.seed(0)
    gate = mx.concatenate([4 * mx.random.normal((500,)), mx.array([-500.0, -90, 0, 90, 500])])
    x, functions = mx.random.normal(gate.shape), (theirs[kind], ours[kind])
    expected, found = (f(gate, x) for f in functions)
    assert mx.allclose(found, expected, rtol=1e-5, atol=1e-6).item()
    grads = [mx.grad(lambda *a, f=f: f(*a).sum(), argnums=(0, 1))(gate, x) for f in functions]
    for one, other in zip(*grads):
        assert mx.allclose(one, other, rtol=1e-4, atol=1e-5).item()


@pytest.mark.skipif(
    sys.platform == "linux" and not shutil.which("g++"),
    reason="MLX compiles for a processor with g++, which is not there",
)
def test_where_the_step_is_compiled_it_is_the_same(shipped, monkeypatch):
    """As on Metal, its batches in few lengths; a processor takes 20 seconds the first time."""
    import mlx.core as mx

    import main
    from lesson import dataset, machine, models, rehearsal

    losses, shapes = [], []
    for compiled in (False, True):
        monkeypatch.setattr(machine, "COMPILES", compiled)
        mx.random.seed(0)
        with main.console.capture():
            model, tokenizer, _ = models.load(str(ROOT / "assets" / "base-model"))
        prompts = [main.encode_prompt(tokenizer, e) for e in dataset.load_everyday("data")[:4]]
        rows = rehearsal.note_answers(model, tokenizer, prompts)
        everyday = rehearsal.batches(rows, 2, random.Random(0))
        model.freeze()
        main.linear_to_lora_layers(model, -1, main.LORA)
        step, _ = main.make_step(model, iters=9, learning_rate=1e-3)
        losses.append([])
        shapes.append(set())
        for batch in [*main.batches(shipped, 8, random.Random(0))][:3]:
            prompts = next(everyday)
            shapes[-1].add((batch[0].shape[1], prompts[0].shape[1]))
            losses[-1] += step(batch, prompts)
    one, other = losses
    assert len(shapes[0]) == 3 and all((n - 1) % 32 == 0 for pair in shapes[1] for n in pair)
    assert len(one) == 6 and one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert one[-2] < one[0] and one[-1] > 0  # the loss of the examples; of the rehearsal
