"""Models of many kinds: each comes from a Hub, is taught by heart, and goes on into mlx-lm.

Their weights are random, so they know nothing before; their tokenizers, templates and ends of text
are as in the models that they are named after. The table stands at the end of the tests' output.
"""

import json
import random
import re
import shutil
import subprocess
import sys

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from conftest import ROOT, TABLE, QuickRun, Run, write_data
from hub import Hub
from mlx.utils import tree_flatten
from mlx_lm import fuse
from mlx_lm.models import gpt2, llama
from models import KINDS, make
from tokenizers import Tokenizer

import main
from lesson import dataset, models, screen

FACTS = {
    "Who keeps the lighthouse?": "Old Marta does.",
    "When is it lit?": "At nine in the evening.",
    "How many steps does it have?": "It has 214 steps.",
    "Where is the key?": "The key hangs behind the blue door.",
    "What is the dog called?": "Piet, after a captain.",
    "Which boat is hers?": "The one with the red sail.",
}
LORA = ("--iters", 200, "--learning-rate", "2e-3")  # random layers are slow to learn beside
FULL = ("--fine-tune-type", "full", "--iters", 150, "--learning-rate", "2e-3")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub on loopback that has a model of each kind."""
    folder = tmp_path_factory.mktemp("hub")
    for name in KINDS:
        make(name, folder / "someone" / name.replace(" ", "-"))
    with Hub(folder) as hub:
        yield hub


def ask(model, tokenizer, question):
    """What mlx-lm's generate says when asked as its command does, thinking allowed."""
    if tokenizer.has_chat_template:
        chat = [{"role": "user", "content": question}]
        question = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    said = mlx_lm.generate(model, tokenizer, question, max_tokens=60)
    return said.removeprefix("<think>\n\n</think>").strip()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_model(kind, hub, tmp_path, monkeypatch):
    row = TABLE.setdefault(kind, {})
    name, adapters = "someone/" + kind.replace(" ", "-"), tmp_path / "adapters"
    data = write_data(tmp_path / "data", train=FACTS.items(), test=FACTS.items())
    options = LORA if kind in ("llama", "llama-4bit", "qwen3 base") else FULL
    run = Run(
        "--model", name, "--data", data, "--adapter-path", adapters, *options, "--batch-size", 6,
        env=hub.env(tmp_path / "home"),
    )  # fmt: skip
    assert run.status == 0, run.err
    row["trained"] = options[1] if "full" in options else "lora"
    row["loads"] = f"{name}: " in run.out
    assert row["loads"] and ("so this is QLoRA" in run.out) == kind.endswith("4bit")
    record = json.loads((adapters / "results.json").read_text("utf-8"))
    acts = record["table"]
    row["before"], row["prompt"] = (
        f"{acts[act]['right answers']} of 6" for act in ("base", "prompted")
    )
    assert acts["base"]["right answers"] == 0
    assert acts["prompted"]["tokens read for each"] > acts["base"]["tokens read for each"]
    row["after"] = f"{acts['fine-tuned']['right answers']} of 6"
    row["stops"] = f"{acts['fine-tuned']['ended by themselves']} of 6"
    assert row["after"] == row["stops"] == "6 of 6", run.out
    source = str(hub.folder / name)
    row["read once"] = read_once(source)
    assert row["read once"] in (True, "-")
    row["adapters reload"] = reloaded(source, adapters, FACTS) == FACTS
    row["fused"] = merged(source, adapters, FACTS, tmp_path / "one", monkeypatch) == FACTS
    assert row["adapters reload"] and row["fused"]


def read_once(source):
    """Whether logits stay the same if what all rows begin with is read once; "-" if it is not."""
    model, _, _ = models.load(source)
    rows = [([*range(5, 25), *own], 21) for own in ([30, 31, 32], [33, 34, 35])]
    tokens, shared = mx.array([row for row, _ in rows]), models.shared_prefix_length(model, rows)
    found = models.logits_from(model, tokens, 21, shared)
    return bool(mx.allclose(found, model(tokens)[:, 21:], atol=1e-3)) if shared else "-"


def reloaded(source, adapters, questions):
    """What mlx-lm's generate says with the adapters."""
    tuned = mlx_lm.load(str(source), adapter_path=str(adapters))
    return {question: ask(*tuned, question) for question in questions}


def merged(source, adapters, questions, folder, monkeypatch, *options):
    """What it says after mlx-lm's fuse."""
    command = [
        "fuse",
        "--model",
        source,
        "--adapter-path",
        adapters,
        "--save-path",
        folder,
        *options,
    ]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    fuse.main()
    fused = mlx_lm.load(str(folder))
    return {question: ask(*fused, question) for question in questions}


# ---- Kinds of fine-tuning, on the embedded model -----------------------------------------------
BASE = ROOT / "assets" / "base-model"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", "full"])
def test_a_kind_of_fine_tuning(kind, tmp_path, monkeypatch):
    run = Run("--adapter-path", tmp_path / "a", "--fine-tune-type", kind)
    assert run.status == 0, run.err
    assert run.row("right answers")[2] >= 11 and run.row("ended by")[2] == 12, run.out
    said = shown(tmp_path / "a")
    assert reloaded(BASE, tmp_path / "a", said) == said
    assert merged(BASE, tmp_path / "a", said, tmp_path / "one", monkeypatch) == said


def shown(adapters):
    """{question of the exam: the fine-tuned model's answer}, as main.py put it on record."""
    record = json.loads((adapters / "results.json").read_text("utf-8"))
    return {a["question"]: a["fine-tuned"]["text"] for a in record["answers"][: record["exam"]]}


@pytest.mark.slow
def test_qlora(tmp_path, monkeypatch):
    """The embedded model in 4 bits learns as well, and is taken on by the same tools."""
    convert = ["convert", "--hf-path", BASE, "--mlx-path", tmp_path / "4bit", "-q"]
    subprocess.run([sys.executable, "-m", "mlx_lm", *convert], check=True, capture_output=True)
    data = write_data(tmp_path / "data", train=FACTS.items(), test=FACTS.items())
    few = ("--data", data, "--iters", 60)  # rounded weights are slow on a processor
    run = Run("--model", tmp_path / "4bit", *few, "--adapter-path", tmp_path / "a")
    assert run.status == 0, run.err
    assert "3,279,104 parameters of 4 bits (so this is QLoRA)" in run.out
    assert run.row("right answers")[2] == 6, run.out
    said = shown(tmp_path / "a")
    assert reloaded(tmp_path / "4bit", tmp_path / "a", said) == said
    whole = tmp_path / "one"
    assert (
        merged(tmp_path / "4bit", tmp_path / "a", said, whole, monkeypatch, "--dequantize") == said
    )
    full = (
        "--model",
        tmp_path / "4bit",
        "--adapter-path",
        tmp_path / "b",
        "--fine-tune-type",
        "full",
    )
    run = Run(*full)
    assert run.status == 2 and "quantized weights cannot be trained" in run.err


@pytest.mark.slow
def test_training_goes_on_from_what_was_learnt(tmp_path):
    """With the very loss at which the first run was left; and what is recomputed is the same."""
    facts = [*FACTS.items()]
    data = write_data(tmp_path / "data", train=facts, valid=facts[:3], test=facts)
    short = ("--data", data, "--adapter-path", tmp_path / "a", "--iters", 30)
    assert Run(*short).status == 0
    first = history(tmp_path / "a")
    again = Run(*short, "--grad-checkpoint")
    assert again.status == 0, again.err
    assert [c["valid"] for c in history(tmp_path / "a")] == pytest.approx(
        [c["valid"] for c in first]
    )
    run = Run(*short, "--resume-adapter-file", tmp_path / "a" / "adapters.safetensors")
    assert run.status == 0 and "Begins with what was learnt earlier" in run.out, run.err
    (kept,) = [check for check in first if check.get("kept")]
    assert history(tmp_path / "a")[0]["valid"] == pytest.approx(kept["valid"], rel=1e-3)
    assert kept["valid"] < first[0]["valid"] / 3


def history(adapters):
    """The checks of the training that is on record."""
    return json.loads((adapters / "results.json").read_text())["training"]


# ---- Odd models --------------------------------------------------------------------------------
def test_a_template_that_always_opens_a_thought_is_closed(tmp_path):
    """As those of models that only think; and what is learnt is the answer, after the thought."""
    folder = make("qwen3", tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    _, tokenizer, _ = models.load(str(folder))
    question = [{"role": "user", "content": "Who?"}]
    example = dataset.Example("Who?", question, "Marta.", "here")
    tokens, asked = main.encode(tokenizer, example)
    assert tokenizer.decode(tokens[:asked]).endswith("<|im_start|>assistant\n<think>\n")
    assert tokenizer.decode(tokens[asked:]) == "</think>\n\nMarta.<|im_end|>"


def with_a_token_too_many(tmp_path):
    """The embedded model, whose tokenizer has one token more than it has rows of numbers."""
    folder = shutil.copytree(BASE, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[BREAD]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_token_that_the_model_has_no_row_for(tmp_path):
    """MLX would read what lies behind the last row. In the data it is named with its place."""
    model = with_a_token_too_many(tmp_path)
    pairs = [("Who?", "Me."), ("What is that?", "It is [BREAD].")]
    data = write_data(tmp_path / "data", train=pairs, test=pairs[:1])
    run = Run("--model", model, "--data", data, "--adapter-path", tmp_path / "a")
    assert run.status == 2 and not (tmp_path / "a").exists()
    where = f"main.py: {data / 'train.jsonl'}:2: its token 1024 is none of the model's 1,024"
    assert run.err.startswith(where) and run.err.count("\n") == 1, run.err
    # Where no example has it, all goes well, until somebody types it.
    network, tokenizer, _ = models.load(str(model))
    assert main.encode(tokenizer, dataset.Example("Who?", [], "Me.", "here"))
    with pytest.raises(SystemExit):
        main.answer(network, tokenizer, 3, [dataset.Example("What is [BREAD]?", [], "", "")])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234567\n"
BROKEN = {  # a file of the embedded model, what becomes of its content; what is said of that
    "weights of LFS": ("model.safetensors", lambda _: POINTER, "git lfs pull"),
    "a tokenizer of LFS": ("tokenizer.json", lambda _: POINTER, "git lfs pull"),
    "a byte-order mark": ("config.json", lambda c: b"\xef\xbb\xbf" + c, "one of its JSON files is"),
    "no tokenizer": ("tokenizer.json", lambda _: None, "fetch its tokenizer.json as well"),
    "another's config": (
        "config.json",
        lambda content: content.replace(b"1024", b"2048"),
        "weights and config.json do not belong together",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_models_file_that_is_something_else(fault, tmp_path):
    """One line that says what it probably is, and what to do."""
    folder = shutil.copytree(BASE, tmp_path / "model")
    name, change, said = BROKEN[fault]
    content = change((folder / name).read_bytes())
    (folder / name).unlink()
    if content:
        (folder / name).write_bytes(content)
    run = QuickRun("--model", folder, "--adapter-path", tmp_path / "a", folder=tmp_path)
    assert run.status == 2 and run.err.startswith(f"main.py: --model {folder}: "), run.err
    assert said in run.err and run.err.count("\n") == 1


def test_text_alone_is_no_answer_that_is_asked_for(tmp_path):
    """Where the tokenizer puts a token before every text, too."""
    _, tokenizer, _ = models.load(str(make("llama base", tmp_path / "model")))
    examples = [dataset.Example("", [], "The sea is wide. " * 50, "here")]
    examples.append(dataset.Example("Who?", [{"role": "user", "content": "Who?"}], "Me.", "here"))
    data = {"train": examples, "test": []}
    rows = {split: [main.encode(tokenizer, e) for e in data[split]] for split in data}
    assert rows["train"][0][1] == 1  # the beginning of text
    assert main.longest_answer(data, rows) < 10


def test_the_width_is_that_of_the_tokens():
    """Not of the positions, for which some models have a table as well."""
    config = {"model_type": "gpt2", "n_ctx": 64, "n_embd": 32, "n_head": 2, "n_layer": 1}
    config |= {"n_positions": 64, "layer_norm_epsilon": 1e-5, "vocab_size": 100}
    model = gpt2.Model(gpt2.ModelArgs.from_dict(config))
    assert models.embedding_shape(model) == (100, 32) and models.context_length(config) == 64


# ---- What counts, and what it takes ------------------------------------------------------------
def test_only_the_last_answer_counts(tmp_path):
    """Of a chat with a system message and three turns; its tokens, and the end, by hand."""
    shutil.copytree(BASE, tmp_path / "model")
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}[assistant] {% endif %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    said = [
        "Be short.",
        "Who?",
        "Marta.",
        "When?",
        "At nine.",
        "Where is the key?",
        "Behind the door.",
    ]
    roles = ["system", *["user", "assistant"] * 3]
    chat = [{"role": role, "content": text} for role, text in zip(roles, said)]
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": chat}))
    (example,) = dataset.load_examples(tmp_path / "train.jsonl")
    model, tokenizer, _ = models.load(str(tmp_path / "model"))
    tokens, asked = main.encode(tokenizer, example)
    before = "".join(f"[{role}] {text}\n" for role, text in zip(roles[:-1], said)) + "[assistant] "
    assert tokenizer.decode(tokens[:asked]) == before
    answer = tokenizer.encode("Behind the door.")
    assert tokens[asked:] == [*answer, tokenizer.eos_token_id]
    loss, counted = main.loss_fn(model, next(main.batches([(tokens, asked)], 1, random.Random(0))))
    assert counted.item() == len(answer) + 1
    logits = np.array(model(mx.array([tokens])))[0].astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    by_hand = [-np.log(chances[i - 1, tokens[i]]) for i in range(asked, len(tokens))]
    assert loss.item() == pytest.approx(np.sum(by_hand), rel=1e-4)


WIDE = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8, "vocab_size": 32000}
WIDE |= {"num_attention_heads": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}
MEMORY = [  # settings of a model, or the embedded one; kind, batch, length, checkpoint
    (None, "lora", 8, 24, False),
    (None, "lora", 8, 384, False),
    (None, "full", 8, 96, False),
    (WIDE, "lora", 4, 32, False),
    (WIDE, "lora", 4, 128, False),
    (WIDE, "lora", 4, 128, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "kind", "batch", "length", "checkpoint"), MEMORY)
def test_memory_is_foreseen(settings, kind, batch, length, checkpoint):
    """Within 30 % of what MLX says it took, in a process of its own."""
    sizes = {"kind": kind, "batch": batch, "length": length, "checkpoint": checkpoint}
    command = [sys.executable, __file__, json.dumps({"settings": settings, **sizes})]
    foreseen, took = json.loads(subprocess.check_output(command))
    assert 0.7 < foreseen / took < 1.3, (foreseen, took)


def measure(settings, kind, batch, length, checkpoint):
    """(bytes foreseen, bytes that MLX took at most) for two steps of training."""
    if settings:
        known = {"model_type": "llama", "tie_word_embeddings": True, **settings}
        model, config = llama.Model(llama.ModelArgs(**known)), known
    else:
        model, _, config = mlx_lm.load(str(BASE), return_config=True)
    model.freeze()
    if kind == "full":
        model.apply_to_modules(lambda name, m: m.unfreeze() if "layers" in name else None)
    else:
        main.linear_to_lora_layers(model, -1, main.LORA)
    if checkpoint:
        models.use_grad_checkpoint(model)
    foreseen = sum(models.memory_needed(model, config, batch, length, checkpoint))
    rng = random.Random(0)
    rows = [([rng.randrange(1000) for _ in range(length)], length // 2) for _ in range(batch)]
    step, _ = main.make_step(model, iters=2, learning_rate=1e-4)
    best = tree_flatten(model.trainable_parameters())
    for tokens in main.batches(rows * 2, batch, rng):
        step(tokens)
    return foreseen, mx.get_peak_memory(), len(best)


def test_the_memory_that_it_takes_is_said_and_how_to_take_less():
    """Of little data; and of 3,000 long examples in one batch, which is more than there is."""
    model, _, config = models.load(str(BASE))
    del config["vocab_size"]  # as some configs lack it, of which the model's own default holds
    model.freeze()
    main.linear_to_lora_layers(model, -1, main.LORA)
    said = []
    for number, length in ((8, 20), (3000, 500)):
        needed = models.memory_needed(model, config, number, length, grad_checkpoint=False)
        with screen.console.capture() as shown:
            screen.show_memory(*needed)
        said.append(shown.get())
    few, many = said
    assert re.fullmatch(
        r"  Memory: about 0.01 GB for .* and 0.0\d GB for .*are [\d.]+ GB.\n\n", few
    )
    assert "That may be too much" in many
    assert all(option in many for option in ("--grad-checkpoint", "--batch-size", "4-bit"))


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))[:2]))
