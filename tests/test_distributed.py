"""More than one machine: mlx.launch starts main.py several times, and it is one training."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import ROOT, Run, contents, write_data

from lesson import dataset, machine

LAUNCH = Path(sys.executable).with_name("mlx.launch")
MAIN = [sys.executable, str(ROOT / "main.py")]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # each, or the processes fight for the cores
EASY = {"train": [("Who?", "Me."), ("What is that?", "That is a tree."), ("Where?", "Here.")]}


def free_ports(number):
    """The first of so many ports in a row that nobody has now."""
    for port in range(20_000 + os.getpid() % 10_000, 60_000, number):
        with ExitStack() as stack, suppress(OSError):
            for offset in range(number):
                one = stack.enter_context(socket.socket())
                one.bind(("127.0.0.1", port + offset))
            return port
    raise OSError("no free ports")


class Launched:
    """A finished run of main.py under mlx.launch: status, what was printed."""

    def __init__(self, number, *options, cwd=ROOT, hostfile=None):
        hosts = ["--backend", "ring", "--hostfile", hostfile] if hostfile else ["-n", number]
        command = [LAUNCH, *hosts, "-p", free_ports(number), *MAIN, *options]
        stdin, open_end = os.pipe()  # at the end of its input, mlx.launch would look without pause
        done = subprocess.run(
            [str(word) for word in command], stdin=stdin, capture_output=True, text=True, cwd=cwd,
            env={**os.environ, **ONE_THREAD}, timeout=300, check=False,
        )  # fmt: skip
        os.close(stdin), os.close(open_end)
        self.status, self.out = done.returncode, done.stdout
        self.err = re.sub(r".*\[WARN\] Node with rank.*\n", "", done.stderr)  # the launcher's


@contextmanager
def by_hand(options, addresses=("127.0.0.1", "127.0.0.1"), before=((), ()), cwd=ROOT, main=MAIN):
    """main.py, or another, started once for each address, as mlx.launch would on each machine."""
    port = free_ports(len(addresses))
    hosts = Path(cwd) / f"hosts-{port}.json"
    hosts.write_text(json.dumps([[f"{a}:{port + i}"] for i, a in enumerate(addresses)]))
    processes = []
    for rank, prefix in enumerate(before):
        mine = options[rank] if isinstance(options, list) else options
        ring = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts), "PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(
                [*prefix, *main, *map(str, mine)], text=True, cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **ONE_THREAD, **ring},
            )
        )  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        hosts.unlink()


def said(text):
    """The lines that main.py itself printed; MLX's threads report a connection's end as well."""
    assert "Traceback" not in text
    return re.findall(r"main\.py: .*", text)


def record(folder):
    return json.loads((folder / "results.json").read_text("utf-8"))


def answers(folder):
    return [a["fine-tuned"]["text"] for a in record(folder)["answers"]]


# ---- The same training -------------------------------------------------------------------------
@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, at a rate at which rounding does not grow into other answers."""
    folder = tmp_path_factory.mktemp("alone") / "a"
    assert Run(*GENTLY, "--adapter-path", folder, env=ONE_THREAD).status == 0
    return folder


GENTLY = ("--iters", 20, "--learning-rate", 3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_same_losses_and_answers(number, alone, tmp_path):
    """Batches of eight, and parts of unlike length: each token weighs the same, wherever it is."""
    run = Launched(number, *GENTLY, "--adapter-path", tmp_path / "a")
    assert run.status == 0 and run.err == "", run.err
    assert run.out.count("Base model: ") == run.out.count("Fine-tuning in one script") == 1
    others = {1: "Nothing left this machine", 2: "the 1 other process of this run"}
    assert others.get(number, "the 3 other processes of this run") in run.out
    for one, other in zip(record(alone)["training"], record(tmp_path / "a")["training"]):
        assert one["step"] == other["step"] and one["answer"] == other["answer"]
        for name in ("loss", "valid"):
            if one[name] is not None:
                assert other[name] == pytest.approx(one[name], rel=1e-4)
    assert answers(tmp_path / "a") == answers(alone)


@pytest.mark.slow
def test_the_lesson_with_two_processes(tmp_path):
    """All of it, as the README has it: the questions of the exam are answered."""
    run = Launched(2, "--adapter-path", tmp_path / "a")
    assert run.status == 0 and run.err == "", run.err
    assert "in each of 2 processes" in run.out
    assert record(tmp_path / "a")["table"]["fine-tuned"]["right answers"] >= 11
    assert "→ My first name is Sharon.\n" in run.out.split("Fine-tuned model: ")[1]


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, 3])
def test_fewer_examples_than_would_go_round(examples, tmp_path):
    """Of one example there is none for the second process; and the losses are as of one process."""
    write_data(tmp_path / "data", train=EASY["train"][:examples], test=EASY["train"][:1])
    options = ("--data", tmp_path / "data", "--iters", 6, "--learning-rate", 3e-4)
    assert Run(*options, "--adapter-path", tmp_path / "a").status == 0
    run = Launched(2, *options, "--adapter-path", tmp_path / "b")
    assert run.status == 0 and run.err == "", run.err
    one, two = ([c["loss"] for c in record(tmp_path / f)["training"][1:]] for f in "ab")
    assert len(one) == 6 and two == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_a_hostfile(tmp_path):
    """As the README writes it, but with addresses of this machine."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^ *(\[\{\"ssh\".*\])$", readme, re.MULTILINE)
    (tmp_path / "hosts.json").write_text(re.sub(r"10\.0\.0\.\d", "127.0.0.1", shown))
    data = write_data(tmp_path / "data", **EASY, test=EASY["train"])
    options = ("--data", data, "--adapter-path", tmp_path / "a", "--iters", 2)
    run = Launched(2, *options, hostfile=tmp_path / "hosts.json")
    assert run.status == 0 and run.err == "" and "in each of 2 processes" in run.out, run.err


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_shares_are_the_batch(size, base, monkeypatch):
    """Loss, number of tokens and gradients of all shares are those of the batch, when added up."""
    import random

    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten

    import main

    model, tokenizer = base
    rows = [main.encode(tokenizer, e) for e in dataset.load_examples(ROOT / "data" / "valid.jsonl")]
    (batch,) = main.batches(rows[:3], 8, random.Random(0))
    whole, gradients = nn.value_and_grad(model, main.loss_fn)(model, batch)

    class Group:
        """As many processes, of which none is there."""

        def size(self):
            return size

    monkeypatch.setattr(machine, "group", Group)
    parts = []
    for rank in range(size):
        monkeypatch.setattr(machine, "RANK", rank)
        parts.append(nn.value_and_grad(model, main.loss_fn)(model, machine.share(batch)))
    losses, numbers = zip(*(part[0] for part in parts))
    assert sum(n.item() for n in numbers) == whole[1].item()
    assert [n.item() > 0 for n in numbers] == [rank < 3 for rank in range(size)]
    assert sum(loss.item() for loss in losses) == pytest.approx(whole[0].item(), rel=1e-5)
    flat = [dict(tree_flatten(part[1])) for part in parts]
    for name, gradient in tree_flatten(gradients):
        assert mx.allclose(sum(f[name] for f in flat), gradient, rtol=1e-3, atol=1e-4).item(), name


# ---- Errors end all, with one message ----------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--iters", "none"), "argument --iters: none is not a whole number"),
        (("--data", "nowhere"), "nowhere/train.jsonl: no such file"),
        (("--model", "nowhere"), "--model nowhere: no such folder"),
        (("--judge",), "--judge asks you; start it without mlx.launch"),
        (("--num-layers", 9), "--num-layers 9: the model has 4"),
    ],
)
def test_an_error_of_all(options, message, tmp_path):
    run = Launched(2, *options, "--adapter-path", tmp_path / "a")
    (line,) = said(run.err)  # the launcher's warnings, in pieces, may fall into one another
    assert message in line
    assert not (tmp_path / "a").exists()


def one_differs(tmp_path, kind):
    """The options of each of two processes, of which one has something else."""
    write_data(tmp_path / "data", **EASY, test=EASY["train"])
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    same = ["--adapter-path", tmp_path / "a", "--iters", 3]
    options = [[*same, "--data", tmp_path / "data"] for _ in range(2)]
    options[kind != "no data on the first"][-1] = tmp_path / "other"
    if kind == "a folder of another program":  # it is the first that saves
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    elif kind.startswith("no data"):
        (tmp_path / "other" / "train.jsonl").unlink()
    elif kind == "other data":
        with (tmp_path / "other" / "train.jsonl").open("a") as file:
            file.write('{"prompt": "Which?", "completion": "This."}\n')
    else:
        options[1] += ["--batch-size", 2]
    return options


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no data on the first", "other/train.jsonl: no such file"),
        ("no data on the second", "other/train.jsonl: no such file"),
        ("a folder of another program", "holds adapter_config.json, which is not of this program"),
        ("other data", "process 1 has other data, options or model than the first"),
        ("other options", "process 1 has other data, options or model than the first"),
    ],
)
def test_an_error_of_one(kind, message, tmp_path):
    """Whoever has it says so, once, and both end with status 2."""
    options = one_differs(tmp_path, kind)
    with by_hand(options, cwd=tmp_path) as processes:
        errors = [process.communicate(timeout=60)[1] for process in processes]
        lines = said("".join(errors))
        assert len(lines) == 1 and message in lines[0], errors
        assert [process.returncode for process in processes] == [2, 2]
    assert not (tmp_path / "a" / "adapters.safetensors").exists()


# ---- One is killed -----------------------------------------------------------------------------
@contextmanager
def two_machines():
    """Two network namespaces with an address each and a cable between; gives how to run in each."""
    if os.getuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names, addresses = [f"lft{os.getpid()}{side}" for side in "ab"], ["10.213.0.1", "10.213.0.2"]
    links = [f"{name}v" for name in names]
    made = subprocess.run(["ip", "netns", "add", names[0]], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("network namespaces are not permitted here")
    try:
        commands = [["ip", "netns", "add", names[1]]]
        pair = ["type", "veth", "peer", "name", links[1], "netns", names[1]]
        commands += [["ip", "-n", names[0], "link", "add", links[0], *pair]]
        for name, address, link in zip(names, addresses, links):
            commands += [["ip", "-n", name, "addr", "add", f"{address}/24", "dev", link]]
            commands += [["ip", "-n", name, "link", "set", side, "up"] for side in ("lo", link)]
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        yield addresses, [("ip", "netns", "exec", name) for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_machines_of_which_one_is_killed(tmp_path):
    """First they train; then each in turn is killed in the middle, and the other ends by itself."""
    folder = tmp_path / "a"
    data = write_data(tmp_path / "data", **EASY, valid=EASY["train"], test=EASY["train"])
    options = ("--data", data, "--adapter-path", folder, "--iters")
    with two_machines() as (addresses, before):
        with by_hand((*options, 20), addresses, before, tmp_path) as processes:
            out, err = processes[0].communicate(timeout=120)
            assert processes[0].returncode == processes[1].wait(30) == 0, err
            assert "in each of 2 processes" in out and record(folder)["exam"] == 3
        saved = contents(folder)
        for killed in (1, 0):
            with by_hand((*options, 5000), addresses, before, tmp_path) as processes:
                for line in processes[0].stdout:
                    if line.startswith("  step    0"):
                        break
                time.sleep(2)
                assert processes[0].poll() is None
                processes[killed].send_signal(signal.SIGKILL)
                survivor = processes[1 - killed]
                _, err = survivor.communicate(timeout=30)
                assert survivor.returncode == 2
                (line,) = said(err)
                assert f"process {1 - killed}: another one is lost; what was saved earlier" in line
            assert contents(folder) == saved


WAITS = """
import sys, time
from lesson import machine
machine.PATIENCE = 2
machine.group()
with machine.exit_status(), machine.others_watched():
    print("inside", flush=True)
    time.sleep(60)
"""


LATE = ("sh", "-c", 'sleep 2; exec "$@"', "sh")


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 1])
def test_one_that_waits_for_ever_ends_when_another_is_lost(late, tmp_path):
    """As where MLX waits in a step, of which no error comes; and not before, whoever came first."""
    before = [LATE if rank == late else () for rank in range(2)]
    with by_hand((), before=before, cwd=tmp_path, main=[sys.executable, "-c", WAITS]) as processes:
        assert [process.stdout.readline() for process in processes] == ["inside\n"] * 2
        time.sleep(6)
        assert [process.poll() for process in processes] == [None, None]
        processes[0].kill()
        _, err = processes[1].communicate(timeout=30)
        assert processes[1].returncode == 2
        assert "main.py: process 1: another one is lost; what was saved earlier" in err
