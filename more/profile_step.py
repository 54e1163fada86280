#!/usr/bin/env python3
"""Where a training step's time goes, part by part, on this machine.

python3 more/profile_step.py [--model assets/base-model] [--data data]

A part of the model is measured by leaving it out: the step takes so much less without it, there and
back. All variants are timed in turn, several times, and the medians shown, as other programs
on the machine slow all alike. What the products of matrices take at the least is calculated: four
operations for each token and parameter, two there and two back, at the speed of a big product.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mlx.core as mx
from mlx import nn
from mlx_lm.utils import get_total_parameters

import main
from lesson import dataset, models, options


@contextmanager
def left_out(owner: object, name: str, instead: Callable) -> Iterator[None]:
    """With something simple in the place of a function."""
    before = getattr(owner, name)
    setattr(owner, name, instead)
    try:
        yield
    finally:
        setattr(owner, name, before)


def values_alone(queries: mx.array, keys: mx.array, values: mx.array, **_: object) -> mx.array:
    """Instead of attention, (batch, heads, tokens, head_dim): the values as they are."""
    return mx.repeat(values, queries.shape[1] // values.shape[1], axis=1)


def variants(model: nn.Module) -> dict[str, Callable]:
    """{part: a context in which the model does without it}."""
    code = sys.modules[type(model.layers[0]).__module__]
    found = {"the loss": partial(left_out, main, "cross_entropy", lambda logits, _: logits[..., 0])}
    if hasattr(code, "scaled_dot_product_attention"):
        found["attention"] = partial(left_out, code, "scaled_dot_product_attention", values_alone)
    if hasattr(code, "swiglu"):
        found["activations"] = partial(left_out, code, "swiglu", lambda gate, x: gate * x)
    return found


def milliseconds(work: Callable[[tuple], object], batches: list[tuple]) -> float:
    """Of one batch, the mean over all."""
    start = time.perf_counter()
    for batch in batches:
        mx.eval(work(batch))
    return 1e3 * (time.perf_counter() - start) / len(batches)


def product_rate() -> float:
    """Operations a second in products of matrices of 1024 x 1024."""
    a, b = mx.random.normal((2, 1024, 1024))
    mx.eval(a @ b)
    return 2 * 1024**3 / (milliseconds(lambda _: a @ b, [()] * 5) / 1e3)


def profile(model: nn.Module, batches: list[tuple], rounds: int) -> dict[str, float]:
    """{part: milliseconds of a step}."""
    step, _ = main.make_step(model, iters=10_000, learning_rate=1e-6)

    def loss(batch: tuple) -> mx.array:
        """The loss as the step takes it."""
        return main.loss_fn(model, batch, main.skip_prompts(batch, 0))[0]

    gradients = nn.value_and_grad(model, loss)
    works = {"forward": loss, "forward and backward": gradients, "a step": step}
    times: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, work in works.items():
            times.setdefault(name, []).append(milliseconds(work, batches))
        for name, without in variants(model).items():
            with without():
                times.setdefault(name, []).append(milliseconds(step, batches))
        if not turn:  # in the first round, everything is new
            times.clear()
    found = {name: median(measured) for name, measured in times.items()}
    step_ms = found["a step"]
    table = {
        "forward": found["forward"],
        "backward": found["forward and backward"] - found["forward"],
        "clipping and Adam": step_ms - found["forward and backward"],
        "a step": step_ms,
    }
    return table | {f"in it, {name}": step_ms - found[name] for name in variants(model)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    defaults = options.parse([])
    parser.add_argument("--model", default=defaults.model)
    parser.add_argument("--data", default=defaults.data)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    loaded, tokenizer, config = models.load(args.model)
    examples = dataset.load_data(args.data, args.model)["train"]
    rows = [main.encode(tokenizer, example) for example in examples]
    main.add_adapters(loaded, 16, "lora", main.LORA)
    loaded.train()
    some = [*main.batches(rows, args.batch_size, random.Random(0))][:8]
    parameters = get_total_parameters(loaded)
    tokens = sum(int(lengths.sum()) for _, _, lengths in some) / len(some)
    rate = product_rate()
    table = profile(loaded, some, args.rounds)
    table[f"products, at {rate / 1e9:.0f} GFLOP/s"] = 1e3 * 4 * parameters * tokens / rate
    print(f"{args.model}: {parameters:,} parameters, {tokens:.0f} tokens a step")
    for name, ms in table.items():
        print(f"  {name:36} {ms:8.1f} ms  {ms / table['a step']:4.0%}")
