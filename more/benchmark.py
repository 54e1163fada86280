#!/usr/bin/env python3
"""How fast the lesson is, beside what people would use instead: one table of medians.

.venv/bin/python3 more/benchmark.py [--rounds 5] [--only training,growth]

--only takes some of: lesson, training, peft, limit, growth, processes; or gpu, for a machine with
one: the lesson with no kernel compiled yet, with all of them kept, and without CUDA's graphs, and
the training of 135 million parameters beside PEFT's on the same card. Each thing measured is a
process of its own, and each round has all of them, one after the other, so that whatever else the
machine does slows all alike. PEFT and PyTorch go into an environment of their own, in the temporary
folder, unless --peft-python names a Python that has them. Five rounds take some half an hour on 2
cores. Ends with status 1 if a bar is missed. By hand; not one of the tests.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import pty
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE, DATA = ROOT / "assets" / "base-model", ROOT / "data"
WORK = Path(tempfile.gettempdir()) / "learn-fine-tuning-benchmark"
PEFT = WORK / "peft" / "bin" / "python3"
RATE, LORA = 9e-4, {"rank": 16, "scale": 4.0, "dropout": 0.0}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SIZES += ("num_key_value_heads", "vocab_size")
SHAPES = {  # Llamas from the embedded one to SmolLM2-135M
    "3 M": (256, 640, 4, 4, 4, 1024),
    "11 M": (320, 864, 9, 5, 5, 1024),
    "36 M": (448, 1216, 15, 7, 7, 1024),
    "135 M": (576, 1536, 30, 9, 3, 49152),
}


# ---- What is measured; each of these is a process of its own, and prints one line of JSON --------
def lesson(kernels: str = "", graphs: str = "1") -> dict:
    """The whole lesson on a terminal: seconds to the first words, the first answer, the end; MB.

    On CUDA, MLX compiles kernels while it runs, and keeps them. `kernels`: "cold" throws away what
    an earlier run kept, "kept" uses it; `graphs`: "0" is without CUDA's graphs.
    """
    if kernels:
        folder = WORK / "kernels"
        if kernels == "cold":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ |= {"MLX_PTX_CACHE_DIR": str(folder), "MLX_USE_CUDA_GRAPHS": graphs}
    start, seen, at = time.perf_counter(), b"", {}
    pid, terminal = pty.fork()
    if not pid:
        command = [sys.executable, str(ROOT / "main.py"), "--adapter-path", str(WORK / "adapters")]
        os.execv(sys.executable, command)
    while True:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        for name, sign in {"first words": b"in one script", "first answer": "→".encode()}.items():
            if sign in seen:
                at.setdefault(name, time.perf_counter() - start)
        if b"Your turn" in seen and "asked" not in at:
            at["asked"] = os.write(terminal, b"\n")
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, seen.decode()[-500:]
    at.pop("asked")
    return at | {"end": time.perf_counter() - start, "MB": usage.ru_maxrss / 1000}


def main_and_model(model: str, data: str, seed: int = 0) -> tuple:
    """(main.py as a module, model, tokenizer, config, rows of each split)."""
    sys.path.insert(0, str(ROOT))
    import mlx.core as mx

    import main
    from lesson import dataset, models

    random.seed(seed)
    mx.random.seed(seed)
    loaded, tokenizer, config = models.load(model)
    examples = dataset.load_data(data, model)
    rows = {s: [main.encode(tokenizer, e) for e in examples[s]] for s in ("train", "valid")}
    return main, loaded, tokenizer, config, rows


def ours(model: str, data: str, batch: int, iters: int, seed: int) -> dict:
    """main.py's own training, without its checks: examples a second, and the last loss of valid."""
    main, loaded, _, config, rows = main_and_model(model, data, seed)
    settings = {
        "iters": iters, "steps_per_eval": iters, "batch_size": batch, "learning_rate": RATE,
        "rehearsed": 0, "rehearsal_weight": 0.0, "seed": seed, "num_layers": -1,
        "fine_tune_type": "lora", "grad_checkpoint": False, "resume_adapter_file": None,
    }  # fmt: skip
    start = time.perf_counter()
    nothing = {"valid": [], "known": [], "everyday": []}  # to look at, or to rehearse
    main.fine_tune(loaded, config, {**rows, **nothing}, str, lora=LORA, **settings)
    seconds = time.perf_counter() - start
    tokens = sum(len(t) for t, _ in rows["train"]) / len(rows["train"]) * batch * iters
    return {
        "examples a second": batch * iters / seconds,
        "ns a token": 1e9 * seconds / tokens,
        "loss of valid": main.held_out_loss(loaded, rows["valid"])[0],
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def mlx_lm_lora(model: str, data: str, batch: int, iters: int, seed: int) -> dict:
    """The same by mlx_lm.lora, compiled as it is; its own figures for the steps."""
    from types import SimpleNamespace

    from mlx_lm import lora
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.utils import load_adapters

    steps = []

    class Noted(TrainingCallback):
        """Keeps what is reported."""

        def on_train_loss_report(self, train_info: dict) -> None:
            """Called after each `steps_per_report` steps."""
            steps.append(train_info["iterations_per_second"])

    lora.get_reporting_callbacks = lambda *_, **__: Noted()
    schedule = {"name": "cosine_decay", "arguments": [RATE, iters]}
    schedule |= {"warmup": max(iters // 10, 1), "warmup_init": RATE / max(iters // 10, 1)}
    settings = {
        "model": model, "data": data, "train": True, "batch_size": batch, "iters": iters,
        "num_layers": -1, "mask_prompt": True, "adapter_path": str(WORK / "mlx-lm"),
        "learning_rate": RATE, "lr_schedule": schedule, "val_batches": -1,
        # Corrected, as ours is: else its first steps are longer than the rate says.
        "optimizer": "adam", "optimizer_config": {"adam": {"bias_correction": True}},
        "steps_per_eval": 10**9, "steps_per_report": iters, "save_every": 10**9,
        "lora_parameters": LORA, "seed": seed,
    }  # fmt: skip
    lora.run(SimpleNamespace(**{**lora.CONFIG_DEFAULTS, **settings}))
    main, loaded, _, _, rows = main_and_model(model, data)  # its own loss counts padding, too
    load_adapters(loaded, str(WORK / "mlx-lm"))
    loss = main.held_out_loss(loaded, rows["valid"])[0]
    return {"examples a second": batch * steps[0], "loss of valid": loss}


def limit(model: str, data: str, batch: int) -> dict:
    """A step's seconds over (4 x parameters x tokens / the rate of a product of 1024 x 1024)."""
    from mlx_lm.utils import get_total_parameters

    main, loaded, _, _, rows = main_and_model(model, data)
    mx, parameters = main.mx, get_total_parameters(loaded)
    loaded.freeze()
    main.linear_to_lora_layers(loaded, -1, LORA)
    loaded.train()
    step, _ = main.make_step(loaded, iters=1000, learning_rate=1e-5)
    some = [*main.batches(rows["train"], batch, random.Random(0))][:6]
    a, b = mx.random.normal((2, 1024, 1024))
    for tokens in some:  # the first pass finds everything new, the memory too
        mx.eval(a, b)
        step(tokens)
    over = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(5):
            mx.eval(a @ b)
        rate = 5 * 2 * 1024**3 / (time.perf_counter() - start)
        start = time.perf_counter()
        for tokens in some:
            step(tokens)
        seconds = time.perf_counter() - start
        read = sum(lengths.sum().item() for _, _, lengths in some)
        over.append(seconds * rate / (4 * parameters * read))
    nanoseconds = 1e9 * seconds / read
    return {"over": median(over), "GFLOP/s": rate / 1e9, "ns a token": nanoseconds} | {
        "ps a token and parameter": 1e3 * nanoseconds / parameters
    }


class WithPeft:
    """The lesson's work with PEFT and transformers: asking, training, held-out losses."""

    def __init__(self, model: str, data: str) -> None:
        """Loads the model in float32, and the examples as rows of tokens."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(0)
        torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
        self.torch, self.tokenizer = torch, AutoTokenizer.from_pretrained(model)
        self.network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.network.to(torch.get_default_device())
        self.end = self.tokenizer.convert_tokens_to_ids(self.tokenizer.eos_token)
        files = {split: Path(data, f"{split}.jsonl") for split in ("test", "train", "valid")}
        files["general"] = Path(model, "general.jsonl")
        self.examples = {
            s: list(map(json.loads, path.read_text().splitlines())) for s, path in files.items()
        }
        self.rows = {s: [self.encode(e) for e in found] for s, found in self.examples.items()}
        longest = max(len(tokens) - prompt for tokens, prompt in self.rows["train"])
        self.max_tokens = longest + 10  # of an answer, as main.py has it

    def encode(self, example: dict) -> tuple[list[int], int]:
        """(tokens, how many of them do not count)."""
        prompt = self.tokenizer.encode(example.get("prompt", ""), add_special_tokens=False)
        answer = example["text"] if "text" in example else "\n" * ("prompt" in example)
        answer += example.get("completion", "")
        tokens = [*prompt, *self.tokenizer.encode(answer, add_special_tokens=False), self.end]
        return tokens, len(prompt)

    def loss(self, rows: list) -> tuple:
        """(mean loss, tokens that count)."""
        longest, tensor = max(len(tokens) for tokens, _ in rows), self.torch.tensor
        pad = [longest - len(tokens) for tokens, _ in rows]
        ids = tensor([t + [self.end] * n for (t, _), n in zip(rows, pad)])
        there = tensor([[1] * len(t) + [0] * n for (t, _), n in zip(rows, pad)])
        labels = tensor([[-100] * a + t[a:] + [-100] * n for (t, a), n in zip(rows, pad)])
        out = self.network(input_ids=ids, attention_mask=there, labels=labels)
        return out.loss, int((labels[:, 1:] != -100).sum())

    def held_out(self, split: str) -> float:
        """Mean loss of all the tokens that count."""
        rows = sorted(self.rows[split], key=lambda row: len(row[0]))
        with self.torch.no_grad():
            parts = [self.loss(rows[i : i + 8]) for i in range(0, len(rows), 8)]
        return sum(loss.item() * n for loss, n in parts) / sum(n for _, n in parts)

    def ask(self, questions: list[str], manual: str = "") -> list[str]:
        """The likeliest answer to each, all at once."""
        rows = [self.tokenizer.encode(manual + q, add_special_tokens=False) for q in questions]
        pad, tensor = [max(map(len, rows)) - len(r) for r in rows], self.torch.tensor
        ids = tensor([[self.end] * n + r for r, n in zip(rows, pad)])
        there = tensor([[0] * n + [1] * len(r) for r, n in zip(rows, pad)])
        out = self.network.generate(
            input_ids=ids, attention_mask=there, max_new_tokens=self.max_tokens, do_sample=False,
            eos_token_id=self.end, pad_token_id=self.end,
        )  # fmt: skip
        return self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    def train(self, iters: int) -> float:
        """Examples a second, without the ten checks; a check asks, and takes the loss of valid."""
        from peft import LoraConfig, get_peft_model

        settings = {"r": 16, "lora_alpha": 64, "lora_dropout": 0.0, "target_modules": "all-linear"}
        self.network = get_peft_model(self.network, LoraConfig(task_type="CAUSAL_LM", **settings))
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer, seconds = self.torch.optim.AdamW(trained, RATE, weight_decay=0.0), 0.0
        rows = sorted(self.rows["train"], key=lambda row: len(row[0]))
        batches = [rows[i : i + 8] for i in range(0, len(rows), 8)]
        first = self.examples["test"][0]
        for step in range(iters + 1):
            start = time.perf_counter()
            if step:
                self.network.train()
                optimizer.param_groups[0]["lr"] = RATE * min(step / (iters // 10), 1)
                optimizer.zero_grad()
                self.loss(random.choice(batches))[0].backward()
                self.torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                self.network.eval()
            seconds += time.perf_counter() - start
            if step % (iters // 10) == 0:
                self.held_out("valid")
                self.ask([e["prompt"] for e in [first, *self.examples["valid"]]])
        return 8 * iters / seconds


def peft(model: str, data: str, iters: int) -> dict:
    """The same lesson with PEFT and transformers: three acts, checks, held-out losses."""
    lesson = WithPeft(model, data)
    test, train, valid = (lesson.examples[split] for split in ("test", "train", "valid"))
    questions = [e["prompt"] for e in [*test, *train, *valid]]
    pages = {e["completion"]: e for e in reversed(train)}.values()
    manual = "".join(f"{e['prompt']}\n{e['completion']}\n\n" for e in pages)
    lesson.ask(questions)
    lesson.ask(questions, f"Questions and answers\n\n{manual}")
    before = [lesson.held_out("test"), lesson.held_out("general")]
    speed = lesson.train(iters)
    lesson.network.save_pretrained(WORK / "peft-adapters")
    said = lesson.ask(questions)
    return {
        "examples a second": speed,
        "right": sum(a.strip() == e["completion"] for a, e in zip(said, test)),
        "losses": [before, [lesson.held_out("test"), lesson.held_out("general")]],
        "tokens of an answer": lesson.max_tokens,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def peft_training(model: str, data: str, iters: int) -> dict:
    """The training alone, with PEFT and transformers, where PyTorch finds a GPU on that."""
    return {"examples a second": WithPeft(model, data).train(iters)}


# ---- The models and the data of the measurements -----------------------------------------------
def make_inputs() -> None:
    """Writes the base model with a chat template, bigger ones with random weights, and the data.

    mlx_lm.lora takes questions and answers of models with a template only, so both get this one.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama
    from transformers import AutoTokenizer

    config = json.loads((BASE / "config.json").read_text())
    words = json.loads((BASE / "tokenizer_config.json").read_text())
    words["chat_template"] = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' %}\n"
        "{% else %}" + words["eos_token"] + "{% endif %}{% endfor %}"
    )
    for name, shape in SHAPES.items():
        folder = WORK / name
        shutil.copytree(BASE, folder, dirs_exist_ok=True)
        (folder / "tokenizer_config.json").write_text(json.dumps(words))
        if name != "3 M":
            made = {**config, **dict(zip(SIZES, shape)), "max_position_embeddings": 2048}
            (folder / "config.json").write_text(json.dumps(made))
            mx.random.seed(0)
            weights = dict(tree_flatten(llama.Model(llama.ModelArgs.from_dict(made)).parameters()))
            mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    texts = [json.loads(line) for line in (BASE / "general.jsonl").read_text().splitlines()]
    text = tokenizer.encode(" ".join(e.get("text") or e["completion"] for e in texts))
    kinds = {"mixed": (1000, 10, 200), "short": (100, 20, 60)}
    kinds |= {f"growth {n}": (n, 15, 30) for n in (10, 100, 1000, 10_000)}
    for name, (number, least, most) in kinds.items():
        rng, folder = random.Random(0), WORK / name
        folder.mkdir(exist_ok=True)
        for split, size in {"train": number, "valid": 40, "test": 1}.items():
            examples = []
            for _ in range(size):
                length = rng.randint(least, most) - 2  # a line break and the end are added
                at = rng.randrange(len(text) - length)
                halves = text[at : at + length // 2], text[at + length // 2 : at + length]
                prompt, completion = (tokenizer.decode(h).strip() or "so" for h in halves)
                examples.append(json.dumps({"prompt": prompt, "completion": completion}))
            (folder / f"{split}.jsonl").write_text("\n".join(examples) + "\n")


def make_peft() -> None:
    """An environment with PEFT and PyTorch, where there is none yet."""
    if not PEFT.exists():
        subprocess.run([sys.executable, "-m", "venv", PEFT.parents[1]], check=True)
        same = f"transformers=={importlib.metadata.version('transformers')}"
        packages = ["torch==2.13.0", "peft", same]
        subprocess.run([PEFT, "-m", "pip", "install", "--quiet", *packages], check=True)


# ---- All of it -----------------------------------------------------------------------------------
def measure(
    name: str, *values: object, python: str | Path = sys.executable, processes: int = 0
) -> dict:
    """What one of the functions above gives, run in a process of its own; and its seconds.

    `processes`: so many by mlx.launch, each with one thread for its products.
    """
    start, environment = time.perf_counter(), dict(os.environ)
    command = [str(python), __file__, "--measure", json.dumps([name, *values])]
    if processes:
        command = [
            str(Path(sys.executable).with_name("mlx.launch")),
            "-n",
            str(processes),
            *command,
        ]
        environment["OPENBLAS_NUM_THREADS"] = "1"
    stdin, open_end = os.pipe()  # at the end of its input, mlx.launch would look without pause
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=WORK, env=environment, stdin=stdin
    )
    os.close(stdin), os.close(open_end)
    if done.returncode or not done.stdout.strip():
        sys.exit(f"{name} {values}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": time.perf_counter() - start}


def rounds(number: int, only: list[str], with_peft: str | Path) -> dict[str, list[dict]]:
    """All measurements, `number` times, each round after the other."""
    three, big = str(WORK / "3 M"), str(WORK / "135 M")
    runs = {
        "lesson": {"lesson": ("lesson",)},
        "training": {
            f"{how} {what}": (name, model, str(data), batch, iters)
            for what, model, data, batch, iters in (
                ("shipped", three, DATA, 8, 100),
                ("mixed", three, WORK / "mixed", 8, 60),
                ("135 M", big, WORK / "short", 4, 10),
            )
            for how, name in (("ours", "ours"), ("mlx_lm", "mlx_lm_lora"))
        },
        "peft": {"peft": ("peft", str(BASE), str(DATA), 100)},
        "limit": {
            "limit 3 M": ("limit", three, str(DATA), 8),
            "limit 135 M": ("limit", big, str(WORK / "short"), 4),
        },
        "growth": {
            f"growth {n}": ("ours", three, str(WORK / f"growth {n}"), 8, 50)
            for n in (10, 100, 1000, 10_000)
        }
        | {f"size {s}": ("limit", str(WORK / s), str(WORK / "short"), 4) for s in SHAPES},
        "processes": {f"processes {n}": ("ours", three, str(DATA), 8, 50) for n in ("1", "2")},
        "gpu": {
            "lesson cold": ("lesson", "cold"),
            "lesson kept": ("lesson", "kept"),
            "lesson without graphs": ("lesson", "kept", "0"),
            "ours on this device": ("ours", big, str(WORK / "short"), 8, 20),
            "peft on this device": ("peft_training", big, str(WORK / "short"), 20),
        },
    }
    results = {}
    for turn in range(number):
        for group in only:
            for name, run in runs[group].items():
                seed = [turn] if run[0] in ("ours", "mlx_lm_lora") else []
                python = with_peft if run[0].startswith("peft") else sys.executable
                number = int(name.split()[1]) if group == "processes" else 0
                measured = measure(*run, *seed, python=python, processes=number)
                results.setdefault(name, []).append(measured)
                print(f"round {turn + 1}: {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


class Table:
    """Rows of medians: what, this program, the other, and the ratio or the bar."""

    def __init__(self, results: dict[str, list[dict]]) -> None:
        """Makes the rows of what was measured, part by part."""
        self.results, self.rows, self.missed = results, [], []
        self.lesson()
        self.training()
        self.peft()
        self.limit()
        self.growth()
        self.processes()
        self.gpu()

    def of(self, name: str, figure: str) -> float:
        """The median over the rounds."""
        return median(r[figure] for r in self.results[name])

    def ratio(self, above: tuple[str, str], below: tuple[str, str]) -> float:
        """The median of the ratios of each round; above and below: (name, figure)."""
        pairs = zip(self.results[above[0]], self.results[below[0]])
        return median(a[above[1]] / b[below[1]] for a, b in pairs)

    def add(self, what: str, here: str, other: str = "", ratio: str = "", met: bool = True) -> None:
        """One row, and whether its bar was met."""
        self.rows.append(f"{what:38}{here:>14}{other:>16}  {ratio}{'' if met else '  MISSED'}")
        self.missed += [] if met else [what]

    def lesson(self) -> None:
        """The whole lesson: seconds to the first words, the first answer and the end; memory."""
        if "lesson" in self.results:
            for figure, bar in {"first words": 1, "first answer": 4, "end": 15}.items():
                seconds = self.of("lesson", figure)
                shown, met = f"{seconds:.2f} s", seconds <= bar
                self.add(f"lesson: {figure}", shown, ratio=f"bar {bar} s", met=met)
            memory = self.of("lesson", "MB")
            self.add("lesson: memory", f"{memory:.0f} MB", ratio="bar 600 MB", met=memory <= 600)

    def training(self) -> None:
        """The training, beside mlx_lm.lora: examples a second, and the loss of valid."""
        for what, bar in {"shipped": 2, "mixed": 1.5, "135 M": 1}.items():
            if f"ours {what}" in self.results:
                for figure in ("examples a second", "loss of valid"):
                    names = (f"ours {what}", figure), (f"mlx_lm {what}", figure)
                    ratio, speed = self.ratio(*names), figure == "examples a second"
                    met = ratio >= bar if speed else round(ratio, 2) <= 1
                    shown = f"{ratio:.2f} x (bar {bar if speed else 'at most 1'})"
                    both = [f"{self.of(*name):.3f}" for name in names]
                    self.add(f"training, {what}: {figure}", *both, shown, met)

    def peft(self) -> None:
        """The whole process, beside PEFT and PyTorch."""
        if {"lesson", "peft"} <= self.results.keys():
            ratio = self.ratio(("peft", "process"), ("lesson", "end"))
            both = [f"{self.of('lesson', 'end'):.1f} s", f"{self.of('peft', 'process'):.1f} s"]
            self.add("whole process, PEFT", *both, f"{ratio:.2f} x (bar 1)", ratio >= 1)
            both = [f"{self.of(name, 'MB'):.0f} MB" for name in ("lesson", "peft")]
            self.add("memory, PEFT", *both)
        if {"ours shipped", "peft"} <= self.results.keys():
            names = ("ours shipped", "examples a second"), ("peft", "examples a second")
            ratio, both = self.ratio(*names), [f"{self.of(*name):.0f}" for name in names]
            shown = f"{ratio:.2f} x (bar 1)"
            self.add("training, PEFT: examples a second", *both, shown, ratio >= 1)

    def limit(self) -> None:
        """A step, over what its products of matrices alone would take."""
        for what, bar in {"3 M": 4, "135 M": 2.2}.items():
            if (name := f"limit {what}") in self.results:
                rate = f"at {self.of(name, 'GFLOP/s'):.0f} GFLOP/s"
                over = self.of(name, "over")
                self.add(f"step over limit, {what}", f"{over:.2f}", rate, f"bar {bar}", over <= bar)

    def growth(self) -> None:
        """Time and memory against examples; time against parameters, and a straight line."""
        if "growth 10" not in self.results:
            return
        for name in (name for name in self.results if name.startswith("growth ")):
            each = f"{self.of(name, 'ns a token') / 1e3:.0f} us/token"
            ratio = self.ratio((name, "ns a token"), ("growth 10", "ns a token"))
            memory = f"{self.of(name, 'MB'):.0f} MB"
            self.add(f"{name.removeprefix('growth ')} examples", each, memory, f"{ratio:.2f} x")
        times = {n: self.of(n, "ns a token") / 1e3 for n in self.results if n.startswith("size ")}
        sizes = [1e6 * t / self.of(n, "ps a token and parameter") for n, t in times.items()]
        weights = [1 / t for t in times.values()]  # so that it is relative errors that are small
        slope, fixed = np.polyfit(sizes, [*times.values()], 1, w=weights)
        for (name, measured), size in zip(times.items(), sizes):
            off = measured / (fixed + slope * size) - 1
            each = f"{self.of(name, 'ps a token and parameter'):.0f} ps each"
            what = f"{name.removeprefix('size ')} parameters"
            shown, met = f"{off:+.0%} off the line (bar 20 %)", abs(off) <= 0.2
            self.add(what, f"{measured:.0f} us/token", each, shown, met)

    def processes(self) -> None:
        """A step of one process and of two, which share the cores."""
        if "processes 1" in self.results:
            names = ("processes 2", "examples a second"), ("processes 1", "examples a second")
            both = [f"{8000 / self.of(*name):.0f} ms" for name in reversed(names)]
            self.add("a step, 1 and 2 processes", *both, f"{1 / self.ratio(*names):.2f} x")

    def gpu(self) -> None:
        """The lesson before and after its kernels are compiled, and training beside PEFT's."""
        if "lesson cold" not in self.results:
            return
        for name, bar in {"lesson cold": 30, "lesson kept": 15}.items():
            seconds = self.of(name, "end")
            self.add(name, f"{seconds:.1f} s", ratio=f"bar {bar} s", met=seconds <= bar)
        self.add("lesson without graphs", f"{self.of('lesson without graphs', 'end'):.1f} s")
        names = [(f"{who} on this device", "examples a second") for who in ("ours", "peft")]
        ratio, both = self.ratio(*names), [f"{self.of(*name):.1f}" for name in names]
        what = "135 M, PEFT: examples a second"
        self.add(what, *both, f"{ratio:.2f} x (bar 1)", ratio >= 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="lesson,training,peft,limit,growth,processes")
    parser.add_argument("--peft-python", type=Path, default=PEFT)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        function, *values = json.loads(args.measure)
        print(json.dumps(globals()[function](*values) or {}))
        sys.exit()
    WORK.mkdir(exist_ok=True)
    measure("make_inputs")  # elsewhere, so that this process stays small, and what it starts, too
    only = args.only.split(",")
    if {"peft", "gpu"} & {*only} and args.peft_python == PEFT:
        make_peft()
    results = rounds(args.rounds, only, args.peft_python)
    versions = {
        name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "transformers")
    }
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        ", ".join(f"{name} {v}" for name, v in versions.items()), f"; {args.rounds} rounds, medians"
    )
    print(f"{'':38}{'main.py':>14}{'the other':>16}  ratio or bar")
    table = Table(results)
    print("\n".join(table.rows))
    sys.exit(f"missed: {', '.join(table.missed)}" if table.missed else 0)
