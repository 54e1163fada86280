#!/usr/bin/env python3
"""Pre-trains the course's base model: next-token prediction on the documents that corpus/ writes.

    python3 pretraining/pretrain.py              # or again, to go on after a break

It goes through four stages (STAGES): the first teaches to read, the second, from the same weights,
to read freer sentences and to make records of them, the third to read sentences that nobody could
guess, the fourth to find them among more. On 2 cores of a server processor with OpenBLAS the first
takes 103 minutes (17 million tokens, 2,750 a second). Several processes share the rows of each step
and average their gradients: the others were run by two of one thread each, which took 63 minutes
(12 million tokens), 39 (10 million, on a faster machine), and 68 (10 million):

    OMP_NUM_THREADS=1 .venv/bin/mlx.launch -n 2 pretraining/pretrain.py

Nothing in the corpus is marked as a question or an answer: forms, manuals, stories, facts and code
are all text, and the model only learns which token comes next. What the model can do afterwards (it
goes on with a form, it reads answers out of its context) is measured while it trains, and printed.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

import mlx.core as mx
import mlx.optimizers as optim
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import abilities
import exponentials
from corpus import END, document

ROOT = Path(__file__).resolve().parents[1]

# ----------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,  # few: attention's exponentials are what a processor spends time on
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": None,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": END,
    "pad_token": END,
    "model_max_length": CONFIG["max_position_embeddings"],
    "clean_up_tokenization_spaces": False,
}
WINDOW = 512  # tokens; a document starts a row, and nearly all fit in whole
LENGTHS = (64, 128, 192, 256, 384, 512)  # rows are padded to one of these: one compiled step each
PROGRESS = ("stage", "step", "tokens", "document", "seconds")  # what a checkpoint knows of the run


class Stage(NamedTuple):
    """A part of pre-training with an optimizer and a schedule of its own."""

    tokens: float  # how many it reads
    batch: int  # tokens a step, padding included
    muon_rate: float
    adam_rate: float
    decay: float  # the share of its steps, at the end, over which the rates fall


STAGES = (
    Stage(tokens=17e6, batch=6144, muon_rate=0.02, adam_rate=4e-3, decay=0.55),
    Stage(tokens=12e6, batch=12288, muon_rate=0.015, adam_rate=3e-3, decay=0.55),
    Stage(tokens=10e6, batch=12288, muon_rate=0.015, adam_rate=3e-3, decay=0.65),
    Stage(tokens=10e6, batch=12288, muon_rate=0.015, adam_rate=3e-3, decay=0.65),
)

# ----------------------------------------------------------------------------------------------
# Tokens
# ----------------------------------------------------------------------------------------------


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE (as GPT-2's) of CONFIG's vocabulary, from 10,000 documents of its own.

    Digits stand alone, so numbers can be copied.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document(seed, -1 - i) for i in range(10_000)), trainer)
    return tokenizer


def batches(
    tokenizer: Tokenizer, seed: int, first: int, size: int
) -> Iterator[tuple[list[list[int]], int]]:
    """(rows of `size` tokens in all, next document) from document `first` on.

    Documents of like length share a batch, padded to it with the end-of-text token, which stands
    after each.
    """
    waiting = {length: [] for length in LENGTHS}
    while True:
        ready = []
        for encoded in tokenizer.encode_batch([document(seed, first + i) for i in range(1500)]):
            row = [*encoded.ids, CONFIG["eos_token_id"]][: WINDOW + 1]
            length = next(n for n in LENGTHS if n >= len(row) - 1)
            waiting[length].append(row)
            if len(waiting[length]) == size // length:
                ready.append(waiting[length])
                waiting[length] = []
        first += 1500
        Random(first).shuffle(ready)
        for rows in ready:
            yield rows, first


def as_arrays(rows: list[list[int]]) -> tuple[mx.array, mx.array]:
    """(tokens (batch, length + 1), real lengths (batch,)) of one batch's rows."""
    length = next(n for n in LENGTHS if n >= max(map(len, rows)) - 1)
    padded = [row + [CONFIG["eos_token_id"]] * (length + 1 - len(row)) for row in rows]
    return mx.array(padded), mx.array([len(row) for row in rows])


# ----------------------------------------------------------------------------------------------
# The model, its loss, its optimizer
# ----------------------------------------------------------------------------------------------


def new_model(seed: int) -> llama.Model:
    """A Llama that knows nothing: its weights are random numbers."""
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(CONFIG))
    weights = [(name, start(name, weight)) for name, weight in tree_flatten(model.parameters())]
    return model.update(tree_unflatten(weights))


def start(name: str, weight: mx.array) -> mx.array:
    """What a weight starts from: normally distributed random numbers; norms stay as they are."""
    if weight.ndim < 2:
        return weight
    if "embed" in name:
        deviation = 0.02
    elif "o_proj" in name or "down_proj" in name:  # smaller: these write to the residual stream
        writers = 2 * CONFIG["num_hidden_layers"]
        deviation = weight.shape[-1] ** -0.5 * (0.5 / writers**0.5)
    else:
        deviation = weight.shape[-1] ** -0.5 * 0.6
    return mx.random.normal(weight.shape) * deviation


def loss_fn(model: nn.Module, tokens: mx.array, lengths: mx.array, entropy: Callable) -> mx.array:
    """Mean cross-entropy (nats) of each next token; padding does not count."""
    mask = mx.arange(1, tokens.shape[1]) < lengths[:, None]
    return (entropy(model(tokens[:, :-1]), tokens[:, 1:]) * mask).sum() / mask.sum()


def schedule(rate: float, steps: int, decay: float) -> Callable[[mx.array], mx.array]:
    """The learning rate by step: 100 steps of warm-up, constant, then down to 2 % in a line."""

    def rate_at(step: mx.array) -> mx.array:
        """The learning rate of one step."""
        warm_up = mx.minimum(step / 100, 1.0)
        fade = mx.maximum((steps - step) / (decay * steps), 0.02)
        return rate * mx.minimum(warm_up, fade)

    return rate_at


def optimizer_for(number: int, model: nn.Module) -> optim.Optimizer:
    """A stage's: Muon (Jordan 2024) for the matrices, AdamW for embeddings and norms."""
    stage = STAGES[min(number, len(STAGES) - 1)]
    steps = math.ceil(stage.tokens / (0.85 * stage.batch))  # the rest is padding
    muon_rate = schedule(stage.muon_rate, steps, stage.decay)
    adam_rate = schedule(stage.adam_rate, steps, stage.decay)
    muon = optim.Muon(muon_rate, weight_decay=0.0)
    adam = optim.AdamW(adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    optimizer = optim.MultiOptimizer([muon, adam], [is_matrix])
    optimizer.init(model.trainable_parameters())
    return optimizer


def is_matrix(name: str, weight: mx.array) -> bool:
    """Whether a weight is a matrix of a layer, which Muon trains."""
    return weight.ndim == 2 and "embed" not in name


# ----------------------------------------------------------------------------------------------
# Saving
# ----------------------------------------------------------------------------------------------


def save(folder: Path, arrays: dict[str, dict], texts: dict[str, str]) -> None:
    """Writes every file beside its place, then moves it there, so that none is half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in arrays.items():
        mx.save_safetensors(str(folder / f"new-{name}"), tensors, {"format": "pt"})
    for name, text in texts.items():
        (folder / f"new-{name}").write_text(text)
    for name in [*arrays, *texts]:
        (folder / f"new-{name}").replace(folder / name)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: optim.Optimizer,
    tokenizer: Tokenizer,
    progress: dict,
) -> None:
    """All that is needed to go on from here."""
    arrays = {"model.safetensors": model.parameters(), "optimizer.safetensors": optimizer.state}
    texts = {"tokenizer.json": tokenizer.to_str(), "progress.json": json.dumps(progress)}
    save(folder, {name: dict(tree_flatten(tree)) for name, tree in arrays.items()}, texts)


def load_checkpoint(folder: Path, model: nn.Module) -> tuple[Tokenizer, dict, optim.Optimizer]:
    """(tokenizer, progress, optimizer); the model gets its weights."""
    model.load_weights(str(folder / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    progress = json.loads((folder / "progress.json").read_text())
    optimizer = optimizer_for(progress["stage"], model)
    optimizer.state = tree_unflatten(list(mx.load(str(folder / "optimizer.safetensors")).items()))
    return tokenizer, progress, optimizer


def save_model(folder: Path, model: nn.Module, tokenizer: Tokenizer) -> None:
    """The finished model in the Hugging Face layout."""
    weights = {"model.safetensors": dict(tree_flatten(model.parameters()))}
    texts = {"config.json": CONFIG, "tokenizer_config.json": TOKENIZER_CONFIG}
    texts = {name: json.dumps(config, indent=2) + "\n" for name, config in texts.items()}
    save(folder, weights, {**texts, "tokenizer.json": tokenizer.to_str()})


# ----------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------


def train(
    model: nn.Module,
    optimizer: optim.Optimizer,
    tokenizer: Tokenizer,
    progress: dict,
    seed: int,
    checkpoint: Path,
    entropy: Callable,
) -> None:
    """Next-token prediction to the end of a stage; a checkpoint every 150 steps."""
    group = mx.distributed.init()
    state = [model.state, optimizer.state]
    loss_and_grad = nn.value_and_grad(model, partial(loss_fn, entropy=entropy))

    @partial(mx.compile, inputs=state, outputs=state)
    def step(tokens: mx.array, lengths: mx.array) -> mx.array:
        """One step of training; gives the loss, in nats, before it."""
        loss_and_gradients = loss_and_grad(model, tokens, lengths)
        loss, gradients = nn.average_gradients(loss_and_gradients, group)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    size = STAGES[progress["stage"]].batch
    last_token = sum(stage.tokens for stage in STAGES[: progress["stage"] + 1])
    losses, start = [], time.perf_counter() - progress["seconds"]
    for rows, following in batches(tokenizer, seed, progress["document"], size):
        loss = step(*as_arrays(rows[group.rank() :: group.size()]))
        mx.eval(loss, state)
        losses.append(loss.item())
        progress["step"] += 1
        progress["tokens"] += sum(len(row) - 1 for row in rows)
        progress["seconds"] = time.perf_counter() - start
        progress["document"] = following
        done = progress["tokens"] >= last_token
        if group.rank():
            if done:
                return
            continue
        if progress["step"] % 20 == 0 or done:
            speed = progress["tokens"] / progress["seconds"]
            print(
                f"step {progress['step']}  {progress['tokens'] / 1e6:.2f} M tokens  "
                f"loss {fmean(losses):.3f}  {speed:.0f} tokens/s  "
                f"{progress['seconds'] / 60:.1f} min",
                flush=True,
            )
            losses.clear()
        if progress["step"] in (100, 1000) or done:
            print("   ", abilities.sample(model, tokenizer), flush=True)
        if progress["step"] % 150 == 0 or done:
            print("   ", abilities.measure(model, tokenizer), flush=True)
            save_checkpoint(checkpoint, model, optimizer, tokenizer, progress)
            start = time.perf_counter() - progress["seconds"]  # the looking and saving do not count
        if done:
            return


def main(args: argparse.Namespace) -> None:
    """Makes the model, or goes on with it, and leaves it in the Hugging Face layout."""
    # The model may say what the terminal has no letters for.
    sys.stdout.reconfigure(errors="replace")
    entropy = nn.losses.cross_entropy
    if mx.default_device() == mx.Device(mx.cpu):
        exponentials.use_products()
        entropy = exponentials.cross_entropy
    first = mx.distributed.init().rank() == 0
    model, checkpoint = new_model(args.seed), args.out / "checkpoint"
    if (checkpoint / "progress.json").exists():
        tokenizer, progress, optimizer = load_checkpoint(checkpoint, model)
    else:
        tokenizer, progress = train_tokenizer(args.seed), dict.fromkeys(PROGRESS, 0)
        optimizer = optimizer_for(0, model)
    parameters = sum(weight.size for _, weight in tree_flatten(model.parameters()))
    if first:
        print(f"{parameters:,} parameters, {progress}", flush=True)
        if not progress["step"]:
            print("   ", abilities.sample(model, tokenizer), flush=True)
    while progress["stage"] < len(STAGES):
        train(model, optimizer, tokenizer, progress, args.seed, checkpoint, entropy)
        progress["stage"] += 1
        optimizer = optimizer_for(progress["stage"], model)
        if first:
            save_checkpoint(checkpoint, model, optimizer, tokenizer, progress)
            save_model(args.out, model, tokenizer)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "assets" / "base-model",
        help="where the model goes; a checkpoint/ folder is kept there",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_args())
