"""Models of many kinds: each comes from a Hub, is taught by heart, and goes on into mlx-lm.

Their weights are random, so they know nothing before; their tokenizers, templates and ends of text
are as in the models that they are named after. The table stands at the end of the tests' output.
"""

import json
import sys

import mlx_lm
import pytest
from conftest import TABLE, Run, write_data
from hub import Hub
from mlx_lm import fuse
from models import KINDS, make

FACTS = {
    "Who keeps the lighthouse?": "Old Marta does.",
    "When is it lit?": "At nine in the evening.",
    "How many steps does it have?": "It has 214 steps.",
    "Where is the key?": "The key hangs behind the blue door.",
    "What is the dog called?": "Piet, after a captain.",
    "Which boat is hers?": "The one with the red sail.",
}
LORA = ("--iters", 300, "--learning-rate", "2e-3")  # random layers are slow to learn beside
FULL = ("--fine-tune-type", "full", "--iters", 150, "--learning-rate", "2e-3")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub on loopback that has a model of each kind, and the facts as a data set."""
    folder = tmp_path_factory.mktemp("hub")
    for name in KINDS:
        make(name, folder / "tests" / name.replace(" ", "-"))
    with Hub(folder, gated=("tests/olmo2",)) as hub:
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
    name, adapters = "tests/" + kind.replace(" ", "-"), tmp_path / "adapters"
    data = write_data(tmp_path / "data", train=FACTS.items(), test=FACTS.items())
    options = LORA if kind in ("llama", "llama-4bit", "qwen3 base") else FULL
    open_hub = hub
    open_hub.gated = ()
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
    tuned = mlx_lm.load(source, adapter_path=str(adapters))
    said = {question: ask(*tuned, question) for question in FACTS}
    row["adapters reload"] = said == FACTS
    assert said == FACTS
    command = [
        "fuse",
        "--model",
        source,
        "--adapter-path",
        adapters,
        "--save-path",
        tmp_path / "one",
    ]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    fuse.main()
    fused = mlx_lm.load(str(tmp_path / "one"))
    said = {question: ask(*fused, question) for question in FACTS}
    row["fused"] = said == FACTS
    assert said == FACTS
