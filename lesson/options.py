"""What the words of the command line have to be."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

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


def existing_file(text: str) -> Path:
    """The type of an option that names a file."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"{text}: no such file")
    return Path(text)
