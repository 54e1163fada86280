"""What the tests share: the real main.py, run as a process, and the model that it comes with."""

import hashlib
import itertools
import json
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "pretraining")]

from lesson.start import set_up_libraries

set_up_libraries()  # before they are imported, as main.py does

TABLE = {}  # {kind of model: {what was tried: how it went}}, from test_models.py


def pytest_terminal_summary(terminalreporter):
    """Prints the table of the kinds of models below the tests' output."""
    if TABLE:
        names = list(dict.fromkeys(name for row in TABLE.values() for name in row))
        rows = [["kind", *names]]
        for kind, row in TABLE.items():
            said = [row.get(name, "-") for name in names]
            rows.append([kind, *({True: "yes", False: "no"}.get(s, s) for s in said)])
        widths = [max(map(len, column)) for column in zip(*rows)]
        terminalreporter.section("kinds of models")
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            terminalreporter.write_line(line.rstrip())


class Run:
    """A finished run of main.py: its exit status, what it printed, and seconds."""

    def __init__(self, *options, cwd=ROOT, before=(), env=None, stdin=None):
        command = [*before, sys.executable, str(ROOT / "main.py"), *map(str, options)]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = process.communicate(timeout=1200)
        self.seconds, self.status = time.perf_counter() - start, process.returncode

    def row(self, name):
        """The figures of one row of the evaluation's table: base, prompted, fine-tuned."""
        line = next(line for line in self.out.splitlines() if line.strip().startswith(name))
        return [float(x.replace(",", "")) for x in re.findall(r"[\d.,]+", line)[-3:]]

    def answers(self, act):
        """{question: answer} as shown under an act's heading."""
        text = re.split(r"\n\n(?=\w)", self.out.split(f"\n{act}: ")[1].split("\n\n", 1)[1])[0]
        lines = [line.strip() for line in text.splitlines()]
        pairs = itertools.pairwise(lines)
        return {q: a.removeprefix("→ ") for q, a in pairs if a.startswith("→")}


def start(options, cwd, out, err):
    """What a process of QuickRun does: all of main.py, with its output in two files."""
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [str(ROOT / "main.py"), *map(str, options)]
    runpy.run_path(sys.argv[0], run_name="__main__")


class QuickRun:
    """As Run, within some 20 ms: a process that has what main.py imports is forked for it.

    Where forking is not safe with what they load (macOS), it is a new process, as Run's is.
    """

    kind = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")

    @classmethod
    def process(cls, target, *args):
        """A process that has begun to run target(*args), a function of this module."""
        with pytest.MonkeyPatch.context() as patch:  # for the server, which starts once
            patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
            cls.kind.set_forkserver_preload(["main", "conftest"])
            process = cls.kind.Process(target=target, args=args)
            process.start()
        return process

    def __init__(self, *options, folder, cwd=ROOT):
        out, err = folder / "out.txt", folder / "err.txt"
        process = self.process(start, options, cwd, out, err)
        process.join(120)
        process.kill()  # only if it still runs
        process.join()
        self.status = process.exitcode
        self.out, self.err = out.read_text("utf-8"), err.read_text("utf-8")


SETTINGS = {"model": "m", "fine_tune_type": "lora", "num_layers": -1}
KEPT = [{"step": 1, "kept": True}]  # train()'s history


def save_for_ever(folder):
    """Saves adapters of rank 2 and of rank 3 by turns, and never comes back from here."""
    import mlx.core as mx

    from lesson import saving

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    while True:
        for rank in (2, 3):
            weights = {"a": mx.ones((rank, 20_000)), "b": mx.ones((30_000, rank))}
            model = Namespace(trainable_parameters=lambda weights=weights: weights)
            saving.save_adapters(folder, model, SETTINGS, {"rank": rank}, KEPT)


@pytest.fixture(scope="session")
def adapters(tmp_path_factory):
    return tmp_path_factory.mktemp("lesson") / "adapters"


TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
PEAK = """import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)"""


@pytest.fixture(scope="session")
def lesson(adapters):
    """The lesson as a learner runs it, with the data that ship; its adapters go aside."""
    run = Run("--adapter-path", adapters, before=(sys.executable, "-c", PEAK))
    assert run.status == 0, run.err
    run.peak = int(run.err) * (1 if sys.platform == "darwin" else 1024)  # bytes there, KiB on Linux
    return run


@pytest.fixture(scope="session")
def record(lesson, adapters):
    """What the lesson left in results.json."""
    return json.loads((adapters / "results.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def base():
    """(model, tokenizer) of the embedded base model, loaded as main.py loads it."""
    from lesson import models

    model, tokenizer, _ = models.load(str(ROOT / "assets" / "base-model"))
    return model, tokenizer


def say(base, *texts):
    """What the model says after each text: the first line of it."""
    import main

    questions = [main.Example(text, [], "", "") for text in texts]
    return [given.text for given in main.answer(*base, 60, questions, as_many_lines=True)]


def contents(folder):
    """{name: SHA-256} of the files in a folder; None if there is no folder."""
    if not folder.is_dir():
        return None
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def write_data(folder, **splits):
    """Writes {split: [(prompt, completion), …]} as a data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, pairs in splits.items():
        lines = (json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs)
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder
