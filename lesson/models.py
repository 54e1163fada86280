"""What differs from model to model: where it is, how an answer ends, the memory, fast reading."""

import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx_lm
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models import activations
from mlx_lm.models.cache import ConcatenateKVCache, KVCache, make_prompt_cache
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner.trainer import grad_checkpoint

from lesson.dataset import Example, Row, is_on_hub
from lesson.machine import errors_in_one_line, stop


def load(name: str) -> tuple[nn.Module, TokenizerWrapper, dict]:
    """(model, tokenizer, config) from a folder or, by its name, from the Hugging Face Hub."""
    check_name(name)
    with errors_in_one_line(f"--model {name}"):
        # A model's own programs are not run.
        safely = {"trust_remote_code": False}
        loaded = mlx_lm.load(name, safely, return_config=True)
        model, tokenizer, config = loaded  # type: ignore[misc]  # three, by return_config
    if mx.default_device() == mx.Device(mx.cpu):
        model.set_dtype(mx.float32)  # which is what a processor multiplies fast
        use_fast_activations(model)
    check_can_be_asked(model, name)
    choose_end_token(tokenizer, name)
    return model, tokenizer, config | (config.get("text_config") or {})


def check_name(name: str) -> None:
    """Stops if it is neither a folder with a model nor what a model on the Hub could be called."""
    if name.endswith(".gguf"):
        stop(f"--model {name}: GGUF is for llama.cpp; take the model that it was made from")
    if not (Path(name).is_dir() or is_on_hub(name)):
        stop(f"--model {name}: no such folder; models on the Hub are named owner/name")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        if (Path(name) / "adapter_config.json").is_file():
            advice = "to train them further, give their file to --resume-adapter-file"
            stop(f"--model {name}: has adapters, but not the model that they belong to; {advice}")
        stop(f"--model {name}: no config.json in it, so it is no model")


def choose_end_token(tokenizer: TokenizerWrapper, name: str) -> None:
    """Settles the token that ends an answer, and makes it the tokenizer's end of text.

    Chat templates often end a turn with a token of their own, as <|im_end|>. It is learnt if
    mlx-lm's tools stop at it too, or else the end of text; we stop at either.
    """
    turn, tail = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], []
    if tokenizer.has_chat_template:
        with suppress(Exception):  # some want more than that, and will say so later
            text = tokenizer.apply_chat_template(turn, tokenize=False).rpartition("!")[2]
            tail = tokenizer.encode(text, add_special_tokens=False)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = [token for token in tail if token in special][:1]
    learnt = [t for t in [*ends, tokenizer.eos_token_id] if t in tokenizer.eos_token_ids]
    if not tokenizer.eos_token_ids:
        stop(f"--model {name}: its tokenizer has no end of text, so it could never stop")
    tokenizer.eos_token_id = [*learnt, *sorted(tokenizer.eos_token_ids)][0]
    tokenizer.eos_token_ids = {*tokenizer.eos_token_ids, *ends}


def without_end(
    tokenizer: TokenizerWrapper, data: dict[str, list[Example]]
) -> dict[str, list[Example]]:
    """The examples without the end of text after their answers, which encode() adds by itself."""
    end = tokenizer.decode([tokenizer.eos_token_id])
    data = {
        split: [e._replace(completion=e.completion.removesuffix(end).rstrip()) for e in examples]
        for split, examples in data.items()
    }
    for example in chain.from_iterable(data.values()):
        if not example.completion:
            stop(f"{example.place}: has nothing but the end of text; delete the line")
    return data


def special_tokens(tokenizer: TokenizerWrapper) -> set[str]:
    """The tokens that stand for something else than their letters, as the end of text."""
    return {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}


def check_tokens(vocabulary: int, tokens: Iterable[int], place: str) -> None:
    """Stops at a token that the model has no row of numbers for: MLX would read beyond the end."""
    if (token := max(tokens, default=0)) >= vocabulary:
        stop(
            f"{place}: its token {token} is none of the model's {vocabulary:,};"
            " take the model's own tokenizer, or leave out what that token stands for"
        )


def check_rows(
    model: nn.Module, data: dict[str, list[Example]], rows: dict[str, list[Row]]
) -> None:
    """Stops at the first example that has a token of which the model knows nothing."""
    vocabulary, _ = embedding_shape(model)
    for split, examples in data.items():
        for example, (tokens, _) in zip(examples, rows[split]):
            check_tokens(vocabulary, tokens, example.place)


def check_can_be_asked(model: nn.Module, name: str) -> None:
    """Stops if mlx-lm cannot ask this model several questions at once."""
    if not all(hasattr(cache, "merge") for cache in make_prompt_cache(model)):
        stop(f"--model {name}: mlx-lm cannot ask it several questions at once yet; take another")


def check_options(model: nn.Module, num_layers: int | None, fine_tune_type: str) -> None:
    """Stops at what cannot be done with this model."""
    kinds = {type(module).__name__ for module in model.modules()}
    if num_layers and num_layers > len(model.layers):
        stop(f"--num-layers {num_layers}: the model has {len(model.layers)}")
    if fine_tune_type == "full" and "QuantizedLinear" in kinds:
        stop(
            "--fine-tune-type full: quantized weights cannot be trained; take lora or another model"
        )
    if fine_tune_type == "dora" and kinds & {"SwitchLinear", "QuantizedSwitchLinear"}:
        stop("--fine-tune-type dora: mlx-lm has none for a mixture of experts; take lora")


def context_length(config: dict) -> int:
    """The most tokens that a model takes, by its config; many if that does not say."""
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    return next((config[name] for name in names if config.get(name)), 2**20)


def embedding_shape(model: nn.Module) -> tuple[int, int]:
    """(tokens in the vocabulary, width: how many numbers stand for each of them)."""
    kinds = (nn.Embedding, nn.QuantizedEmbedding)
    *_, table = (module for module in model.modules() if isinstance(module, kinds))  # the first one
    if isinstance(table, nn.QuantizedEmbedding):
        return table.num_embeddings, table.dims
    vocabulary, width = table.weight.shape
    return vocabulary, width


def memory_needed(
    model: nn.Module, config: dict, batch_size: int, length: int, grad_checkpoint: bool
) -> tuple[float, float]:
    """(bytes of the model, bytes that a step of training takes on batch_size x length tokens).

    A step: five times what is trained (itself, its gradient, Adam's two means, the best so far);
    and for each token what goes in and out of every matrix, the attention's scores, and three
    copies of the logits. The factors are fitted to measurements; tests/test_models.py compares.
    """
    arrays = dict(tree_flatten(model.parameters()))
    trained = dict(tree_flatten(model.trainable_parameters()))
    size = next(a.dtype.size for a in arrays.values() if mx.issubdtype(a.dtype, mx.floating))
    experts = config.get("num_experts_per_tok") or 1  # of a mixture, whose matrices are stacked
    matrices = [a for a in trained.values() if a.ndim > 1]
    numbers = sum(sum(a.shape[-2:]) * experts ** (a.ndim - 2) for a in matrices)
    heads = config.get("num_attention_heads") or 16
    layers = len({re.sub(r"(layers\.\d+).*", r"\1", name) for name in trained})
    kept = (0.6 if grad_checkpoint else 1.25) * size * (numbers + 2.4 * heads * layers * length)
    step = 5 * sum(a.nbytes for a in trained.values())
    step += batch_size * length * (kept + 3 * 4 * embedding_shape(model)[0])
    return sum(a.nbytes for name, a in arrays.items() if name not in trained), step


def use_grad_checkpoint(model: nn.Module) -> None:
    """Makes the layers compute again, going backwards, what they would have had to keep."""
    grad_checkpoint(model.layers[0])
    model.computes_again = True


# ---- Chat templates ----------------------------------------------------------------------------
@cache
def takes_system(tokenizer: TokenizerWrapper) -> bool:
    """Whether the model's chat template has a place for a system message; Gemma 2's has none."""
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
    try:
        return "Be kind." in tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # each template raises what it likes
        return False


def with_system_in_question(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The turns with a system message, if there is one, at the head of the first user's."""
    if len(turns) < 2 or [turn["role"] for turn in turns[:2]] != ["system", "user"]:
        return turns
    system, user, *others = turns
    return [user | {"content": f"{system['content']}\n\n{user['content']}"}, *others]


def render_chat(
    tokenizer: TokenizerWrapper, turns: list[dict[str, str]], thinking: bool, place: str
) -> str:
    """Turns of a chat in the model's template, up to where its answer begins.

    A model that can think aloud is told not to, unless `thinking`. Stops, with the example's place,
    if the template does not take the turns.
    """
    pairs = enumerate(pairwise(turn["role"] for turn in turns), 2)
    twice = [f": message {n} is the {a}'s, as the one before" for n, (a, b) in pairs if a == b]
    if not takes_system(tokenizer):
        turns = with_system_in_question(turns)
    what = f"{place}: the model's chat template does not take it{''.join(twice[:1])}"
    with errors_in_one_line(what):
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
    begins_to_think = tokenizer.has_thinking and text.rstrip().endswith(tokenizer.think_start)
    if begins_to_think and not thinking:  # some templates begin it without asking
        text += f"{tokenizer.think_end}\n\n"
    return text


# ---- Asking ------------------------------------------------------------------------------------
READ_AT_ONCE = 8192  # tokens of prompts, in all


def generate(
    model: nn.Module, tokenizer: TokenizerWrapper, prompts: list[list[int]], max_tokens: int
) -> tuple[list[str], list[list[int]]]:
    """(texts, their tokens): each prompt (tokens) goes on with the likeliest token, all at once."""
    if not prompts:
        return [], []
    check_tokens(embedding_shape(model)[0], chain.from_iterable(prompts), "the question")
    # What all of them begin with, such as the manual, is read once and kept: a prompt cache.
    shared, cache = os.path.commonprefix([p[:-1] for p in prompts]), make_prompt_cache(model)
    if shared:
        model(mx.array([shared]), cache=cache)
    # Of short prompts many, of long ones few: what they are computed with would fill the memory.
    longest = max(map(len, prompts)) - len(shared)
    at_once = min(max(READ_AT_ONCE // longest, 1), 64)
    replies = mlx_lm.batch_generate(
        model,
        tokenizer,
        [prompt[len(shared) :] for prompt in prompts],
        [cache] * len(prompts),
        max_tokens=max_tokens,
        prefill_batch_size=at_once,
        completion_batch_size=max(at_once, 32),  # 32 is mlx-lm's own
        return_token_ids=True,
    )
    return replies.texts, replies.token_ids or []


# ---- Computing faster on a processor -----------------------------------------------------------
@mx.custom_function
def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + e ** -x): MLX's power takes 5 ns there, its exponential and its sigmoid 12 to 16."""
    return 1 / (1 + math.e**-x)


@sigmoid.vjp
def sigmoid_vjp(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    """The gradient: s (1 - s) times what it is of the rest."""
    return cotangent * output * (1 - output)


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """SiLU of the gate, times x (arXiv 2002.05202): what most models' feed-forward layers use."""
    return gate * sigmoid(gate) * x


def gelu_approx(x: mx.array) -> mx.array:
    """GELU's approximation by tanh, which is a sigmoid of twice as much (arXiv 1606.08415)."""
    return x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * (x * x * x)))


def use_fast_activations(model: nn.Module) -> None:
    """Puts the functions above in the place of MLX's own: the same to rounding."""
    for name in {type(part).__module__ for part in model.modules()}:
        if getattr(sys.modules[name], "swiglu", None) is activations.swiglu:
            sys.modules[name].swiglu = swiglu  # type: ignore[attr-defined]
    nn.gelu_approx = gelu_approx


# ---- Reading faster ----------------------------------------------------------------------------
class Skipped(NamedTuple):
    """The tokens that a batch begins with and that need not be predicted."""

    first: int  # how many they are
    shared: int  # how many of them are the same in all rows, and so are read once


NOTHING = Skipped(0, 0)


def logits_from(
    model: nn.Module, tokens: mx.array, first: int, shared: int = 0, cache: list | None = None
) -> mx.array:
    """The logits after the first `first` tokens: (batch, tokens - first, vocabulary).

    Where the vocabulary is large, logits are the most expensive part of a step, and those of a
    question are of no use. So the model's last norm, where it is found, passes only the others on.
    The first `shared` tokens, at most `first`, are the same in all rows: they are read once.
    """
    if shared and len(tokens) > 1:
        cache = [ConcatenateKVCache() for _ in model.layers]
        logits_from(model, tokens[:1, :shared], shared - 1, cache=cache)
        for layer in cache:
            layer.state = [mx.repeat(a, len(tokens), axis=0) for a in layer.state]
        tokens, first = tokens[:, shared:], first - shared
    read = {"cache": cache} if cache else {}
    norm = last_norm(model) if first else None
    if norm is None:
        return model(tokens, **read)[:, first:]
    kind = type(norm)
    cut = {"__call__": lambda self, x: kind.__call__(self, x[:, first:])}
    norm.__class__ = type(kind.__name__, (kind,), cut)
    try:
        return model(tokens, **read)
    finally:
        norm.__class__ = kind


def shared_prefix_length(model: nn.Module, rows: Sequence[tuple]) -> int:
    """How many tokens all rows begin with, such as a chat template's system message, if many.

    0 if the model keeps no plain keys and values of what it has read, or is to compute them again.
    """
    tokens = [row[0] for row in rows] or [[]]
    shared = min(len(os.path.commonprefix(tokens)), min(map(len, tokens)) - 1)
    plain = all(type(layer) is KVCache for layer in make_prompt_cache(model))
    return shared if shared >= 16 and plain and not getattr(model, "computes_again", False) else 0


def last_norm(model: nn.Module) -> nn.Module | None:
    """The normalization between a model's last layer and its logits, by mlx-lm's names for it."""
    names = r"(\D*\.)?(norm|norm_f|ln_f|final_norm|final_layernorm)"  # no layer's, with a number
    found = [m for name, m in model.named_modules() if re.fullmatch(names, name)]
    return found[0] if len(found) == 1 else None
