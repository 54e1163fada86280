"""What happens before the libraries are loaded, which takes two seconds.

It runs on any Python 3, also without the environment that init.sh makes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from io import TextIOWrapper

STARTED = time.perf_counter()  # seconds

SETTINGS = {
    # Plain downloads from the Hub, and nothing sent to anybody: no telemetry, no counting.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    # The libraries' warnings are for programmers; what a learner has to know, we say ourselves.
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
}
# pathlib, which ruff would have in these places, takes longer to load than all the rest of this.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
NEEDED = ("mlx", "mlx_lm", "transformers", "datasets", "huggingface_hub", "rich", "codespell_lib")
RANK_VARIABLES = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # mlx.launch; Open MPI, MPICH


def launched_rank() -> int | None:
    """Which one of several processes this is, as what starts them says; None if nothing does."""
    return next((int(os.environ[n]) for n in RANK_VARIABLES if os.environ.get(n)), None)


def set_up_libraries() -> None:
    """Makes the libraries' settings, which they read when they are imported."""
    os.environ.update(SETTINGS)


def open_streams() -> None:
    """Standard input, output and error, each open, and none of them upset by a letter."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by cron
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  for as long as it runs
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # the terminal may not have all letters
    if os.environ.get("COLUMNS") == "0":  # as Emacs says it, who leaves the width to us
        del os.environ["COLUMNS"]


def check_surroundings() -> None:
    """Ends the program with one line where it cannot even begin."""
    why = ""
    try:
        here = os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        why, here = "the folder that you started it in is gone; cd to one that is there", ""
    if sys.version_info < (3, 11) or not all(map(find_spec, NEEDED)):
        go = f"cd '{ROOT}' && " * (here != ROOT)
        why = f"this Python lacks what it needs; run: {go}bash init.sh && .venv/bin/python3 main.py"
    if why:
        print(f"main.py: {why}", file=sys.stderr)
        sys.exit(2)


def start(first_line: str) -> None:
    """Says the first line, so that the screen is not empty while the libraries are loaded."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once: there is nothing to keep
    open_streams()
    check_surroundings()
    if not launched_rank():  # of several processes, the first tells the story
        with suppress(OSError):  # if nobody reads, that is noticed at the next line
            print(first_line, flush=True)
    set_up_libraries()
    if not sys.stderr.isatty():  # in a file, how far a download is would only be noise
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
