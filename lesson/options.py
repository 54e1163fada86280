"""The command line: its options, and what their words have to be."""

import os
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lesson import machine, saving

ROOT = Path(__file__).resolve().parents[1]

Number = TypeVar("Number", int, float)


def positive(kind: type[Number]) -> Callable[[str], Number]:
    """The type of an option that takes a number above 0 and below 1e9."""

    def number(text: str) -> Number:
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


def name(text: str) -> str:
    """The type of --model and --data: where that is a page of the Hub, the owner/name in it."""
    hub = r"https?://(?:huggingface\.co|hf\.co)/(?:datasets/)?"
    page = hub + r"((?!datasets/|spaces/|papers/|docs/)[\w.-]+/[\w.-]+)(?:[/?#].*)?"
    found = re.fullmatch(page, text)
    return found[1] if found else text


def existing_file(text: str) -> Path:
    """The type of an option that names a file."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def parse(words: Sequence[str] | None = None) -> Namespace:
    """The options that the words give, by default those of the command line.

    Ends the program with one line if one of them is wrong.
    """
    parser = ArgumentParser(allow_abbrev=False)
    option, here = parser.add_argument, os.path.relpath
    base_model, data = here(ROOT / "assets/base-model"), here(ROOT / "data")
    option("--model", type=name, default=base_model, help="folder, or name on the Hub")
    option("--data", type=name, default=data, help="folder, or name of a data set on the Hub")
    adapters = here(ROOT / "adapters")
    option("--adapter-path", type=saving.adapter_folder, default=adapters, help="to save in")
    option("--batch-size", type=positive(int), default=4, help="examples in a step")
    option("--iters", type=positive(int), help="steps; by default as the size of the data asks")
    option("--learning-rate", type=positive(float), help="by default as the model's width asks")
    option("--num-layers", type=layers, help="how many get adapters, by default 16; -1: all")
    option("--max-seq-length", type=positive(int), default=2048, help="most tokens of an example")
    option("--exam", type=positive(int), default=100, help="most questions of the exam")
    option("--seed", type=int, default=0, help="for the same run again")
    option("--fine-tune-type", choices=("lora", "dora", "full"), default="lora")
    option("--grad-checkpoint", action="store_true", help="less memory, more time")
    saved = "adapters.safetensors to begin with"
    option("--resume-adapter-file", type=existing_file, help=saved)
    option("--judge", action="store_true", help="choose between the answers of the last run")
    parser.error = machine.stop  # type: ignore[method-assign]  # all errors look alike
    return parser.parse_args(words)
