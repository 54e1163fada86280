"""What a run leaves on the disk: the adapters, and the record in results.json."""

import json
import os
import platform
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from rich.markup import escape

from lesson.dataset import Example, split_files
from lesson.machine import RANK, errors_in_one_line, interrupted, reached, stop
from lesson.screen import Check, export_svg, plot, show

# Our own files in the folder of --adapter-path; whatever else lies there is the learner's.
ADAPTERS = ("adapters.safetensors", "adapter_config.json")
RECORD = ("results.json", "lesson.svg", "loss.png")
CONFIG_KEYS = {"model", "fine_tune_type", "num_layers", "lora_parameters"}
PACKAGES = ("mlx", "mlx-lm", "transformers", "datasets", "huggingface-hub")


# ---- Files -------------------------------------------------------------------------------------
def adapter_folder(text: str) -> Path:
    """The type of --adapter-path: a folder that one may write in, or that can be made.

    argparse shows the ArgumentTypeError as one line.
    """
    folder, existing = Path(text), Path(os.path.realpath(text))
    if RANK:  # of several processes, only the first saves
        return folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ArgumentTypeError(f"{existing} is a file; it has to be a folder")
    if other := foreign_file(folder):
        raise ArgumentTypeError(
            f"{text} holds {other}, which is not of this program; take another folder"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{existing} is not yours to write in; take another folder")
    return folder


def foreign_file(folder: Path) -> str | None:
    """A file that has one of our names, but is another program's, as mlx_lm.lora's; its name."""
    with suppress(OSError, ValueError, TypeError):
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        if set(config) <= CONFIG_KEYS:
            return None
    return next((name for name in ADAPTERS + RECORD if (folder / name).exists()), None)


def save(folder: Path, what: str, writers: dict[str, Callable[[Path], object]]) -> None:
    """Writes files into a folder: each beside its place, and once all are whole, moved over it.

    `writers`: for each name a function that writes to the path it is given; `what` is being saved.
    """
    not_saved = f"--adapter-path {folder}: {what} not saved, and what was there is as it was"
    folder = Path(os.path.realpath(folder))
    unfinished = {name: folder / f".new-{name}" for name in writers}
    with errors_in_one_line(not_saved):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, write in writers.items():
                write(unfinished[name])
                with unfinished[name].open("rb") as file:
                    os.fsync(file.fileno())  # waits until the disk has it
            for name, path in unfinished.items():
                path.replace(folder / name)
        finally:
            for path in unfinished.values():
                path.unlink(missing_ok=True)


def writer(text: str) -> Callable[[Path], int]:
    """What writes a text to the path that it is given."""
    return lambda path: path.write_text(text, encoding="utf-8")


# ---- Adapters ----------------------------------------------------------------------------------
def save_adapters(
    folder: Path, model: nn.Module, settings: dict, lora: dict, history: list[Check]
) -> None:
    """Writes what was learnt, and only that, in mlx-lm's layout.

    `lora`: rank, scale and dropout; `history`: train()'s checks. Raises KeyboardInterrupt if Ctrl-C
    came before anything was learnt: then nothing is saved.
    """
    if RANK:  # of several processes, the first saves
        return
    if interrupted.is_set() and not any(check["step"] for check in history if check.get("kept")):
        show("  Nothing was learnt yet, so nothing is saved.")
        raise KeyboardInterrupt
    weights = dict(tree_flatten(model.trainable_parameters()))
    if not all(mx.isfinite(array).all().item() for array in weights.values()):
        stop("what was learnt is not finite, and not saved; try a lower --learning-rate")
    config = {key: settings[key] for key in ("model", "fine_tune_type", "num_layers")}
    if settings["fine_tune_type"] != "full":
        config["lora_parameters"] = lora
    writers = {
        "adapters.safetensors": lambda path: mx.save_safetensors(str(path), weights),
        "adapter_config.json": writer(json.dumps(config, indent=2) + "\n"),
    }
    save(folder, "the adapters", writers)
    for name in RECORD:  # an earlier run's, whose adapters are gone
        (folder / name).unlink(missing_ok=True)
    numbers = sum(array.size for array in weights.values())
    show(f"  Saved: {numbers:,} numbers, in {escape(str(folder))}")


def load_adapter_file(model: nn.Module, file: Path) -> None:
    """Begins with what was learnt earlier; stops if it is not for this model."""
    with errors_in_one_line(f"--resume-adapter-file {file}"):
        weights: Any = mx.load(str(file), format="safetensors")  # {name: array}
    wanted = dict(tree_flatten(model.trainable_parameters()))
    shapes = {name: array.shape for name, array in wanted.items()}
    if {name: array.shape for name, array in weights.items()} != shapes:
        stop(f"--resume-adapter-file {file}: of another model, --fine-tune-type or --num-layers")
    model.load_weights([*weights.items()], strict=False)
    mx.eval(model.parameters())  # before anything is written over the file
    show(f"  Begins with what was learnt earlier, in {escape(str(file))}.\n")


# ---- The record of a run -----------------------------------------------------------------------
def save_record(
    folder: Path,
    settings: dict,
    record: dict,
    questions: list[Example],
    acts: dict[str, list],
) -> None:
    """Writes results.json with all that was shown, the screen as lesson.svg, and loss.png."""
    answers = [
        {"question": example.prompt, "expected": example.completion, "from": example.place}
        | {name: given[number]._asdict() for name, given in acts.items()}
        for number, example in enumerate(questions)
    ]
    record = surroundings(settings) | record | {"judgments": []}
    record |= {"reached": sorted(reached), "answers": answers}
    writers: dict[str, Callable[[Path], object]] = {
        "results.json": write_json(record),
        "lesson.svg": writer(export_svg()),
        "loss.png": partial(plot, record["training"], questions[0].prompt),
    }
    save(folder, "the record", writers)


def write_json(record: dict) -> Callable[[Path], int]:
    """What writes results.json to the path that it is given."""
    return writer(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def surroundings(settings: dict) -> dict[str, dict]:
    """The settings, versions, and SHA-256 of the data that a run was made with."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    files = split_files(Path(settings["data"])).values()
    read = {path.name: path.read_bytes() for path in files if path.is_file()}
    return {
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in settings.items()},
        "versions": versions | {"machine": platform.platform()},
        "data": {name: sha256(content).hexdigest() for name, content in read.items()},
    }
