#!/usr/bin/env python3
"""How fast the lesson is, beside what people would use instead: one table of medians.

.venv/bin/python3 tests/benchmark.py [--rounds 5] [--only lesson,training,peft,limit,growth]

Each thing measured is a process of its own, and each round has all of them, one after the other, so
that what else the machine does meets all alike. PEFT and PyTorch go into an environment of their own,
in the temporary folder. Five rounds take some half an hour on 2 cores. By hand; not one of the tests.
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

ROOT = Path(__file__).resolve().parents[1]
BASE, DATA = ROOT / "assets" / "base-model", ROOT / "data"
WORK = Path(tempfile.gettempdir()) / "learn-fine-tuning-benchmark"
PEFT = WORK / "peft" / "bin" / "python3"
RATE, LORA = 9e-4, {"rank": 16, "scale": 4.0, "dropout": 0.0}
SHAPES = {  # Llamas from 3 million parameters, as the embedded one, to SmolLM2-135M
    "3 M": {},
    "11 M": {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 9},
    "36 M": {"hidden_size": 448, "intermediate_size": 1216, "num_hidden_layers": 15},
    "135 M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30},
}


# ---- What is measured; each of these is a process of its own, and prints one line of JSON --------
def lesson() -> dict:
    """The whole lesson on a terminal: seconds to the first words, the first answer, the end; MB."""
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

    import checks
    import main

    random.seed(seed)
    mx.random.seed(seed)
    loaded, tokenizer, config = main.load_model(model)
    examples = checks.load_data(data, model)
    rows = {s: [main.encode(tokenizer, e) for e in examples[s]] for s in ("train", "valid")}
    return main, loaded, tokenizer, config, rows


def ours(model: str, data: str, batch: int, iters: int, seed: int) -> dict:
    """main.py's own training, without its checks: examples a second, and the last loss of valid."""
    main, loaded, _, config, rows = main_and_model(model, data, seed)
    main.checks.save_adapters = lambda *_: None
    args = argparse.Namespace(
        iters=iters, batch_size=batch, learning_rate=RATE, num_layers=-1, fine_tune_type="lora",
        seed=seed, judge=False, grad_checkpoint=False, resume_adapter_file=None,
    )  # fmt: skip
    start, unseen = time.perf_counter(), {"answer": "", "right": 0, "of": 0}
    main.fine_tune(loaded, {**rows, "valid": []}, args, config, lambda: unseen)
    seconds = time.perf_counter() - start
    tokens = sum(len(t) for t, _ in rows["train"]) / len(rows["train"]) * batch * iters
    return {
        "examples a second": batch * iters / seconds,
        "ns a token": 1e9 * seconds / tokens,
        "loss of valid": main.held_out_loss(loaded, rows["valid"]),
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def mlx_lm_lora(model: str, data: str, batch: int, iters: int, seed: int) -> dict:
    """The same by mlx_lm.lora, compiled as it is; its own figures for the steps."""
    from types import SimpleNamespace

    from mlx_lm import lora
    from mlx_lm.tuner.callbacks import TrainingCallback

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
        "learning_rate": RATE, "lr_schedule": schedule, "optimizer": "adamw", "val_batches": -1,
        "steps_per_eval": 10**9, "steps_per_report": iters, "save_every": 10**9,
        "lora_parameters": LORA, "seed": seed,
    }  # fmt: skip
    lora.run(SimpleNamespace(**{**lora.CONFIG_DEFAULTS, **settings}))
    main, loaded, _, _, rows = main_and_model(model, data)  # its own loss counts padding, too
    main.checks.load_adapters(loaded, str(WORK / "mlx-lm"))
    loss = main.held_out_loss(loaded, rows["valid"])
    return {"examples a second": batch * steps[0], "loss of valid": loss}


def limit(model: str, data: str, batch: int) -> dict:
    """A step's seconds over (4 x parameters x tokens / the rate of a product of 1024 x 1024)."""
    main, loaded, _, _, rows = main_and_model(model, data)
    mx, parameters = main.mx, main.checks.get_total_parameters(loaded)
    loaded.freeze()
    main.linear_to_lora_layers(loaded, -1, LORA)
    loaded.train()
    step, state = main.make_step(loaded, argparse.Namespace(learning_rate=1e-5, iters=1000), 10)
    some = [*main.batches(rows["train"], batch, random.Random(0))][:6]
    a, b = mx.random.normal((2, 1024, 1024))
    for tokens in some:  # the first pass finds everything new, the memory too
        mx.eval(a, b, step(*tokens), state)
    over = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(5):
            mx.eval(a @ b)
        rate = 5 * 2 * 1024**3 / (time.perf_counter() - start)
        start = time.perf_counter()
        for tokens in some:
            mx.eval(step(*tokens), state)
        seconds = time.perf_counter() - start
        read = sum(lengths.sum().item() for _, _, lengths in some)
        over.append(seconds * rate / (4 * parameters * read))
    nanoseconds = 1e9 * seconds / read
    return {"over": median(over), "GFLOP/s": rate / 1e9, "ns a token": nanoseconds} | {
        "ps a token and parameter": 1e3 * nanoseconds / parameters
    }


def peft(model: str, data: str, iters: int) -> dict:
    """The same lesson with PEFT and transformers: three acts, checks on the way, held-out losses."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def read(split: str) -> list[dict]:
        """The examples of a file, if there is one."""
        path = Path(data, f"{split}.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines() if line]

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
    splits = {split: read(split) for split in ("train", "valid", "test")}
    questions = [e["prompt"] for s in ("test", "train", "valid") for e in splits[s]]
    pages = {e["completion"]: e for e in reversed(splits["train"])}
    manual = "Questions and answers\n\n" + "".join(
        f"{e['prompt']}\n{e['completion']}\n\n" for e in pages.values()
    )

    def encode(example: dict) -> tuple[list[int], int]:
        """(tokens, how many of them do not count)."""
        asked = tokenizer.encode(example.get("prompt", ""), add_special_tokens=False)
        said = "\n" * ("prompt" in example) + example.get("completion", example.get("text", ""))
        return [*asked, *tokenizer.encode(said, add_special_tokens=False), end], len(asked)

    def batch_loss(rows: list) -> tuple:
        """(mean loss, tokens that count)."""
        longest = max(len(tokens) for tokens, _ in rows)
        ids = torch.tensor([t + [end] * (longest - len(t)) for t, _ in rows])
        there = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t, _ in rows])
        labels = torch.tensor([[-100] * n + t[n:] + [-100] * (longest - len(t)) for t, n in rows])
        out = network(input_ids=ids, attention_mask=there, labels=labels)
        return out.loss, int((labels[:, 1:] != -100).sum())

    @torch.no_grad()
    def held_out(rows: list) -> float:
        """Mean loss of all the tokens that count."""
        rows = sorted(rows, key=lambda row: len(row[0]))
        parts = [batch_loss(rows[i : i + 8]) for i in range(0, len(rows), 8)]
        return sum(loss.item() * n for loss, n in parts) / sum(n for _, n in parts)

    @torch.no_grad()
    def ask(texts: list[str], before: str = "") -> list[str]:
        """The likeliest answer to each, all at once."""
        rows = [tokenizer.encode(before + t, add_special_tokens=False) for t in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([[end] * (longest - len(r)) + r for r in rows])
        there = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        settings = {"max_new_tokens": 36, "do_sample": False, "eos_token_id": end}
        out = network.generate(input_ids=ids, attention_mask=there, pad_token_id=end, **settings)
        return tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)

    start = time.perf_counter()
    ask(questions)
    ask(questions, manual)
    rows = {split: [encode(e) for e in splits[split]] for split in splits}
    general = [json.loads(line) for line in Path(model, "general.jsonl").read_text().splitlines()]
    general = [encode(e) for e in general]
    before = [held_out(rows["test"]), held_out(general)]
    settings = {"r": 16, "lora_alpha": 64, "lora_dropout": 0.0, "target_modules": "all-linear"}
    network = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", **settings))
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], RATE, weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / 10, 1))
    by_length = sorted(rows["train"], key=lambda row: len(row[0]))
    groups = [by_length[i : i + 8] for i in range(0, len(by_length), 8)]
    trained = 0.0
    for number in range(iters + 1):
        if number:
            began = time.perf_counter()
            network.train()
            loss, _ = batch_loss(random.choice(groups))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            network.eval()
            trained += time.perf_counter() - began
        if number % (iters // 10) == 0:
            held_out(rows["valid"])
            ask([questions[0], *(e["prompt"] for e in splits["valid"])])
    network.save_pretrained(WORK / "peft-adapters")
    said = ask(questions)
    after = [held_out(rows["test"]), held_out(general)]
    right = sum(a.strip() == e["completion"] for a, e in zip(said, splits["test"]))
    return {
        "after imports": time.perf_counter() - start,
        "examples a second": 8 * iters / trained,
        "right": right,
        "losses": [before, after],
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


# ---- The models and the data of the measurements --------------------------------------------------
def make_inputs() -> dict:
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
    heads = {"3 M": 4, "11 M": 5, "36 M": 7, "135 M": 9}
    for name, shape in SHAPES.items():
        folder = WORK / name
        shutil.copytree(BASE, folder, dirs_exist_ok=True)
        (folder / "tokenizer_config.json").write_text(json.dumps(words))
        if shape:
            kv = {"num_attention_heads": heads[name], "num_key_value_heads": heads[name]}
            if name == "135 M":
                kv |= {"num_key_value_heads": 3, "vocab_size": 49152}
            made = {**config, **shape, **kv, "max_position_embeddings": 2048}
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
    return {}


def make_peft() -> None:
    """An environment with PEFT and PyTorch, where there is none yet."""
    if not PEFT.exists():
        subprocess.run([sys.executable, "-m", "venv", PEFT.parents[1]], check=True)
        same = f"transformers=={importlib.metadata.version('transformers')}"
        packages = ["torch==2.13.0", "peft", same]
        subprocess.run([PEFT, "-m", "pip", "install", "--quiet", *packages], check=True)


# ---- All of it -----------------------------------------------------------------------------------
def measure(name: str, *values, python: str | Path = sys.executable) -> dict:
    """What one of the functions above gives, run in a process of its own; and its seconds."""
    start = time.perf_counter()
    command = [str(python), __file__, "--measure", json.dumps([name, *values])]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=WORK)
    if done.returncode:
        sys.exit(f"{name} {values}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": time.perf_counter() - start}


def rounds(number: int, only: list[str]) -> dict[str, list[dict]]:
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
        | {
            f"size {s}": ("limit", str(WORK / s), str(WORK / "short"), 4)
            for s in SHAPES
            if s != "135 M"
        },
    }
    results = {}
    for turn in range(number):
        for group in only:
            for name, run in runs[group].items():
                seed = [turn] if run[0] in ("ours", "mlx_lm_lora") else []
                python = PEFT if name == "peft" else sys.executable
                results.setdefault(name, []).append(measure(*run, *seed, python=python))
                print(f"round {turn + 1}: {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


def table(results: dict[str, list[dict]]) -> list[tuple[str, str, str, str]]:
    """Rows: what, this program, the other, and the ratio or the bar."""

    def of(name: str, figure: str) -> float:
        """The median over the rounds."""
        return median(r[figure] for r in results[name])

    rows = []
    if "lesson" in results:
        for figure, bar in {"first words": 1, "first answer": 4, "end": 15}.items():
            rows.append((f"lesson: {figure}", f"{of('lesson', figure):.2f} s", "", f"bar {bar} s"))
        rows.append(("lesson: memory", f"{of('lesson', 'MB'):.0f} MB", "", "bar 600 MB"))
    for what, bar in {"shipped": 2, "mixed": 1.5, "135 M": 1}.items():
        if f"ours {what}" in results:
            pairs = zip(results[f"ours {what}"], results[f"mlx_lm {what}"])
            ratio = median(a["examples a second"] / b["examples a second"] for a, b in pairs)
            speeds = [
                f"{of(f'{how} {what}', 'examples a second'):.1f}" for how in ("ours", "mlx_lm")
            ]
            rows.append((f"training, {what}: examples/s", *speeds, f"{ratio:.2f} x (bar {bar})"))
            losses = [f"{of(f'{how} {what}', 'loss of valid'):.3f}" for how in ("ours", "mlx_lm")]
            rows.append((f"training, {what}: loss of valid", *losses, ""))
    if {"lesson", "peft"} <= results.keys():
        pairs = zip(results["peft"], results["lesson"])
        ratio = median(a["process"] / b["end"] for a, b in pairs)
        ends = [f"{of('lesson', 'end'):.1f} s", f"{of('peft', 'process'):.1f} s"]
        rows.append(("whole process, PEFT", *ends, f"{ratio:.2f} x (bar 1)"))
        sizes = [f"{of('lesson', 'MB'):.0f} MB", f"{of('peft', 'MB'):.0f} MB"]
        rows.append(("memory, PEFT", *sizes, ""))
    for what, bar in {"3 M": 4, "135 M": 2.2}.items():
        if f"limit {what}" in results:
            over = f"{of(f'limit {what}', 'over'):.2f}"
            rate = f"at {of(f'limit {what}', 'GFLOP/s'):.0f} GFLOP/s"
            rows.append((f"step over limit, {what}", over, rate, f"bar {bar}"))
    growth = [name for name in results if name.startswith("growth")]
    first = growth[0] if growth else ""
    for name in growth:
        ratio = of(name, "ns a token") / of(first, "ns a token")
        time_, size = f"{of(name, 'ns a token') / 1e3:.0f} us/token", f"{of(name, 'MB'):.0f} MB"
        rows.append((f"{name.removeprefix('growth ')} examples", time_, size, f"{ratio:.2f} x"))
    sizes = [name for name in results if name.startswith("size")]
    for name in [*sizes, "limit 135 M"] if sizes and "limit 135 M" in results else []:
        each = "ps a token and parameter"
        ratio = of(name, each) / of("limit 135 M", each)
        time_ = f"{of(name, 'ns a token') / 1e3:.0f} us/token"
        rows.append(
            (
                f"{name.split(' ', 1)[1]} parameters",
                time_,
                f"{of(name, each):.1f} ps",
                f"{ratio:.2f} x",
            )
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="lesson,training,peft,limit,growth")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        function, *values = json.loads(args.measure)
        print(json.dumps(globals()[function](*values)))
        sys.exit()
    WORK.mkdir(exist_ok=True)
    measure("make_inputs")  # elsewhere, so that this process stays small, and what it starts, too
    only = args.only.split(",")
    if "peft" in only:
        make_peft()
    results = rounds(args.rounds, only)
    versions = {
        name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "transformers")
    }
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        ", ".join(f"{name} {v}" for name, v in versions.items()), f"; {args.rounds} rounds, medians"
    )
    print(f"{'':38}{'main.py':>14}{'the other':>16}  ratio or bar")
    for what, here, other, ratio in table(results):
        print(f"{what:38}{here:>14}{other:>16}  {ratio}")
