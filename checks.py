"""What surrounds the lesson: loading, reading and looking over, evaluating, drawing, saving."""

import ctypes
import fcntl
import json
import logging
import math
import os
import platform
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import warnings
from argparse import ArgumentTypeError, Namespace
from collections import Counter, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from io import StringIO, TextIOWrapper
from itertools import chain, pairwise
from pathlib import Path
from statistics import NormalDist, fmean
from threading import Event
from typing import NoReturn

# Which one of several processes this is, as what starts them says (mlx.launch; Open MPI, MPICH).
RANK = [os.environ[n] for n in ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if n in os.environ]
LAUNCHED, RANK = bool(RANK), int(*RANK[:1])  # the first is 0, and so is one alone

if Path(sys.argv[0]).name == "main.py":  # while the libraries are loaded, which takes a moment
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to keep
    with suppress(OSError):  # if nobody reads, that is noticed at the next line
        RANK or print(sys.modules["__main__"].__doc__.partition("\n")[0])
# Plain downloads from the Hub, and nothing sent to anybody: no telemetry, no counting.
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
os.environ |= {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_VERBOSITY": "error"}
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import mlx.core as mx
from huggingface_hub.utils import disable_progress_bars
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ConcatenateKVCache, KVCache, make_prompt_cache
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import get_total_parameters
from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt
from rich.table import Table

MOST_QUESTIONS = 24  # that are asked of each act, unless the exam has more
MOST_FINDINGS = 10  # of each kind that are shown
LIKE_THIS = 'write {"prompt": "a question", "completion": "its answer"}'
A_CHAT = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
# The prompt as a text, and as a chat; the place is the file and the line.
Example = namedtuple("Example", "prompt messages completion place")
PLAIN = {"highlight": False, "emoji": False}
if not sys.stderr.isatty():
    disable_progress_bars()
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, TextIOWrapper):  # which may not have all letters
        stream.reconfigure(errors="replace")
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it may write is no matter
console = Console(**PLAIN, soft_wrap=True, quiet=bool(RANK))  # a long line stays one line
paper = Console(**PLAIN, record=True, width=100, file=StringIO())  # the screen, less what moves


def show(content: object = "") -> None:
    """Prints, with rich's markup, on the screen and on what will be lesson.svg."""
    if isinstance(content, str):  # a model may say anything, and so move the cursor
        content = re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", content)
    console.print(content)
    paper.print(content)


def stop(message: str) -> NoReturn:
    """Ends the program, all of its processes, with one line on standard error and exit status 2."""
    meet(fault=message)


# ---- Several processes -------------------------------------------------------------------------
@cache
def world() -> mx.distributed.Group:
    """All the processes that mlx.launch started; this one alone if there are no others."""
    hosts = Path(os.environ.get("MLX_HOSTFILE", os.devnull))  # left empty by mlx.launch -n 1
    if hosts.is_file() and not hosts.read_text().strip():
        del os.environ["MLX_HOSTFILE"]
    try:
        return mx.distributed.init(backend="any" if LAUNCHED else "ring")
    except RuntimeError as error:
        leave(f"the others are not reached: {error}")


def leave(why: str) -> NoReturn:
    """Ends this process, which cannot meet the others."""
    print(f"main.py: process {RANK}: {why}", file=sys.stderr)
    sys.exit(2)


def meet(wish: bool = False, fault: str = "") -> bool:
    """Waits until all processes have come here; gives whether one of them has a wish.

    If one has a fault, the first that has says so, and all end. To wait here, before each step, is
    better than in it, for that is on a GPU, which gives up while another one still asks questions.
    """
    everyone = partial(mx.distributed.all_gather, group=world())
    wishes, faults = zip(*everyone(mx.array([[int(wish), int(fault != "")]])).tolist())
    if any(faults):
        if faults.index(1) == RANK:
            print(f"main.py: {' '.join(fault.split())}", file=sys.stderr)
        mx.eval(everyone(mx.array([0])))  # by now it has been said
        sys.exit(2)
    return any(wishes)


def is_helper() -> bool:
    """Whether this process only helps to train; ends if another one could not come so far."""
    meet()
    return RANK > 0


def share(batch: tuple[mx.array, ...]) -> tuple[mx.array, ...]:
    """This process's rows of a batch; where there is none for it, one in which nothing counts."""
    size = world().size()
    mine = tuple(array[RANK::size] for array in batch)
    if batch and not mine[0].size:  # without lengths, or probabilities, nothing counts
        return *(array[:1] for array in batch[:-1]), mx.zeros_like(batch[-1][:1])
    return mine


def agree(model: nn.Module, rows: list, args: Namespace) -> None:
    """Stops if the processes, perhaps on several machines, have not the same to train on.

    The adapters begin as the mean of all: on different machines, too, the same to the last bit.
    """
    same = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    same |= {"model": get_total_parameters(model), "rows": rows}
    digest = int(sha256(json.dumps(same).encode()).hexdigest()[:7], 16)
    first, *others = mx.distributed.all_gather(mx.array([digest]), group=world()).tolist()
    for rank, other in enumerate(others, 1):
        if other != first:
            stop(f"process {rank} has other data, options or model than the first; copy the folder")
    model.update(nn.average_gradients(model.trainable_parameters(), world()))
    mx.eval(model.parameters())  # now: all processes have to exchange the same things in one order


# ---- Loading a model ---------------------------------------------------------------------------
SAFELY = {"trust_remote_code": False}  # a model's own programs are not run, nor is that asked
ADVICE = {  # by what is in an error's name or text
    "GatedRepo": "accept its terms on its page on the Hub, then run .venv/bin/hf auth login",
    "RepositoryNotFound": "not on the Hub by that name; or private: run .venv/bin/hf auth login",
    "IncompleteSnapshot": "half of it is here and the Hub cannot be reached; run it again online",
    "No space left|Unable to write": "the disk is full; make room, or go to another disk: --adapter-path"
    " for what is learnt, HF_HOME for what comes from the Hub",
    "LocalEntryNotFound|Couldn't reach": "the Hub cannot be reached; look at the network, and at"
    " HF_ENDPOINT if set",
    "RemoteProtocol|Consistency check": "the download broke off; run it again: whole files stay",
    "No safetensors": "no safetensors in it; other kinds can hold programs, and are not loaded",
    "trust_remote_code": "it wants to run a program of its own, which is never done here",
    "Config name is missing": "it has several parts; save one as train.jsonl in a folder of yours",
}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Ends the program with one line, `what` and why, if anything goes wrong inside."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # noqa: BLE001  mlx-lm, the Hub, the network: each has its own kinds
        causes = [e for e in (error, error.__cause__, error.__context__) if e]
        known = " ".join(f"{type(e).__name__} {e}" for e in causes)
        advice = next((said for sign, said in ADVICE.items() if re.search(sign, known)), None)
        stop(f"{what}: {advice or f'{type(error).__name__}: {str(error).split(chr(10))[0]}'}")


def check_name(name: str) -> None:
    """Stops if that is neither a folder with a model nor what a model on the Hub could be called."""
    if not (Path(name).is_dir() or is_on_hub(name)):
        stop(f"--model {name}: no such folder; models on the Hub are named owner/name")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        stop(f"--model {name}: no config.json in it, so it is no model")


def settle_end(tokenizer, name: str) -> None:
    """Settles the token that ends an answer, and makes it the tokenizer's end of text.

    Chat templates often end a turn with a token of their own, as <|im_end|>. It is learnt if mlx-lm's
    tools stop at it too, or else the end of text; we stop at either.
    """
    turn, tail = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], []
    if tokenizer.has_chat_template:
        with suppress(Exception):  # some want more than that, and will say so later
            text = tokenizer.apply_chat_template(turn, tokenize=False).rpartition("!")[2]
            tail = tokenizer.encode(text, add_special_tokens=False)
    ends = [token for token in tail if token in tokenizer.all_special_ids][:1]
    learnt = [t for t in [*ends, tokenizer.eos_token_id] if t in tokenizer.eos_token_ids]
    if not tokenizer.eos_token_ids:
        stop(f"--model {name}: its tokenizer has no end of text, so it could never stop")
    tokenizer.eos_token_id = [*learnt, *sorted(tokenizer.eos_token_ids)][0]
    tokenizer.eos_token_ids = {*tokenizer.eos_token_ids, *ends}


def describe_model(model: nn.Module, name: str, config: dict) -> None:
    """One line: its size, how its numbers are kept, and what computes."""
    if not all(hasattr(cache, "merge") for cache in make_prompt_cache(model)):
        stop(f"--model {name}: mlx-lm cannot ask it several questions at once yet; take another")
    where, bits = "the GPU", config.get("quantization", {}).get("bits")
    if mx.default_device() == mx.Device(mx.cpu):
        where = "the processor, in float32"
        warn_without_openblas()
    kept = f" of {bits} bits (so this is QLoRA)" if bits else ""
    where += f", in each of {world().size()} processes" * (world().size() > 1)
    show(f"{escape(name)}: {get_total_parameters(model):,} parameters{kept}, on {where}")


def context_length(config: dict) -> int:
    """The most tokens that a model takes, by its config; many if that does not say."""
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    return next((config[name] for name in names if config.get(name)), 2**20)


def longest_answer(data: dict[str, list[Example]], rows: dict[str, list]) -> int:
    """The tokens of the longest answer that can be asked for."""
    pairs = (pair for split in ("train", "test") for pair in zip(data[split], rows[split]))
    return max(len(tokens) - asked for example, (tokens, asked) in pairs if example.prompt)


def logits_from(
    model: Callable, tokens: mx.array, first: int, shared: int = 0, cache: list | None = None
) -> mx.array:
    """The model's logits, less those of the first `first` tokens: (batch, tokens - first, vocabulary).

    They are the dearest part of a step where the vocabulary is large, and of a question that is only
    read they serve nothing. The model's last norm passes the others on, where it is found. The first
    `shared` tokens, fewer than `first` or as many, are the same in all rows: they are read once.
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
    norm.__class__ = type(
        kind.__name__, (kind,), {"__call__": lambda n, x: kind.__call__(n, x[:, first:])}
    )
    try:
        return model(tokens, **read)
    finally:
        norm.__class__ = kind


def shared_beginning(model: nn.Module, rows: list[tuple]) -> int:
    """How many tokens all rows begin with, such as a chat template's system message, if it is many.

    0 if the model does not keep plain keys and values of what it has read, or is to compute them anew.
    """
    tokens = [row[0] for row in rows] or [[]]
    shared = min(len(os.path.commonprefix(tokens)), min(map(len, tokens)) - 1)
    plain = all(type(layer) is KVCache for layer in make_prompt_cache(model))
    return shared if shared >= 16 and plain and not getattr(model, "computes_anew", False) else 0


def last_norm(model: Callable) -> nn.Module | None:
    """The normalization between a model's last layer and its logits, by the names that mlx-lm uses."""
    names = r"(.*\.)?(norm|norm_f|ln_f|final_norm|final_layernorm)"
    modules = model.named_modules() if isinstance(model, nn.Module) else []
    found = [m for name, m in modules if re.fullmatch(names, name) and not re.search(r"\d", name)]
    return found[0] if len(found) == 1 else None


def embedding(model: nn.Module) -> tuple[int, int]:
    """(tokens in the vocabulary, width: how many numbers stand for each of them)."""
    kinds = (nn.Embedding, nn.QuantizedEmbedding)
    *_, table = (module for module in model.modules() if isinstance(module, kinds))  # the first one
    quantized = isinstance(table, nn.QuantizedEmbedding)
    return (table.num_embeddings, table.dims) if quantized else table.weight.shape


# ---- Kinds of fine-tuning ----------------------------------------------------------------------
def check_kind(model: nn.Module, args: Namespace) -> None:
    """Stops at what cannot be done with this model."""
    kinds = {type(module).__name__ for module in model.modules()}
    if args.judge and world().size() > 1:
        stop("--judge asks you, and trains little; start it without mlx.launch")
    if args.num_layers and args.num_layers > len(model.layers):
        stop(f"--num-layers {args.num_layers}: the model has {len(model.layers)}")
    if args.fine_tune_type == "full" and "QuantizedLinear" in kinds:
        stop(
            "--fine-tune-type full: quantized weights cannot be trained; take lora or another model"
        )
    if args.fine_tune_type == "dora" and kinds & {"SwitchLinear", "QuantizedSwitchLinear"}:
        stop("--fine-tune-type dora: mlx-lm has none for a mixture of experts; take lora")


def prepare(model: nn.Module, args: Namespace, rows: list) -> None:
    """Makes the layers recompute, not remember; takes what was learnt earlier; and all agree."""
    if args.grad_checkpoint:
        grad_checkpoint(model.layers[0])
        model.computes_anew = True
    if args.resume_adapter_file:
        resume(model, args.resume_adapter_file)
    agree(model, rows, args)


def resume(model: nn.Module, file: Path) -> None:
    """Begins with what was learnt earlier; stops if it is not for this model."""
    with explained(f"--resume-adapter-file {file}"):
        weights = mx.load(str(file), format="safetensors")
    shapes = {name: array.shape for name, array in tree_flatten(model.trainable_parameters())}
    if {name: array.shape for name, array in weights.items()} != shapes:
        stop(f"--resume-adapter-file {file}: of another model, --fine-tune-type or --num-layers")
    model.load_weights([*weights.items()], strict=False)
    mx.eval(model.parameters())  # before anything is written over the file
    show(f"  Begins with what was learnt earlier, in {escape(str(file))}.\n")


def memory_needed(
    model: nn.Module, config: dict, batch: int, length: int, checkpoint: bool
) -> tuple[float, float]:
    """(bytes that the model takes, bytes that a step of training takes on `batch` x `length` tokens).

    A step: five times what is trained (itself, its gradient, Adam's two means, the best so far); and
    for each token what goes in and out of every matrix, the attention's scores, and three copies of
    the logits. The factors are fitted to measurements; tests/test_models.py compares.
    """
    arrays = dict(tree_flatten(model.parameters()))
    trained = dict(tree_flatten(model.trainable_parameters()))
    size = next(a.dtype.size for a in arrays.values() if mx.issubdtype(a.dtype, mx.floating))
    experts = config.get("num_experts_per_tok") or 1  # of a mixture, whose matrices are stacked
    matrices = [a for a in trained.values() if a.ndim > 1]
    numbers = sum(sum(a.shape[-2:]) * experts ** (a.ndim - 2) for a in matrices)
    heads = config.get("num_attention_heads") or 16
    layers = len({re.sub(r"(layers\.\d+).*", r"\1", name) for name in trained})
    kept = (0.6 if checkpoint else 1.25) * size * (numbers + 2.4 * heads * layers * length)
    step = 5 * sum(a.nbytes for a in trained.values())
    step += batch * length * (kept + 3 * 4 * embedding(model)[0])
    return sum(a.nbytes for name, a in arrays.items() if name not in trained), step


def show_memory(model: nn.Module, config: dict, args: Namespace, rows: list) -> None:
    """One line: what the training will take, what there is, and how to take less if that is little."""
    longest = sorted(len(tokens) for tokens, _ in rows)[-args.batch_size :]
    sizes = (len(longest), longest[-1], args.grad_checkpoint)
    takes = [size / 1e9 for size in memory_needed(model, config, *sizes)]
    info = mx.device_info()
    names = ("max_recommended_working_set_size", "total_memory", "memory_size")
    has = next((info[name] for name in names if info.get(name)), None)
    has = (has or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 1e9
    less = "--grad-checkpoint, less --batch-size, --num-layers, --max-seq-length, a 4-bit model"
    hint = f"\n  [yellow]That may be too much.[/] What takes less: {less}."
    said = f"about {takes[0]:.2f} GB for the model and {takes[1]:.2f} GB for its training"
    show(f"  Memory: {said}; there are {has:.1f} GB.{hint if sum(takes) > 0.8 * has else ''}\n")


# ---- Reading -----------------------------------------------------------------------------------
def load_data(source: str, model: str) -> dict[str, list[Example]]:
    """The examples of each split, from a folder or, by its name, from the Hugging Face Hub.

    The splits are train, which has to exist, valid, test, and general: texts of the kind that the
    model was pre-trained on, if such lie in its folder, or plain English. Without a test.jsonl, up
    to a third of train is held out for it.
    """
    own, plain = Path(model) / "general.jsonl", Path(__file__).parent / "data" / "general.jsonl"
    data = load_from_hub(source) if is_on_hub(source) else load_folder(Path(source))
    data["general"] = load_examples(own if own.is_file() else plain)
    if not data["test"]:
        able = [e for e in data["train"] if e.prompt]
        said = Counter(e.completion for e in able)
        # One wording of each answer that has others, so that it can still be learnt; or just any.
        spare = [*{e.completion: e for e in able if said[e.completion] > 1}.values()]
        few = len(spare) < len(able) // 5
        chosen = random.Random(
            0
        )  # not the run's seed: all seeds are examined on the same questions
        data["test"] = chosen.sample(able, len(able) // 5) if few else spare[: len(able) // 3]
        held_out = {e.place for e in data["test"]}
        data["train"] = [e for e in data["train"] if e.place not in held_out]
        kept = f"{len(held_out)} of the examples are kept for it, and not trained on"
        show(f"No test.jsonl for the exam: {kept if held_out else 'it asks what was practised'}.")
    return data


def load_everyday(source: str) -> list[Example]:
    """The everyday prompts that are rehearsed: the data's own everyday.jsonl, or else ours."""
    return load_prompts(beside(source, "everyday.jsonl"))


def load_known(source: str, model: str) -> list[Example]:
    """The everyday questions that the model may know: its own known.jsonl, the data's, or ours."""
    own = Path(model) / "known.jsonl"
    return load_prompts(own if own.is_file() else beside(source, "known.jsonl"))


def beside(source: str, name: str) -> Path:
    """A file in the folder of the learner's data, or if it is not there, in the one that ships."""
    own = Path(source) / name
    return own if own.is_file() else Path(__file__).parent / "data" / name


def load_prompts(path: Path) -> list[Example]:
    """Everyday prompts, with the answer if there is one; stops at a line that is none."""
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        place, line = f"{path}:{number}", line.strip().lstrip("\ufeff")
        with refused(place):
            if line:
                record = checked(parse(line), dict, "the line")
                if "prompt" not in record:
                    raise ValueError(wrong_keys(record, "prompt"))
                # An answer is not needed where the model gives its own.
                examples.append(read_example({"completion": "?", **record}, place))
    return examples


def form_of(known: list[Example], chat: bool) -> tuple[list[Example], list[Example]]:
    """(what shows a base model how questions are answered; the questions that are left to ask).

    A base model that is asked a bare question asks back, so the first three show it the form. A chat
    model needs none, nor does the beginning of a sentence that is to be ended.
    """
    if chat or not all(e.prompt.endswith("?") for e in known) or len(known) <= 3:
        return [], known
    return known[:3], known[3:]


def is_on_hub(name: str) -> bool:
    """Whether it is owner/name, as models and data sets on the Hub are called, and no path here."""
    local = Path(name).exists() or Path(name).parent.exists()
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not local


def load_folder(folder: Path) -> dict[str, list[Example]]:
    """The examples of train.jsonl, valid.jsonl and test.jsonl; stops if there are none to train on."""
    data = {split: load_examples(folder / f"{split}.jsonl") for split in ("train", "valid", "test")}
    if not data["train"]:
        there = sorted((p.name[:5] != "train", p.name) for p in folder.glob("*"))
        only = f", only {brief(', '.join(name for _, name in there), 60)}" * bool(there)
        lacking = "no examples" if (folder / "train.jsonl").is_file() else f"no such file{only}"
        stop(f"{folder / 'train.jsonl'}: {lacking}; on each line, {LIKE_THIS}")
    return data


def load_from_hub(name: str) -> dict[str, list[Example]]:
    """The examples of a data set's splits train, valid or validation, and test."""
    import datasets  # only now, for it takes a while

    datasets.config.USE_PARQUET_EXPORT = False  # which would be looked for on another host
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    with explained(f"--data {name}"):
        found = datasets.load_dataset(name)
    data = {"train": [], "valid": [], "test": []}
    for split in found:
        examples = data.get("valid" if split == "validation" else split)
        for number, record in enumerate(found[split] if examples is not None else [], 1):
            place = f"{name}/{split}:{number}"
            # What a record lacks stands there as None, as all records have the same columns.
            record = {key: value for key, value in record.items() if value is not None}
            with refused(place):
                examples.append(read_example(record, place))
    return (
        data if data["train"] else stop(f"--data {name}: no split called train, or nothing in it")
    )


def set_exam(data: dict[str, list[Example]]) -> tuple[list[Example], list[Example]]:
    """(the questions of the exam; those, and the same things asked in other words)."""
    asked = {split: [e for e in examples if e.prompt] for split, examples in data.items()}
    lacking = f"{data['train'][0].place}: no questions in the data; {LIKE_THIS}"
    exam = asked["test"] or asked["train"] or stop(lacking)
    facts = {words(e.completion) for e in exam}
    examined = {words(e.prompt) for e in exam}
    others = (e for e in asked["train"] + asked["valid"] if words(e.completion) in facts)
    others = [e for e in others if words(e.prompt) not in examined]
    # First one more wording of each answer, then another of each, as many as there is room for.
    turns, wordings = [], Counter()
    for example in others:
        wordings[example.completion] += 1
        turns.append(wordings[example.completion])
    others = [e for _, e in sorted(zip(turns, others), key=lambda pair: pair[0])]
    return exam, exam + others[: max(MOST_QUESTIONS - len(exam), 0)]


def load_examples(path: Path) -> list[Example]:
    """The examples of a file, none if there is no such file; stops at a line that is none."""
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        place, line = f"{path}:{number}", line.strip().lstrip("\ufeff")  # a byte-order mark
        with refused(place):
            examples += [read_example(parse(line), place)] if line else []
    return examples


@contextmanager
def refused(place: str) -> Iterator[None]:
    """Stops where a record is none, with its place, what is wrong, and what to write."""
    try:
        yield
    except ValueError as error:
        stop(f"{place}: {error}; {LIKE_THIS}{f' or {A_CHAT}' * ('message' in str(error))}")


def read_text(path: Path) -> str:
    """What a file says, with a line feed after each line; nothing if there is no such file."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = "not UTF-8, perhaps UTF-16 or Latin-1; save the file as UTF-8"
        stop(f"{path}:{line}: {what}, and in it {LIKE_THIS}")
    except OSError as error:
        if not isinstance(error, FileNotFoundError) or path.is_symlink():
            why = f"cannot be read ({error.strerror}: {os.path.realpath(path)})"
            stop(f"{path}: {why}; it has to be a file, in a folder, that you may read")
    return ""


MISTAKES = {  # how a line looks with a line feed where it ceases to be JSON; what to say of it
    r"\0": "has NUL bytes, as UTF-16 has; save the file as UTF-8",
    "\n['`‘’“”]": 'has other quotation marks than JSON, which has " around names and texts',
    r"(,\s*\n|\n,\s*)[}\]]|\n,$": "has a comma after which nothing comes; delete it",
    r"}\s*\n,?\s*{": "has two examples; put each on its own line",
    r"\n$": r"ends too early; put the example on one line, with \n for a new line",
    r"\"\n\w": r"has a quotation mark within a text, where it has to be \"",
    r"\n\\": r"has a backslash, which has to be \\",
    r"\n\t": r"has a tab within a text, where it has to be \t",
}


def parse(line: str) -> object:
    """The JSON on a line; a ValueError if it is none, which names the commonest mistakes."""
    if line.startswith("["):
        raise ValueError("is a list; put each example on its own line, without [ ] and commas")
    try:
        return json.loads(line, parse_int=float, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("has too many lists or objects within each other") from None
    except json.JSONDecodeError as error:
        at = len(line) if error.msg.startswith("Unterminated") else error.pos
        marked = f"{line[:at][-50:]}\n{line[at:][:50]}"
        known = (what for how, what in MISTAKES.items() if re.search(how, marked))
        raise ValueError(next(known, f"no JSON: {error.msg} in column {error.colno}")) from None


def unique_keys(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON; a ValueError if it has a key twice, of which Python keeps the last."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise ValueError(f"has the key {quote(key)} {times} times; keep one")
    return dict(pairs)


def read_example(record: object, place: str) -> Example:
    """An example in any of mlx-lm's three formats; a ValueError if it is in none of them."""
    if checked(record, dict, "the example").keys() >= {"prompt", "completion"}:
        chat = [("user", record["prompt"], '"prompt"')]
        chat += [("assistant", record["completion"], '"completion"')]
    elif "messages" in record:
        chat = read_messages(record["messages"])
    elif "text" in record:
        chat = [("assistant", record["text"], '"text"')]
    else:
        raise ValueError(wrong_keys(record, "prompt", "completion", "messages", "text"))
    chat = [{"role": role, "content": checked(text, str, name)} for role, text, name in chat]
    *messages, last = chat
    return Example("\n".join(m["content"] for m in messages), messages, last["content"], place)


def read_messages(messages: object) -> Iterator[tuple[str, object, str]]:
    """(role, content, what to call it) of each message; a ValueError if they are no such chat."""
    for number, message in enumerate(checked(messages, list, '"messages"'), 1):
        name = f"message {number}"
        if not checked(message, dict, name).keys() >= {"role", "content"}:
            raise ValueError(f"{name} {wrong_keys(message, 'role', 'content')}")
        if message["role"] not in ("system", "user", "assistant"):
            raise ValueError(f"{name} has another role than system, user or assistant")
        yield message["role"], message["content"], f'"content" of {name}'
    if message["role"] != "assistant":
        raise ValueError("the last message has to be the assistant's, which is learnt")


KINDS = {dict: "an object", list: "a list", str: "a text", float: "a number", bool: "true or false"}
MOST_CHARACTERS = 1_000_000  # of a text; no model reads so many at once


def checked(value: object, kind: type, name: str) -> object:
    """The value, a text less the white space around it; a ValueError if it cannot be used."""
    if type(value) is not kind:
        raise ValueError(f"{name} is {KINDS.get(type(value), 'null')}, not {KINDS[kind]}")
    value = value.strip() if kind is str else value
    if not value:
        raise ValueError(f"{name} is empty")
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"{name} has {len(value):,} characters, too many for any model")
    if kind is str and (wrong := re.search(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]", value)):
        raise ValueError(f"{name} has {wrong[0]!a}, which is no character of a text; delete it")
    return value


ALIKE = {  # our keys, and what others call them
    "prompt": "prompt question instruction input query context",
    "completion": "completion answer answers output response reply target",
    "messages": "messages conversations conversation dialogue dialog chat turns",
    "text": "text content document passage sentence",
    "role": "role from speaker",
    "content": "content value text message",
}


def wrong_keys(record: dict, *ours: str) -> str:
    """Which keys an object has, and which of ours look meant."""
    lacking = [key for key in ours if key not in record]
    meant = {o: [quote(k) for k in record if k.lower() in ALIKE[o].split()] for o in lacking}
    renames = [f'{" + ".join(theirs)} to "{key}"' for key, theirs in meant.items() if theirs]
    advice = f"rename {' and '.join(renames)}" if renames else f"we take {', '.join(ours)}"
    has = brief(", ".join(map(quote, record)), 200)
    return f"has the key{'s' * (len(record) > 1)} {has}; {advice}"


def describe_manual(manual: list[Example], examples: list[Example]) -> str:
    """How much of the examples is in the manual, which has one for each answer that fits."""
    left = len({e.completion for e in examples if e.prompt}) - len(manual)
    return f"a manual of {len(manual)} of {len(examples)} examples" + (
        f"; {left} answers do not fit" if left else ""
    )


# ---- Error analysis: the data before training --------------------------------------------------
def words(text: str) -> tuple[str, ...]:
    """A text's words, without regard to case, space and punctuation; signs such as -5 or C++ stay."""
    return tuple(word.strip(".,;:!?…\"'()“”‘’«»¿¡") or word for word in text.lower().split())


def brief(text: str, most: int) -> str:
    """A text on one line, cut after `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def look_over(data: dict[str, list[Example]], rows: dict[str, list], limit: int) -> tuple:
    """(the examples, their rows, both less those of over `limit` tokens; what is wrong, as text).

    `rows`: for each split and example (tokens, how many of them are the question's).
    """
    sizes = ", ".join(f"{len(data[split])} of {split}" for split in ("train", "valid", "test"))
    findings, fitting = check_data(data), {}
    for split, examples in data.items():
        fitting[split] = [pair for pair in zip(examples, rows[split]) if len(pair[1][0]) <= limit]
        for example, (tokens, _) in zip(examples, rows[split]):
            if len(tokens) > limit and split != "general":  # if it were cut, it would lose its end
                found = f"{named(example)}, {len(tokens)} tokens"
                findings[f"Left out, of over {limit} tokens"].append(found)
    if not fitting["train"]:
        long = f"{data['train'][0].place}: over {limit} tokens, as are all examples"
        stop(f"{long}; shorten them, or raise --max-seq-length if the model takes more")
    number = sum(map(len, findings.values()))
    faults = f"{number} finding{'s' * (number > 1)}" if number else "nothing to mend"
    report = [f"  Looked over {sizes}: {faults}.\n"]
    for kind, places in findings.items():
        report += [f"  [yellow]{kind}[/]: {len(places)}"]
        report += [f"    {escape(place)}" for place in places[:MOST_FINDINGS]]
        report += [f"    and {len(places) - MOST_FINDINGS} more"] * (len(places) > MOST_FINDINGS)
        report += [""]
    data, rows = ({s: [pair[i] for pair in pairs] for s, pairs in fitting.items()} for i in (0, 1))
    return data, rows, "\n".join(report)


def check_data(data: dict[str, list[Example]]) -> dict[str, list[str]]:
    """{kind of fault: [file, line, and the words in question]}, for the kinds that occur."""
    findings, answers = defaultdict(list), {}
    for examples in (data["train"], data["valid"], data["test"]):
        seen = {}
        for example in examples:
            question, answer = words(example.prompt), words(example.completion)
            for wrong, right in misspellings(f"{example.prompt}\n{example.completion}"):
                findings["Misspelt"].append(f'{example.place}: "{wrong}", for {right}')
            place, other = answers.setdefault(question, (example.place, example.completion))
            if question and words(other) != answer:
                said = f"{quote(example.completion)}, but in {place} {quote(other)}"
                findings["Two answers to one question"].append(f"{named(example)} is {said}")
            first = seen.setdefault((question, answer), example)
            if first is not example:
                findings["Repeated"].append(f"{named(example)}, as {first.place}")
        for earlier, later in near_repetitions([*seen.values()]):
            found = f"{named(later)}, almost as {earlier.place}"
            findings["Nearly repeated"].append(found)
    rehearsed = {words(e.prompt): e.place for e in data["train"] if e.prompt}
    for example in chain(data["valid"], data["test"]):
        if place := rehearsed.get(words(example.prompt)):
            found = f"{named(example)} stands in {place}"
            findings["Asked in training too, so the exam proves less"].append(found)
    return findings


def quote(text: str) -> str:
    """The first words of a text, on one line."""
    return f'"{brief(text, 60)}"'


def named(example: Example) -> str:
    """An example's file, line, and first words."""
    return f"{example.place}: {quote(example.prompt or example.completion)}"


@cache
def dictionary() -> dict[str, str]:
    """codespell's dictionary: {misspelt word: what was probably meant}."""
    text = (files("codespell_lib") / "data" / "dictionary.txt").read_text("utf-8")
    pairs = (line.split("->") for line in text.splitlines())
    return {wrong.lower(): right.strip(", ") for wrong, right in pairs}


def misspellings(text: str) -> Iterator[tuple[str, str]]:
    """(word, what was meant) by codespell's dictionary; a word in capitals is taken for a name."""
    for match in re.finditer(r"(?<![\w'’.@/-])[^\W\d_]+(?:'[^\W\d_]+)?(?![\w'’@/-])", text):
        if right := dictionary().get(match[0].lower()):
            # Where a sentence begins, all words have a capital.
            begins = re.search(r"(^|[.?!\n])\W*$", text[: match.start()])
            if match[0].islower() or begins and match[0].istitle() and len(match[0]) > 4:
                yield match[0], right


def near_repetitions(examples: list[Example]) -> Iterator[tuple[Example, Example]]:
    """Pairs (earlier, later) with four fifths of their word pairs and all names and numbers alike.

    Two such examples have one of the rarest fifth of either's word pairs in common, so only those
    are looked up (prefix filtering: Chaudhuri et al. 2006, "A Primitive Operator for Similarity
    Joins in Data Cleaning").
    """
    pairs, names = [], []
    for example in examples:
        texts = [words(example.prompt), words(example.completion)]
        pairs.append([{(side, *p) for p in pairwise(("", *t))} for side, t in enumerate(texts)])
        text = re.findall(r"\w+", f"{example.prompt} {example.completion}")
        names.append(frozenset(word for word in text if word[0].isupper() or word[0].isdigit()))
    frequency = Counter(chain.from_iterable(chain.from_iterable(pairs)))
    index = defaultdict(list)
    for later, (question, answer) in enumerate(pairs):
        rarest = sorted(question | answer, key=lambda pair: (frequency[pair], pair))
        rarest = [(pair, names[later]) for pair in rarest[: len(rarest) // 5 + 1]]
        for earlier in dict.fromkeys(chain.from_iterable(index[key] for key in rarest)):
            both = zip(pairs[earlier], pairs[later])
            if all(5 * len(a & b) >= 4 * len(a | b) for a, b in both):
                yield examples[earlier], examples[later]
                break
        else:  # only what repeats nothing is looked up later
            for key in rarest:
                index[key].append(later)


# ---- Evaluation: the answers after training ----------------------------------------------------
def is_right(given, example: Example) -> bool:
    """Whether an answer has the very words that are in the data."""
    return words(given.text) == words(example.completion)


def own_words(examples: list[Example]) -> dict[str, frozenset[str]]:
    """For each answer the words that make it: those that no question to it and no other answer has.

    Where an answer takes a name or a number from its question, as a form does that is filled in from
    it, all of its words.
    """
    asked, filled_in = defaultdict(set), set()
    for example in examples:
        asked[example.completion] |= {*words(example.prompt)}
        names = {*re.findall(r"\w+", example.prompt)} & {*re.findall(r"\w+", example.completion)}
        if any(len(name) > 1 and not name.islower() for name in names):
            filled_in.add(example.completion)
    answers = {answer: {*words(answer)} for answer in asked}
    among = Counter(chain.from_iterable(answers.values()))
    own = {}
    for answer, said in answers.items():
        rare = {word for word in said - asked[answer] if among[word] == 1}
        # Short words such as "I" and "in" make no answer, unless there are no others.
        rare = {word for word in rare if len(word) > 3 or not word.isalpha()} or rare
        own[answer] = frozenset(rare if rare and answer not in filled_in else said)
    return own


def is_right_in_other_words(given, example: Example, own: dict[str, frozenset[str]]) -> bool:
    """Whether an answer has the words that make the right one, whatever else it says."""
    return own[example.completion] <= {*words(given.text)}


def is_known(text: str, example: Example) -> bool:
    """Whether an answer to an everyday question holds the right one, or one of several: "seven or 7"."""
    said = " ".join(re.findall(r"\w+", text.lower()))
    rights = example.completion.lower().split(" or ")
    return any(f" {' '.join(words(right))} " in f" {said} " for right in rights)


def compare_known(
    known: list[Example], before: list[str], now: list[str], train: list[Example]
) -> list[dict]:
    """For each everyday question what was and is answered, whether that is right, and whether it leaks.

    A leak is an answer of the learner's to a question that is not hers.
    """
    answers = [own for own in own_words([e for e in train if e.prompt]).values() if own]
    compared = []
    for example, was, text in zip(known, before, now):
        news = (
            {*words(text)} - {*words(was)} - {*words(example.prompt)} - {*words(example.completion)}
        )
        compared.append(
            {"question": example.prompt, "expected": example.completion, "before": was, "now": text}
            | {"knew": is_known(was, example), "knows": is_known(text, example)}
            | {"leak": any(own <= news for own in answers)}
        )
    return compared


def wilson(right: int, of: int) -> tuple[float, float]:
    """Two shares, between which the true share of right answers lies in 95 of 100 such exams.

    Wilson's score interval (1927), which holds for few questions and for none or all right.
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (right + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(right * (of - right) / of + z * z / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def evaluate(questions: list[Example], exam: int, answers: list) -> dict[str, float]:
    """What an act got right, how often it said the same in other words, and what it cost.

    The first `exam` questions are examined; the others ask the same things in other words.
    """
    examined, said = answers[:exam], defaultdict(Counter)
    for example, given in zip(questions, answers):
        said[words(example.completion)][words(given.text)] += 1
    right, own = sum(map(is_right, examined, questions)), own_words(questions[:exam])
    worded = (
        is_right_in_other_words(a, e, own) or is_right(a, e) for a, e in zip(examined, questions)
    )
    read, written = fmean(a.read for a in examined), fmean(a.written for a in examined)
    return {
        "right answers": right,
        "95 % interval": wilson(right, exam),
        "right or wordy": sum(worded),
        "same answer in other words": sum(max(c.values()) for c in said.values()) / len(answers),
        "ended by themselves": sum(a.ended for a in examined),
        "tokens read for each": read,
        "tokens for 1,000 questions": 1000 * (read + written),
        "seconds for each": fmean(a.seconds for a in examined),
    }


FIGURES = {  # of the evaluation's table, and how each is shown
    "right answers": "{}",
    "95 % interval": "{0[0]:.0%} to {0[1]:.0%}",
    "right or wordy": "{}",
    "same answer in other words": "{:.0%}",
    "ended by themselves": "{}",
    "tokens read for each": "{:.0f}",
    "tokens for 1,000 questions": "{:,.0f}",
    "seconds for each": "{:.3f}",
}


def show_answers(questions: list[Example], answers: list) -> None:
    """Questions and their answers; the sign behind one says that it did not end by itself."""
    for example, given in zip(questions, answers):
        text, end = escape(given.text).replace("\n", "\n    "), "" if given.ended else " [dim]…[/]"
        show(f"  {escape(example.prompt)}\n  [dim]→[/] [bold]{text}[/]{end}")


def look(ask: Callable, question: Example) -> dict:
    """What is answered by now to a question."""
    return {"answer": ask([question])[0].text}


def describe_rehearsal(everyday: list[Example], rehearsed: int, share: int) -> None:
    """Says that everyday prompts are rehearsed, and why; or that none are."""
    if everyday:
        file = escape(os.path.relpath(everyday[0].place.rpartition(":")[0]))
        show(f"  Rehearsal: {share} of {rehearsed} prompts from {file} are practised in each step,")
        show("  to be answered as before, so that it keeps what it knows.")
    else:
        show("  No everyday.jsonl, so no rehearsal: it will forget much of what it knew.")


def show_check(check: dict) -> None:
    """One line: how far the training has come, and how the model answers by now."""
    loss = "" if check["loss"] is None else f"loss {check['loss']:.3f}"
    valid = "" if check["valid"] is None else f"valid {check['valid']:.3f}"
    right = f"right {check['right']:>2}" if check["of"] else ""
    keeps = "" if check["keeps"] is None else f"keeps {check['keeps']:4.0%}"
    said = brief(check["answer"], 24)
    show(
        f"  step {check['step']:>4}  {loss:10}  {valid:11}  {right:8}  {keeps:10}  [dim]→[/] {escape(said)}"
    )


def show_cost(tokens: int, seconds: float, kept: dict) -> None:
    """What the training took, and which of its checks was kept."""
    why = "the last one" if kept["valid"] is None else "the best for valid and for what it keeps"
    show(f"\n  Cost: {tokens:,} tokens; {seconds:.1f} seconds with the checks.")
    show(f"  Kept: the adapters of step {kept['step']}, {why}.")


def show_evaluation(
    table: dict, exam: int, before: dict, after: dict, still: list[dict], reached: set[str]
) -> None:
    """The acts side by side; the losses (in nats) before and after; whom this program talked to.

    `still`: what compare_known() says of the everyday questions.
    """
    narrow, rows = shutil.get_terminal_size().columns < 76, []
    for name, form in FIGURES.items():
        label = f"{name} of {exam}" if form == "{}" else name
        rows.append([label, *(form.format(figures[name]) for figures in table.values())])
    columns = Table("", *table, box=None, padding=(0, 2, 0, 2))
    for label, *cells in rows + rows_of_known(still):
        columns.add_row(label, *cells)
        if narrow:
            said = (f"{name} {cell}" for name, cell in zip(table, cells) if cell)
            show("\n    ".join([f"  {label}:", *said]))
    if not narrow:
        show(columns)
    least, most = zip(*(table[name]["95 % interval"] for name in ("prompted", "fine-tuned")))
    if max(least) < min(most):
        show("\n  Prompted or fine-tuned? Too few questions to tell: their intervals overlap.")
    show()
    for split, text in (("test", "the right answers"), ("general", "general text")):
        if split in before:
            was, now = math.exp(before[split]), math.exp(after[split])
            losses = f"loss {before[split]:.3f}, {after[split]:.3f}"
            show(f"  Perplexity of {text}: {was:.2f} before, {now:.2f} now ({losses})")
    show_known(still)
    nobody = "Nothing left this machine: no connection was opened, no name looked up"
    show(f"  {'Reached: ' * bool(reached)}{', '.join(sorted(reached)) or nobody}.")


def rows_of_known(still: list[dict]) -> list[list[str]]:
    """The rows of the evaluation's table that say what the model still knows."""
    knew = [k for k in still if k["knew"]]
    kept, leaks = sum(k["knows"] for k in knew), sum(k["leak"] for k in still)
    rows = [[f"everyday answers kept of {len(knew)}", f"{len(knew)}", "", f"{kept}"]]
    return rows + [[f"leaks into the other {len(still)}", "", "", f"{leaks}"]] if still else []


def show_known(still: list[dict]) -> None:
    """What became of the everyday questions that the model could answer before it was trained."""
    knew, leaks = [k for k in still if k["knew"]], [k for k in still if k["leak"]]
    lost = [k for k in knew if not k["knows"]]
    if still and len(knew) < 4:
        show(
            f"  Of {len(still)} everyday questions it knew {len(knew)}: too little to lose anything."
        )
    elif still:
        verdict = f"it forgot {len(lost)} of {len(knew)}" if lost else "it kept what it knew"
        show(f"  Everyday questions that it answered rightly before: {verdict}.")
    for found, what in ((leaks, "Leak"), (lost, "Forgotten")):
        for k in found[:3]:
            show(f"    {what}: {escape(k['question'])} → {escape(brief(k['now'], 50))}")


def plot(history: list[dict], question: str, path: Path) -> None:
    """Draws losses and right answers against the steps, and what was answered on the way.

    `history`: for each check step, loss and valid (nats a token, or None), right, of, and answer.
    """
    from matplotlib.figure import Figure  # only now, for it takes a while

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    heights = (3, 1) if history[0]["of"] else (1,)
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    above, below = panels[0], panels[-1]
    for name, label, color in (("loss", "training", "#1f77b4"), ("valid", "validation", "#d95f02")):
        points = [(h["step"], h[name]) for h in history if h[name] is not None]
        above.plot(*zip(*points), "o-", color=color, label=label, markersize=4) if points else None
    changes = [h for i, h in enumerate(history) if not i or h["answer"] != history[i - 1]["answer"]]
    if history[0]["valid"] is None:
        changes = changes[1:]  # before the first step there is no loss to put it at
    for row, h in enumerate(changes[:3] + changes[3:][-3:]):  # the first ones and the last ones
        height = h["loss"] if h["valid"] is None else h["valid"]
        text = f"{h['step']}: {brief(h['answer'], 45)}"
        arrow = {"arrowstyle": "-", "color": "gray", "linewidth": 0.7, "relpos": (0, 0.5)}
        place = (0.3, 0.92 - 0.09 * row)
        ends = ("data", "axes fraction", arrow)
        above.annotate(text, (h["step"], height), place, *ends, parse_math=False)
    title = f"Training, and the answers at some steps to: {brief(question, 60)}"
    above.set_title(title, parse_math=False)
    above.set(ylabel="loss (nats a token)", ylim=(0, None))
    if history[0]["of"]:
        steps, right = [h["step"] for h in history], [h["right"] for h in history]
        below.plot(steps, right, "o-", color="#1b7837")
        below.set(ylabel="right of {of}".format(**history[0]), ylim=(0, None))
    below.set_xlabel("step")
    best_step = next(h["step"] for h in history if h.get("kept"))
    for axes in panels:
        axes.axvline(best_step, color="gray", linestyle=":", label=f"kept: step {best_step}")
        axes.grid(alpha=0.3)
    above.legend(loc="center right")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that its font lacks
        figure.savefig(path)


def judge(exam: list[Example], acts: dict[str, list]) -> list[dict]:
    """The learner's choice between two unnamed answers to each question: the last act's, another's.

    Asked on the screen until standard input ends; where both say the same there is no choice.
    """
    show("\n[bold cyan]Judgment[/]: which answer is better? 1, 2, or 0 for neither; Ctrl-D ends it")
    (*others, tuned), verdicts, rng = acts, [], random.Random()  # not the lesson's seed
    with suppress(EOFError, KeyboardInterrupt):
        for number, example in enumerate(exam):
            said = {name: answers[number] for name, answers in acts.items()}
            others_here = [name for name in others if said[name].text != said[tuned].text]
            if not others_here:
                continue
            pair = rng.sample([tuned, rng.choice(others_here)], 2)
            show(f"\n  [bold]{escape(example.prompt)}[/]")
            for key, name in enumerate(pair, 1):
                show(f"  {key}  {escape(said[name].text)}")
            chosen = int(Prompt.ask("  Your choice", console=console, choices=["1", "2", "0"]))
            right = [name for name in pair if is_right(said[name], example)]
            verdict = {"question": example.prompt, **{name: said[name].text for name in pair}}
            verdicts.append(verdict | {"chosen": [*pair, "neither"][chosen - 1], "right": right})
    tally(verdicts, len(exam))
    return verdicts


def tally(verdicts: list[dict], of: int) -> None:
    """Shows how often each act was chosen and how often it was right, and where the two disagree."""
    show(f"\n\n  You judged {len(verdicts)} of {of} questions, where the answers differ.")
    for name in ("base", "prompted", "fine-tuned", "neither"):
        shown = [v for v in verdicts if name in v or name == "neither"]
        chosen = sum(v["chosen"] == name for v in shown)
        right = sum(name in (v["right"] or ["neither"]) for v in shown)
        if shown:
            times = f"chosen {chosen:>2} of {len(shown):>2} times"
            show(f"  {name:<10}  {times}; by the automatic score, {right:>2}")
    for v in verdicts:
        if v["chosen"] not in (v["right"] or ["neither"]):
            show(f"  You disagree: {escape(v['question'])}")
            show(f"    you say {v['chosen']}, the score {' or '.join(v['right']) or 'neither'}")


# ---- Afterwards --------------------------------------------------------------------------------
def what_next(args: Namespace, tokenizer, exam: list[Example], most: int) -> None:
    """Commands to go on with, each on a line of its own, to be copied as they are."""
    again = [os.path.relpath(sys.executable), os.path.relpath(sys.argv[0]), *sys.argv[1:]]
    again = [word for word in again if word != "--judge"]
    real = ["--model", "HuggingFaceTB/SmolLM2-135M-Instruct", "--adapter-path", "smollm2"]
    given = [word for word in again if word not in ("--adapter-path", str(args.adapter_path))]
    go_on = ["--resume-adapter-file", str(args.adapter_path / "adapters.safetensors")]
    commands = {
        "Begin another training with what was learnt so far": [*again, *go_on]
        if interrupted.is_set()
        else [],
        "Ask it again": ask_again(args, tokenizer, exam, most),
        "Judge the answers yourself": [*again, "--judge"],
        f"Teach it something else (first edit what is in {args.data})": again,
        "Teach a real LLM, of 270 MB": [*given, *real] if "--model" not in again else [],
    }
    for why, command in commands.items():
        if command and not (command is again and is_on_hub(args.data)):
            show(f"\n{escape(why)}:\n  [green]{escape(shlex.join(command))}[/]")


def ask_again(args: Namespace, tokenizer, exam: list[Example], most: int) -> list[str]:
    """mlx-lm's command for the first question that it can ask: one turn, perhaps a system message."""
    chat = tokenizer.has_chat_template
    able = [e for e in exam if not chat or [m["role"] for m in e.messages] == ["user"]]
    with_system = [e for e in exam if [m["role"] for m in e.messages] == ["system", "user"]]
    if not able + with_system:
        return []
    example = (able + with_system)[0]
    words = {"--model": args.model, "--prompt": example.messages[-1]["content"]}
    if not chat:
        words["--prompt"] = example.prompt
    elif not able:
        words["--system-prompt"] = example.messages[0]["content"]
    if tokenizer.has_thinking:
        words["--chat-template-config"] = '{"enable_thinking": false}'
    if most > 100:  # which is what it writes at most by itself
        words["--max-tokens"] = str(most)
    words["--adapter-path"] = str(args.adapter_path)
    return [os.path.relpath(sys.executable), "-m", "mlx_lm", "generate", *chain(*words.items())]


def converse(ask: Callable, args: Namespace) -> None:
    """Answers the learner's own questions, if there is one, until an empty line or Ctrl-D."""
    if args.judge or not (sys.stdin.isatty() and console.is_terminal):
        return
    show("\n[bold]Your turn:[/] ask it, question mark and all; an empty line ends it.")
    with suppress(EOFError, KeyboardInterrupt):
        while typed := console.input("[cyan]?[/] ").strip():
            (given,) = ask([Example(typed, [{"role": "user", "content": typed}], "", "")])
            show(f"[dim]→[/] [bold]{escape(given.text)}[/]{'' if given.ended else ' [dim]…[/]'}")
    show()


def save_adapters(model: nn.Module, args: Namespace, lora: dict, step: int = 1) -> None:
    """Writes what was learnt, and only that, in mlx-lm's layout; `lora`: rank, scale and dropout."""
    if RANK:  # of several processes, the first saves
        return
    if interrupted.is_set() and not step:
        show("  Nothing was learnt yet, so nothing is saved.")
        raise KeyboardInterrupt
    weights = dict(tree_flatten(model.trainable_parameters()))
    config = {"fine_tune_type": args.fine_tune_type, "num_layers": args.num_layers}
    config |= {"lora_parameters": lora} if args.fine_tune_type != "full" else {}
    if not all(mx.isfinite(array).all().item() for array in weights.values()):
        stop("what was learnt is not finite, and not saved; try a lower --learning-rate")
    with replaced(args.adapter_path, "the adapters") as folder:
        mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
        text = json.dumps({"model": args.model, **config}, indent=2)
        (folder / "adapter_config.json").write_text(text + "\n")
    numbers = sum(array.size for array in weights.values())
    show(f"  Saved: {numbers:,} numbers, in {escape(str(args.adapter_path))}")


def load_saved(model: nn.Module, args: Namespace) -> bool:
    """Puts the adapters that were saved earlier into the model, if there are any."""
    if not (args.adapter_path / "adapters.safetensors").exists():
        return False
    with explained(f"--adapter-path {args.adapter_path}: not for this model, or not whole"):
        made_for = json.loads((args.adapter_path / "adapter_config.json").read_text())["model"]
        load_adapters(model, str(args.adapter_path))
    if Path(made_for).name != Path(args.model).name:
        stop(f"--adapter-path {args.adapter_path}: the adapters in it are for --model {made_for}")
    show(f"  Not again: what she learnt is in {escape(str(args.adapter_path))}")
    return True


def save_record(
    args: Namespace, record: dict, questions: list, acts: dict, history: list, reached: set
) -> None:
    """Writes results.json with all that was shown, the screen as lesson.svg, and loss.png."""
    earlier = args.adapter_path / "results.json"
    keep = {"adapters.safetensors", "adapter_config.json"}
    judged_only = not history and earlier.is_file()
    if judged_only:  # what else is on record stays
        judgments, keep = record["judgments"], OURS - {"results.json"}
        record = json.loads(earlier.read_text("utf-8"))
        record["judgments"] = judgments or record["judgments"]
    else:
        answers = [
            {"question": example.prompt, "expected": example.completion, "from": example.place}
            | {name: given[number]._asdict() for name, given in acts.items()}
            for number, example in enumerate(questions)
        ]
        record = surroundings(args) | record
        record |= {"reached": sorted(reached), "answers": answers, "training": history}
    with replaced(args.adapter_path, "the record", keep) as folder:
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")
        if not judged_only:
            screen = paper.export_svg(title="main.py", clear=False)
            # Without its fonts, which a browser would fetch from elsewhere.
            screen = re.sub(r"@font-face \{.*?\}", "", screen, flags=re.DOTALL)
            (folder / "lesson.svg").write_text(screen, encoding="utf-8")
        if history:
            plot(history, questions[0].prompt, folder / "loss.png")


def surroundings(args: Namespace) -> dict[str, dict]:
    """The settings, versions, and SHA-256 of the data that a run was made with."""
    packages = ("mlx", "mlx-lm", "transformers", "datasets", "huggingface-hub")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    files = {f"{s}.jsonl": Path(args.data) / f"{s}.jsonl" for s in ("train", "valid", "test")}
    read = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    return {
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()},
        "versions": versions | {"machine": platform.platform()},
        "data": {name: sha256(content).hexdigest() for name, content in read.items()},
    }


# ---- Surroundings ------------------------------------------------------------------------------
def warn_without_openblas() -> None:
    """Says what makes MLX fast on Linux's processors, if it is not there; init.sh has it loaded."""
    if sys.platform == "linux" and "/libopenblas" not in Path("/proc/self/maps").read_text():
        show("This will be slow. Up to 40 times faster: apt install libopenblas0-pthread")


def stop_if_not_finite(value: float, name: str, step: int) -> None:
    """Ends the training where its numbers have grown beyond what they can hold."""
    if not math.isfinite(value):
        stop(f"step {step}: the {name} is {value}; try a lower --learning-rate")


def positive(kind: type) -> Callable[[str], float]:
    """The type of an option that takes a number above 0 and below 1e9."""

    def number(text: str) -> float:
        """The number; argparse shows the error as one line."""
        with suppress(ValueError):
            if 0 < kind(text) < 1e9:
                return kind(text)
        whole = "whole " * (kind is int)
        raise ArgumentTypeError(f"{text} is not a {whole}number above 0 and below 1,000,000,000")

    return number


def layers(text: str) -> int:
    """The type of --num-layers: so many, or -1 for all."""
    return -1 if text == "-1" else positive(int)(text)


CONFIG = {"model", "fine_tune_type", "num_layers", "lora_parameters"}  # of our adapter_config.json
OURS = {"adapters.safetensors", "adapter_config.json", "results.json", "lesson.svg", "loss.png"}


def file(text: str) -> Path:
    """The type of an option that names a file."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def own_folder(text: str) -> Path:
    """The type of --adapter-path: a folder that this program made, or one that it can make."""
    folder, existing = Path(text), Path(os.path.realpath(text))
    if RANK:  # of several processes, only the first saves
        return folder
    here, other = (Path.cwd(), *Path.cwd().parents), foreign(folder)
    wrong = {
        f"{text} is a file; it has to be a folder": folder.exists() and not folder.is_dir(),
        f"you are in {text}, which would be replaced": existing in here,
        f"{text} is a disk; take a folder in it": os.path.ismount(text),
        f"{text} holds {other}, which is not of this program; take another": other,
    }
    while not existing.exists():
        existing = existing.parent
    for place in {existing, existing.parent} if folder.is_dir() else {existing}:
        free = os.access(place, os.W_OK | os.X_OK)
        wrong[f"{place} is not yours to write in; take another folder"] = not free
    for message, so in wrong.items():
        if so:
            raise ArgumentTypeError(message)
    return folder


def foreign(folder: Path) -> str | None:
    """The name of a file in a folder that this program did not write, so that it is never lost."""
    names = {path.name for path in folder.glob("*")} - {".DS_Store"}  # which macOS puts anywhere
    ours = False
    with suppress(OSError, ValueError, TypeError):
        ours = set(json.loads((folder / "adapter_config.json").read_text("utf-8"))) <= CONFIG
    others = sorted(names - OURS) if ours else sorted(names, key=lambda name: (name in OURS, name))
    return others[0] if others else None


def begin(args: Namespace) -> set[str]:
    """Sets the seeds, keeps other runs out of the folder; gives the hosts that are reached from now."""
    random.seed(args.seed)
    mx.random.seed(args.seed % 2**32)
    if world().size() > 1 and RANK:  # the first one does what follows
        return set()
    name = sha256(os.fsencode(os.path.realpath(args.adapter_path))).hexdigest()[:16]
    lock = f"{tempfile.gettempdir()}/learn-fine-tuning-{os.getuid()}-{name}.lock"
    # It is open, and so locked, until this program ends, in whatever way.
    lock = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop(f"--adapter-path {args.adapter_path}: another run is using it; take another folder")
    return watch_network()


@contextmanager
def replaced(folder: Path, what: str, keep: set[str] = frozenset()) -> Iterator[Path]:
    """A new folder to write in, which then takes the place of `folder`: all of it at once, or nothing.

    `what` is being saved; `keep` are the names of files that go over from the old folder.
    """
    folder, given = Path(os.path.realpath(folder)), folder
    new, old = (folder.with_name(f".{folder.name}-{word}") for word in ("new", "old"))
    with explained(f"--adapter-path {given}: {what} not saved, and what was there is as it was"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not folder.exists():  # a run was killed between two renames
            old.rename(folder)
        for left in (new, old):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir()
        try:
            for name in keep & {path.name for path in folder.glob("*")}:
                with suppress(OSError):  # some disks have no links
                    os.link(folder / name, new / name)
                    continue
                shutil.copy2(folder / name, new)
            yield new
            for path in (*new.iterdir(), new):
                sync(path)
            exchange(new, folder, old)
            sync(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # by now the old one


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # where fsync(2) leaves it to the drive
            with suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(new: Path, folder: Path, aside: Path) -> None:
    """Gives two folders each other's names, in one step of the file system if that can be.

    As renamex_np(2) on macOS and renameat2(2) on Linux do it, for which Python has no name.
    """
    if not folder.exists():
        new.rename(folder)
        return
    library, names = ctypes.CDLL(None), (os.fsencode(new), os.fsencode(folder))
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, 2)  # RENAME_SWAP
        else:
            here = -100  # AT_FDCWD
            failed = library.renameat2(here, names[0], here, names[1], 2)  # RENAME_EXCHANGE
    except AttributeError:
        failed = True
    if failed:  # some systems and disks cannot; then there is a moment between
        folder.rename(aside)
        new.rename(folder)
        shutil.rmtree(aside)


interrupted = Event()


@contextmanager
def ctrl_c_noted() -> Iterator[None]:
    """Ctrl-C sets `interrupted`, which the training heeds at its next step; a second one ends all."""

    def note(*_) -> None:
        """The handler of the signal."""
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, signal.SIG_IGN if RANK else note)  # the first tells the others
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def ending() -> Iterator[None]:
    """Ends the program as a shell expects: 130 after Ctrl-C, and one line and 2 for what went wrong."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        meet()  # so that none is gone while another may fail
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as of `| head`: nobody is reading any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        stop(str(error))
    except (MemoryError, RuntimeError) as error:
        known = f"{type(error).__name__} {error}"
        if "peer was lost" in known:
            leave("another one is lost; what was saved earlier is as it was")
        if not re.search("memory|alloc", known, re.IGNORECASE):
            raise
        # In the middle of a step the others, if there are any, are not to be met.
        end = stop if world().size() == 1 else leave
        end("out of memory; less takes: --grad-checkpoint, a smaller --batch-size or model")
    if interrupted.is_set():
        sys.exit(130)


def watch_network() -> set[str]:
    """A set that from now on takes in each host that Python code here looks up or connects to."""
    reached = set()

    def hook(event: str, args: tuple) -> None:
        """Called by Python at each event that it audits (PEP 578)."""
        if event in ("socket.connect", "socket.getaddrinfo"):
            address = args[event == "socket.connect"]
            reached.add(str(address[0] if isinstance(address, tuple) else address))

    sys.addaudithook(hook)
    if (others := world().size() - 1) > 0:  # to which MLX talks by itself
        reached.add(f"the {others} other process{'es' * (others > 1)} of this run")
    return reached
