#!/usr/bin/env python3
"""Pre-trains the course's base model: next-token prediction on the documents that corpus/ writes.

    python3 pretraining/pretrain.py              # or again, to go on after a break

It takes 103 minutes on 2 cores of a server processor with OpenBLAS (17 million tokens, 2,750 a
second); on other machines it has not been timed.

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
BATCH = 6144  # tokens, padding included
MUON_RATE, ADAM_RATE = 0.02, 4e-3
PROGRESS = ("step", "tokens", "document", "seconds")  # what a checkpoint knows of the run

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
    tokenizer: Tokenizer, seed: int, first: int
) -> Iterator[tuple[mx.array, mx.array, int]]:
    """(tokens (batch, length + 1), real lengths (batch,), next document) from document `first` on.

    Documents of like length share a batch; each ends with the end-of-text token.
    """
    waiting = {length: [] for length in LENGTHS}
    while True:
        ready = []
        for encoded in tokenizer.encode_batch([document(seed, first + i) for i in range(1500)]):
            row = [*encoded.ids, CONFIG["eos_token_id"]][: WINDOW + 1]
            length = next(n for n in LENGTHS if n >= len(row) - 1)
            waiting[length].append(row)
            if len(waiting[length]) == BATCH // length:
                ready.append((length, waiting[length]))
                waiting[length] = []
        first += 1500
        Random(first).shuffle(ready)
        for length, rows in ready:
            padded = [row + [0] * (length + 1 - len(row)) for row in rows]
            yield mx.array(padded), mx.array([len(row) for row in rows]), first


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


def schedule(rate: float, steps: int) -> Callable[[mx.array], mx.array]:
    """The learning rate by step: 100 steps of warm-up, constant, then down to 2 % in a line."""

    def rate_at(step: mx.array) -> mx.array:
        """The learning rate of one step."""
        warm_up = mx.minimum(step / 100, 1.0)
        decay = mx.maximum((steps - step) / (0.55 * steps), 0.02)
        return rate * mx.minimum(warm_up, decay)

    return rate_at


def optimizer_for(steps: int) -> optim.Optimizer:
    """Muon (Jordan 2024) for the matrices, AdamW for embeddings and norms."""
    muon = optim.Muon(schedule(MUON_RATE, steps), weight_decay=0.0)
    adam = optim.AdamW(schedule(ADAM_RATE, steps), betas=(0.9, 0.95), weight_decay=0.0)
    return optim.MultiOptimizer([muon, adam], [is_matrix])


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


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[Tokenizer, dict]:
    """(tokenizer, progress); the weights and the optimizer's state go where they belong."""
    model.load_weights(str(folder / "model.safetensors"))
    optimizer.state = tree_unflatten(list(mx.load(str(folder / "optimizer.safetensors")).items()))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer, json.loads((folder / "progress.json").read_text())


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
    most_tokens: float,
    seed: int,
    checkpoint: Path,
    entropy: Callable,
) -> None:
    """Next-token prediction until `most_tokens` have been seen; a checkpoint every 150 steps."""
    state = [model.state, optimizer.state]
    loss_and_grad = nn.value_and_grad(model, partial(loss_fn, entropy=entropy))

    @partial(mx.compile, inputs=state, outputs=state)
    def step(tokens: mx.array, lengths: mx.array) -> mx.array:
        """One step of training; gives the loss, in nats, before it."""
        loss, gradients = loss_and_grad(model, tokens, lengths)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    losses, start = [], time.perf_counter() - progress["seconds"]
    if not progress["step"]:
        print("   ", abilities.sample(model, tokenizer), flush=True)
    for tokens, lengths, following in batches(tokenizer, seed, progress["document"]):
        loss = step(tokens, lengths)
        mx.eval(loss, state)
        losses.append(loss.item())
        progress["step"] += 1
        progress["tokens"] += int(lengths.sum()) - len(lengths)
        progress["seconds"] = time.perf_counter() - start
        progress["document"] = following
        done = progress["tokens"] >= most_tokens
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
    steps = math.ceil(args.tokens / (0.85 * BATCH))  # the rest is padding
    model, optimizer = new_model(args.seed), optimizer_for(steps)
    optimizer.init(model.trainable_parameters())
    checkpoint = args.out / "checkpoint"
    if (checkpoint / "progress.json").exists():
        tokenizer, progress = load_checkpoint(checkpoint, model, optimizer)
    else:
        tokenizer, progress = train_tokenizer(args.seed), dict.fromkeys(PROGRESS, 0)
    parameters = sum(weight.size for _, weight in tree_flatten(model.parameters()))
    print(f"{parameters:,} parameters, {progress}", flush=True)
    train(model, optimizer, tokenizer, progress, args.tokens, args.seed, checkpoint, entropy)
    save_model(args.out, model, tokenizer)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=17e6, help="how many tokens to train on")
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
