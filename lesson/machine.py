"""The machine: processes of mlx.launch, memory, signals, the network, and how the program ends."""

import fcntl
import json
import math
import os
import re
import signal
import socket
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any, NoReturn

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from lesson.start import RANK_VARIABLES, launched_rank

LAUNCHED = launched_rank() is not None  # by mlx.launch or MPI, perhaps with others
RANK = launched_rank() or 0  # of several processes, the first, which tells the story, is 0

Batch = tuple[mx.array, mx.array, mx.array]  # tokens, and two arrays that say what of them counts

LOST = "another one is lost; what was saved earlier is as it was"
PATIENCE = 10  # seconds in which MLX, too, should have noticed that another process is lost

interrupted = Event()  # whether Ctrl-C was pressed while it trained
connections: list[socket.socket] = []  # to the other processes
reached: set[str] = set()  # the hosts that Python code here looked up or connected to

# A step is compiled on Metal, where that takes little. CUDA and processors take seconds for each
# kernel: on an H200 the first lesson took 42 s as it is, and compiled it was not at step 10 by 100.
COMPILES = mx.metal.is_available() and mx.default_device() == mx.Device(mx.gpu)
STRIDE = 32  # of the lengths then, as in mlx-lm: each other length would be compiled anew

# ---- How the program ends ----------------------------------------------------------------------
ADVICE = {  # by what is in an error's name or text
    "GatedRepo": "accept its terms on its page on the Hub, then run .venv/bin/hf auth login",
    "RepositoryNotFound": "not on the Hub by that name; or private: run .venv/bin/hf auth login",
    "IncompleteSnapshot": "half of it is here and the Hub cannot be reached; run it again online",
    "No space left|Unable to write": "the disk is full; make room, or go to another disk:"
    " --adapter-path for what is learnt, HF_HOME for what comes from the Hub",
    "LocalEntryNotFound|Couldn't reach": "the Hub cannot be reached; look at the network,"
    " and at HF_ENDPOINT if set",
    "RemoteProtocol|Consistency check": "the download broke off; run it again: whole files stay",
    "No safetensors": "no safetensors in it; other kinds can hold programs, and are not loaded",
    "trust_remote_code": "it wants to run a program of its own, which is never done here",
    "json header|HeaderTooLarge|InvalidHeader": "its weights are no safetensors, perhaps a Git LFS"
    " pointer (run git lfs pull) or half a download; fetch them again",
    "Failed to parse tokenizer|UTF-8 BOM": "one of its JSON files is not what it should be, perhaps"
    " a Git LFS pointer (run git lfs pull), or saved by an editor; fetch it again",
    "backend tokenizer": "no tokenizer in it that can be read; fetch its tokenizer.json as well",
    "Missing .* parameters|not in model|Expected shape": "weights and config.json do not belong"
    " together; fetch both again, from one place",
}


def stop(message: str) -> NoReturn:
    """Ends the program, all of its processes, with one line on standard error and exit status 2."""
    synchronize(error=message)
    raise AssertionError("synchronize() ends the program if there is an error")


def stop_alone(why: str) -> NoReturn:
    """Ends this process, which cannot reach the others."""
    print(f"main.py: process {RANK}: {why}", file=sys.stderr)
    sys.exit(2)


def stop_if_not_finite(value: float, name: str, step: int) -> None:
    """Ends the training where its numbers have grown beyond what they can hold."""
    if not math.isfinite(value):
        stop(f"step {step}: the {name} is {value}; try a lower --learning-rate")


@contextmanager
def errors_in_one_line(what: str) -> Iterator[None]:
    """Ends the program with one line, `what` and why, if anything goes wrong inside."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # mlx-lm, the Hub, the network: each has its own kinds
        causes = [e for e in (error, error.__cause__, error.__context__) if e]
        signs = " ".join(f"{type(e).__name__} {e}" for e in causes)
        advice = next((text for sign, text in ADVICE.items() if re.search(sign, signs)), None)
        first_line = str(error).split("\n")[0]
        stop(f"{what}: {advice or f'{type(error).__name__}: {first_line}'}")


@contextmanager
def exit_status() -> Iterator[None]:
    """Ends the program as a shell expects: 130 after Ctrl-C, one line and 2 for what went wrong."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        synchronize()  # so that none is gone while another may fail
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as of `| head`: nobody is reading any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        stop(str(error))
    except (MemoryError, RuntimeError) as error:
        text = f"{type(error).__name__} {error}"
        if "peer was lost" in text:
            stop_alone(LOST)
        if not re.search("memory|alloc", text, re.IGNORECASE):
            raise
        # In the middle of a step the others, if there are any, cannot be told.
        end = stop if group().size() == 1 else stop_alone
        end("out of memory; less takes: --grad-checkpoint, a smaller --batch-size or model")
    if interrupted.is_set():
        sys.exit(130)


@contextmanager
def ctrl_c_noted() -> Iterator[None]:
    """Ctrl-C sets `interrupted`, which training heeds at its next step; a second one ends all."""

    def note(*_: object) -> None:
        """The handler of the signal."""
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, signal.SIG_IGN if RANK else note)  # the first tells the others
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


# ---- Lengths -----------------------------------------------------------------------------------
def padded_length(longest: int) -> int:
    """How long the rows of a batch are made: as the longest, or so that few lengths occur."""
    return 1 + math.ceil((longest - 1) / STRIDE) * STRIDE if COMPILES else longest


def skipped_length(first: int) -> int:
    """How many tokens are skipped at the start of each row: all that may be, or a multiple."""
    return first - first % STRIDE if COMPILES else first


# ---- Several processes -------------------------------------------------------------------------
@cache
def group() -> mx.distributed.Group:
    """All the processes that mlx.launch started; this one alone if there are no others."""
    hosts = Path(os.environ.get("MLX_HOSTFILE", os.devnull))  # left empty by mlx.launch -n 1
    if hosts.is_file() and not hosts.read_text().strip():
        del os.environ["MLX_HOSTFILE"]
    earlier = open_sockets()
    try:
        found = mx.distributed.init(backend="any" if LAUNCHED else "ring")
    except RuntimeError as error:
        stop_alone(f"the others are not reached: {error}")
    if "MLX_HOSTFILE" in os.environ:  # MLX's ring
        opened = [socket.socket(fileno=os.dup(n)) for n in open_sockets() - earlier]
        connections.extend(filter(is_connected, opened))
    if found.size() <= RANK:
        name = next(name for name in RANK_VARIABLES if os.environ.get(name))
        stop_alone(f"{name}={RANK} says that there are others, but there are none; unset {name}")
    return found


def open_sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the one by which they are listed is closed by now
            if stat.S_ISSOCK(os.fstat(int(path.name)).st_mode):
                found.add(int(path.name))
    return found


def is_connected(one: socket.socket) -> bool:
    """Whether there is another end: MLX keeps those of the tries for which it came too early."""
    try:
        return bool(one.getpeername())
    except OSError:
        return False


def is_closed(connection: socket.socket) -> bool:
    """Whether the process at the other end is gone; nothing is taken out of what it sent."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False  # nothing to read for now
    except OSError:
        return True


@contextmanager
def others_watched() -> Iterator[None]:
    """Inside, this process ends soon after another is lost, even where MLX waits for ever.

    MLX 0.32 as a rule gives an error; but what a step begins to send after that is never sent.
    """
    over = Event()

    def watch() -> None:
        """Looks once a second; MLX's error, if there is one, ends the program first."""
        while not over.wait(1):
            if any(map(is_closed, connections)) and not over.wait(PATIENCE):
                print(f"main.py: process {RANK}: {LOST}", file=sys.stderr, flush=True)
                os._exit(2)  # the main thread waits, and would not hear of an exception

    if connections:
        Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def synchronize(flag: bool = False, error: str = "") -> bool:
    """Waits for all processes to get here; gives whether the flag of any of them is set.

    If one has an error, the first that has says so, and all end. To wait here, before each step, is
    better than in it: it runs on a GPU, which gives up while another process still asks questions.
    """
    everyone = partial(mx.distributed.all_gather, group=group())
    states: Any = everyone(mx.array([[int(flag), int(error != "")]])).tolist()
    flags, errors = zip(*states)
    if any(errors):
        if errors.index(1) == RANK:
            print(f"main.py: {' '.join(error.split())}", file=sys.stderr)
        mx.eval(everyone(mx.array([0])))  # by now it has been said
        sys.exit(2)
    return any(flags)


def ctrl_c_pressed() -> bool:
    """Whether Ctrl-C was pressed while training, on any of the processes: all wait here."""
    return synchronize(interrupted.is_set())


def only_trains() -> bool:
    """Whether only training is left to this process; ends if another one has an error."""
    synchronize()
    return RANK > 0


def share(batch: Batch) -> Batch:
    """The rows of a batch that are this process's; if there are none, one that counts nothing."""
    tokens, others, counted = (array[RANK :: group().size()] for array in batch)
    if not tokens.size:  # without lengths, or probabilities, nothing counts
        tokens, others, counted = (array[:1] for array in batch)
        return tokens, others, mx.zeros_like(counted)
    return tokens, others, counted


def check_all_have_the_same(model: nn.Module, rows: list, settings: dict) -> None:
    """Stops if the processes, perhaps on several machines, differ in what they train on.

    The adapters begin as the mean of all: the same to the last bit, on different machines too.
    """
    parameters = sum(a.size for a in dict(tree_flatten(model.parameters())).values())
    same = settings | {"model": parameters, "rows": rows}
    digest = int(sha256(json.dumps(same).encode()).hexdigest()[:7], 16)
    digests: Any = mx.distributed.all_gather(mx.array([digest]), group=group()).tolist()
    first, *others = digests
    for rank, other in enumerate(others, 1):
        if other != first:
            stop(f"process {rank} has other data, options or model than the first; copy the folder")
    model.update(nn.average_gradients(model.trainable_parameters(), group()))
    mx.eval(model.parameters())  # now: all processes have to exchange the same things in one order


# ---- One run at a time, and what it reaches ----------------------------------------------------
def begin(folder: Path, seed: int) -> None:
    """Sets the seed, keeps other runs out of the folder, and watches the network from now on."""
    mx.random.seed(seed % 2**32)
    group()
    if not RANK:  # of several processes, the first saves, and tells what is reached
        lock(folder)
        watch_network()


def lock(folder: Path) -> None:
    """Keeps other runs out of a folder until this program ends, in whatever way."""
    name = sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    path = f"{tempfile.gettempdir()}/learn-fine-tuning-{os.getuid()}-{name}.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)  # open, and so locked, to the end
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop(f"--adapter-path {folder}: another run is using it; take another folder")


def watch_network() -> None:
    """From now on, `reached` takes in each host that Python code looks up or connects to."""

    def hook(event: str, args: tuple) -> None:
        """Called by Python at each event that it audits (PEP 578)."""
        if event in ("socket.connect", "socket.getaddrinfo"):
            address = args[event == "socket.connect"]
            reached.add(str(address[0] if isinstance(address, tuple) else address))

    sys.addaudithook(hook)
    if (others := group().size() - 1) > 0:  # to which MLX talks by itself
        reached.add(f"the {others} other process{'es' * (others > 1)} of this run")


# ---- Processor and memory ----------------------------------------------------------------------
def lacks_openblas() -> bool:
    """Whether what makes MLX fast on Linux's processors is not there; init.sh has it loaded."""
    maps = Path("/proc/self/maps")
    return sys.platform == "linux" and "/libopenblas" not in maps.read_text()


def available_memory() -> float:
    """The bytes that the GPU may use, or that the machine has."""
    info = mx.device_info()
    names = ("max_recommended_working_set_size", "total_memory", "memory_size")
    of_gpu = next((info[name] for name in names if info.get(name)), None)
    return float(of_gpu or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
