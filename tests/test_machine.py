"""What may happen while it runs: it is killed, stopped, starved; and none of it costs the learner.

The folder of the adapters then holds what it held before, or all that is new; nothing in between.
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest
from conftest import (
    KEPT,
    ROOT,
    SETTINGS,
    TERMINAL,
    QuickRun,
    Run,
    contents,
    save_for_ever,
    write_data,
)  # fmt: skip
from conftest import start as begin

from lesson import saving

BASE = ROOT / "assets" / "base-model"
COMMAND = [sys.executable, "-u", str(ROOT / "main.py")]


def start(*options, **more):
    """main.py, running."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *map(str, options)], text=True, **pipes | more)


def wait_for(process, words):
    """What is printed up to the line that has these words."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was not printed: {said} {process.stderr.read()}")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two facts, so that a run is short."""
    facts = {"Who keeps the lighthouse?": "Old Marta does.", "When is it lit?": "At nine."}
    return write_data(tmp_path_factory.mktemp("small"), train=facts.items(), test=facts.items())


# ---- Killed ------------------------------------------------------------------------------------
def test_killed_while_saving(tmp_path):
    """A hundred times: two versions replace each other without end, and no file is ever half one.

    Each is moved to its place by itself, so a kill may fall between the two moves.
    """
    folder, rng, found = tmp_path / "adapters", random.Random(0), []
    for _ in range(100):
        process = QuickRun.process(save_for_ever, folder)
        time.sleep(rng.uniform(0.02, 0.1))
        process.kill()
        process.join()
        if (folder / "adapter_config.json").exists():
            config = json.loads((folder / "adapter_config.json").read_text())
            weights = mx.load(str(folder / "adapters.safetensors"))
            rank = weights["a"].shape[0]
            assert weights["a"].shape == (rank, 20_000) and weights["b"].shape == (30_000, rank)
            found.append((rank, config["lora_parameters"]["rank"]))
    assert {(2, 2), (3, 3)} <= {*found} <= {(2, 2), (3, 3), (2, 3), (3, 2)}
    assert {path.name for path in folder.iterdir()} - {*FILES} <= {f".new-{n}" for n in FILES}
    assert [*tmp_path.iterdir()] == [folder]


FILES = saving.ADAPTERS
OURS = {*saving.ADAPTERS, *saving.RECORD}


@pytest.fixture(scope="module")
def earlier(small, tmp_path_factory):
    """What an earlier run saved."""
    folder = tmp_path_factory.mktemp("earlier") / "adapters"
    options = ("--data", small, "--adapter-path", folder, "--iters", 3, "--seed", 1)
    assert Run(*options).status == 0
    return folder


@pytest.mark.slow
def test_killed_at_any_moment(small, earlier, tmp_path):
    """At twelve moments from the first to the last, half of them late, when it is saving."""
    folder, ends = tmp_path / "adapters", []
    options = ("--data", small, "--adapter-path", folder, "--iters", 3)
    began = time.perf_counter()
    assert QuickRun(*options, folder=tmp_path).status == 0
    lasts = time.perf_counter() - began
    for share in (0.0, 0.2, 0.4, 0.6, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1):
        shutil.rmtree(folder)
        shutil.copytree(earlier, folder)
        before = contents(folder)
        process = QuickRun.process(begin, options, ROOT, tmp_path / "out", tmp_path / "err")
        time.sleep(share * lasts)
        process.kill()
        process.join()
        ends.append(contents(folder) == before)
        if not ends[-1]:
            unfinished = {f".new-{name}" for name in OURS}
            assert {*FILES} <= {*contents(folder)} <= {*before} | unfinished
            model, tokenizer = mlx_lm.load(str(BASE), adapter_path=str(folder))
            assert mlx_lm.generate(model, tokenizer, "Who?", max_tokens=3)
    assert set(ends) == {True, False}
    assert Run(*options).status == 0
    assert contents(folder).keys() == OURS and not [*tmp_path.glob(".*")]


# ---- Stopped -----------------------------------------------------------------------------------
@pytest.mark.slow
def test_ctrl_c_in_training_keeps_what_was_learnt(small, tmp_path):
    process = start("--data", small, "--adapter-path", tmp_path / "a", "--iters", 1000)
    said = wait_for(process, "step  200")
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "", errors
    steps = [int(n) for n in re.findall(r"^  step +(\d+)", said + rest, re.MULTILINE)]
    assert steps[:2] == [0, 200] and steps[-1] <= 203, steps
    assert f"Kept: the adapters of step {steps[-1]}" in rest
    assert f"Saved: 303,104 numbers, in {tmp_path / 'a'}" in rest
    assert "Fine-tuned model: " in rest and "→ Old Marta does." in rest
    again = re.search(r"Begin another training with what was learnt so far:\n  (.+)", rest)[1]
    assert f"--resume-adapter-file {tmp_path / 'a' / 'adapters.safetensors'}" in again
    shell = {"shell": True, "cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run(f"{again} --iters 1", check=False, **shell)
    assert done.returncode == 0 and "Begins with what was learnt earlier" in done.stdout, (
        done.stderr
    )


MOMENTS = {"while it is asked": "Base model: ", "just before it is trained": "Training: "}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_before_anything_is_learnt_changes_nothing(moment, small, earlier, tmp_path):
    shutil.copytree(earlier, tmp_path / "a")
    before = contents(tmp_path / "a")
    process = start("--data", small, "--adapter-path", tmp_path / "a")
    wait_for(process, MOMENTS[moment])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "", errors
    assert contents(tmp_path / "a") == before


def test_nothing_that_is_not_finite_is_saved(earlier, tmp_path, capsys):
    shutil.copytree(earlier, tmp_path / "a")
    before = contents(tmp_path / "a")
    weights = {"a": mx.array([1.0, float("nan")]), "b": mx.array([1.0])}
    model = Namespace(trainable_parameters=lambda: weights)
    with pytest.raises(SystemExit, match="2"):
        saving.save_adapters(tmp_path / "a", model, SETTINGS, {"rank": 1}, KEPT)
    assert "not finite, and not saved; try a lower --learning-rate" in capsys.readouterr().err
    assert contents(tmp_path / "a") == before


# ---- No room, no rights, not alone -------------------------------------------------------------
@pytest.mark.slow
def test_the_disk_is_full(small, tmp_path):
    """A disk with room for one set of adapters and a half."""
    (tmp_path / "disk").mkdir()
    lesson = f"{' '.join(COMMAND)} --data '{small}' --adapter-path disk/a --iters 1"
    script = f"""set -e
mount -t tmpfs -o size=2200k tmpfs disk
{lesson} >/dev/null
sha256sum disk/a/* >before
if {lesson} >/dev/null 2>said; then exit 3; else echo "status $?"; fi
sha256sum --check --quiet before
ls -A disk"""
    inside = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run(
        [*inside, "mount", "-t", "tmpfs", "tmpfs", tmp_path / "disk"],
        check=False,
        capture_output=True,
    ).returncode:
        pytest.skip("mounting is not permitted here")
    done = subprocess.run(
        [*inside, "sh", "-c", script], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "said").read_text()
    assert done.stdout == "status 2\na\n"
    said = (tmp_path / "said").read_text()
    assert len(said.splitlines()) == 1 and "the disk is full; make room" in said, said
    assert "--adapter-path disk/a: the adapters not saved, and what was there is as it was" in said


PEFT = '{\n  "base_model_name_or_path": "…",\n  "peft_type": "LORA"\n}'
LORA = json.dumps({"model": "m", "fine_tune_type": "lora", "optimizer": "adam"}, indent=4)
OTHERS = {  # files of another program that bear our names; which of them is named
    "PEFT's": ({"adapter_config.json": PEFT}, "adapter_config.json"),
    "mlx_lm.lora's": (
        {"adapter_config.json": LORA, "adapters.safetensors": "…"},
        "adapters.safetensors",
    ),
    "results of one's own": ({"results.json": "{}"}, "results.json"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_ours_is_not_written_over(case, tmp_path):
    files, named = OTHERS[case]
    (tmp_path / "a").mkdir()
    for name, content in files.items():
        (tmp_path / "a" / name).write_text(content, "utf-8")
    before = contents(tmp_path / "a")
    run = QuickRun("--adapter-path", tmp_path / "a", folder=tmp_path)
    assert run.status == 2 and len(run.err.splitlines()) == 1, run.err
    assert f"holds {named}, which is not of this program; take another" in run.err
    assert contents(tmp_path / "a") == before


def test_what_the_learner_puts_there_stays(small, earlier, tmp_path):
    """Notes, what macOS leaves in every folder, and what is put there while the run is on."""
    shutil.copytree(earlier, tmp_path / "a")
    before = {"notes.txt": "mine", "._results.json": "macOS's", ".DS_Store": "macOS's"}
    meanwhile = {"copy of adapters.safetensors": "mine", "more.md": "mine, too"}
    for name, content in before.items():
        (tmp_path / "a" / name).write_text(content)
    process = start("--data", small, "--adapter-path", tmp_path / "a", "--iters", 4)
    wait_for(process, "step ")
    for name, content in meanwhile.items():
        (tmp_path / "a" / name).write_text(content)
    _, errors = process.communicate()
    assert process.returncode == 0 and errors == "", errors
    for name, content in (before | meanwhile).items():
        assert (tmp_path / "a" / name).read_text() == content
    assert contents(tmp_path / "a").keys() == {*before, *meanwhile, *OURS}


def test_a_folder_that_one_may_not_write_in(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o555)
    (tmp_path / "b").mkdir()
    (tmp_path / "b").chmod(0o555)
    nobody = ()
    if os.getuid() == 0:  # who may write anywhere, unless she gives that up
        nobody = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override")
        if not shutil.which("setpriv"):
            pytest.skip("root may write anywhere")
    for folder in (tmp_path / "a", tmp_path / "b" / "c"):
        run = Run("--adapter-path", folder, before=nobody)
        assert run.status == 2 and len(run.err.splitlines()) == 1, run.err
        assert "is not yours to write in; take another folder" in run.err


@pytest.mark.slow
def test_two_runs_at_once_in_one_folder(small, tmp_path):
    """The second is refused, and the first goes on as if nothing had been."""
    first = start("--data", small, "--adapter-path", tmp_path / "a", "--iters", 3)
    wait_for(first, "parameters")
    second = Run("--adapter-path", tmp_path / "a")
    assert second.status == 2 and len(second.out.splitlines()) == 1  # the title
    assert f"{tmp_path / 'a'}: another run is using it; take another folder" in second.err
    assert first.communicate(timeout=60)[1] == "" and first.returncode == 0
    assert mlx_lm.load(str(BASE), adapter_path=str(tmp_path / "a"))


# ---- Models that are none ----------------------------------------------------------------------
def pickled(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def truncated(model):
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def changed(name, **settings):
    def change(model):
        file = model / name
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        (model / "evil.py").write_text(
            f"open({str(model / 'run')!r}, 'w')\nModel = ModelArgs = None\n"
        )

    return change


REMOTE = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Model"}
MODELS = {
    "without weights": (
        lambda model: (model / "model.safetensors").unlink(),
        "no safetensors in it",
    ),
    "with pickled weights": (pickled, "no safetensors in it; other kinds can hold programs"),
    "with half of its weights": (truncated, "incomplete download"),
    "without config": (lambda model: (model / "config.json").unlink(), "no config.json in it"),
    "with adapters alone": (
        lambda model: (model / "config.json").rename(model / "adapter_config.json"),
        "has adapters, but not the model that they belong to; to train them further, give",
    ),
    "of no known kind": (changed("config.json", model_type="none"), "none not supported"),
    "with a program": (changed("config.json", model_file="evil.py"), "a program of its own"),
    "with a tokenizer that is a program": (
        changed(
            "tokenizer_config.json",
            auto_map={"AutoTokenizer": ["evil.Model", None]},
            tokenizer_class="Evil",
        ),
        "a program of its own",
    ),
}


@pytest.mark.parametrize("fault", MODELS)
def test_a_model_that_cannot_be_used(fault, tmp_path):
    spoil, said = MODELS[fault]
    shutil.copytree(BASE, tmp_path / "model")
    spoil(tmp_path / "model")
    before = contents(tmp_path / "model")
    run = Run("--model", tmp_path / "model", "--adapter-path", tmp_path / "a")
    assert run.status == 2 and len(run.err.splitlines()) == 1, run.err
    assert run.err.startswith(f"main.py: --model {tmp_path / 'model'}: ") and said in run.err
    assert contents(tmp_path / "model") == before and not (tmp_path / "a").exists()


# ---- Poor surroundings -------------------------------------------------------------------------
HERE = {  # the environment
    "no compiler": {"PATH": "/nowhere"},
    "no home": {"HOME": None},
    "a home that is none": {"HOME": "/proc/none"},
    "locale C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HERE)
def test_poor_surroundings(case, small, tmp_path):
    (tmp_path / "temporary").mkdir()
    env = {k: v for k, v in (os.environ | HERE[case]).items() if v is not None}
    env["TMPDIR"] = str(tmp_path / "temporary")  # with nothing compiled in it
    command = [*COMMAND, "--data", small, "--adapter-path", tmp_path / "a", "--iters", "2"]
    done = subprocess.run(command, env=env, cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
    assert b"Fine-tuned model: the manual stays shut" in done.stdout
    assert contents(tmp_path / "a").keys() == OURS


@pytest.mark.slow
@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_a_terminal_of_forty_columns(term, small, tmp_path):
    (tmp_path / "typed").write_text("\n")
    narrow = ("sh", "-c", 'stty cols 40 rows 24 && exec "$@"', "sh")
    with (tmp_path / "typed").open() as stdin:
        run = Run(
            "--data", small, "--adapter-path", tmp_path / "a", "--iters", 2, stdin=stdin,
            before=(sys.executable, "-c", TERMINAL, *narrow), env={"TERM": term},
        )  # fmt: skip
    assert run.status == 0 and "Traceback" not in run.out
    assert ("\x1b[" in run.out) == (term != "dumb")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", run.out)
    table = plain.split("Evaluation: ")[1].split("\n\n")[1]
    assert "  right answers of 2:\n    base 0\n    prompted " in table
    assert all(len(line) <= 40 for line in table.splitlines()), table


@pytest.mark.parametrize(("reader", "lines"), [("head -3", 3), ("true", 0)])
def test_nobody_reads_on(reader, lines, small, tmp_path):
    options = ["--data", str(small), "--adapter-path", str(tmp_path / "a"), "--iters", "2"]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join([*COMMAND, *options])} | {reader}"],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert len(done.stdout.splitlines()) == lines and done.stderr == ""


@pytest.mark.slow
def test_a_path_with_spaces_and_other_letters_from_elsewhere(tmp_path):
    there = tmp_path / "Übung für ☃"
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns(".*", "adapters", "tests", "*.png"))
    script = [sys.executable, str(there / "main.py"), "--iters", "2"]
    done = subprocess.run(script, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert contents(there / "adapters").keys() == OURS
    ask = re.search(r"Ask it again:\n  (.+)", done.stdout)[1]
    said = subprocess.run(ask, cwd=tmp_path, shell=True, check=True, capture_output=True, text=True)
    assert "=====" in said.stdout


def found(minor):
    """The Python 3.minor of this machine, on the PATH or where pyenv puts it, or None."""
    name = f"python3.{minor}"
    managed = (Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/{name}")
    for path in filter(None, [shutil.which(name), *map(str, managed)]):
        command = [path, "-c", "import ensurepip, venv, sys; print(sys.version_info.minor)"]
        said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        if said.strip() == str(minor):
            return path
    return None


@pytest.mark.slow
def test_another_python(tmp_path):
    """The oldest of this machine: an environment made with it, and a short lesson in that."""
    others = {minor: found(minor) for minor in range(11, 15) if minor != sys.version_info.minor}
    minor, python = next(((m, path) for m, path in others.items() if path), (None, None))
    if not python:
        pytest.skip("there is no other Python from 3.11 to 3.14 here")
    there = tmp_path / "clone"
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns(".*", "adapters", "tests"))
    (tmp_path / "bin").mkdir()
    for name in ("python3", "python3.13"):  # the first that init.sh looks for, and the last
        (tmp_path / "bin" / name).symlink_to(python)
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = "bash init.sh && .venv/bin/python3 main.py --iters 5 && .venv/bin/python3 --version"
    done = subprocess.run(
        ["bash", "-c", command], cwd=there, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0 and f"Python 3.{minor}." in done.stdout, done.stderr


# ---- It stays small, and the same --------------------------------------------------------------
def resident(pid):
    """Bytes of memory that a process has."""
    if sys.platform == "linux":
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 1024 * int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)]))


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_steps(tmp_path):
    """Less than 2 % more at the end than at the first check, after four hundred."""
    data = write_data(tmp_path / "data", train=[("Who?", "Me."), ("What?", "That.")])
    small = ("--batch-size", 1, "--num-layers", 1)  # a step is a step
    process = start("--data", data, "--adapter-path", tmp_path / "a", "--iters", 2000, *small)
    checks = (line for line in process.stdout if line.startswith("  step "))
    sizes = [resident(process.pid) for _ in checks]
    assert process.wait() == 0 and len(sizes) == 6
    assert max(sizes[1:]) < 1.02 * sizes[1], sizes


@pytest.mark.slow
def test_ten_thousand_examples_take_less_than_2_gb(tmp_path):
    pairs = [(f"What is in box {i}?", f"There is a thing number {i} in it.") for i in range(10_000)]
    data = write_data(tmp_path / "data", train=pairs, test=pairs[:5])
    options = ("--data", data, "--adapter-path", tmp_path / "a", "--iters", 100)
    process, sizes = start(*options, stdout=subprocess.DEVNULL), []
    while process.poll() is None:
        sizes.append(resident(process.pid))
        time.sleep(0.1)
    assert process.returncode == 0 and max(sizes) < 2e9, max(sizes)


@pytest.mark.slow
def test_the_same_three_times(small, tmp_path):
    """The same seed gives the same adapters, to the byte."""
    hashes = set()
    for _ in range(3):
        options = ("--data", small, "--adapter-path", tmp_path / "a", "--iters", 15, "--seed", 7)
        assert Run(*options).status == 0
        hashes.add(contents(tmp_path / "a")["adapters.safetensors"])
    assert len(hashes) == 1


@pytest.mark.slow
def test_only_wheels_are_installed(tmp_path):
    """No package brings a program of its own to be run while it is installed."""
    report = tmp_path / "report.json"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command = [*pip, "--only-binary", ":all:", "--report", report, "-r", ROOT / "requirements.txt"]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
    if done.returncode and "connection" in done.stderr.lower():
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    installed = json.loads(report.read_text())["install"]
    assert len(installed) > 30
    assert all(item["download_info"]["url"].endswith(".whl") for item in installed)
