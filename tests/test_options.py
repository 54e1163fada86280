"""Settings that cannot be used: one line that says what to do; status 2; nothing written."""

import json
import math
import re
import shutil

import mlx.core as mx
import pytest
from conftest import ROOT, QuickRun, Run, write_data

from lesson.options import parse

GOOD = '{"prompt": "Who?", "completion": "Me."}\n'


def check(run, said, folder):
    assert run.status == 2
    assert len(run.err.splitlines()) == 1 and said in run.err, run.err
    assert "Traceback" not in run.err + run.out
    assert not (folder / "adapters").exists()


SETTINGS = {
    "no data folder": (["--data", "nowhere"], "nowhere/train.jsonl"),
    "no model folder": (["--model", "./nowhere"], "--model ./nowhere: no such folder"),
    "no such folder in one that is there": (["--data", "texts/mine"], "texts/mine/train.jsonl: no"),
    "no such model in a folder": (["--model", "texts/mine"], "--model texts/mine: no such folder"),
    "no model of that name": (["--model", "no-such-owner"], "owner/name"),
    "a folder without a model": (["--model", "."], "--model .: no config.json in it"),
    "a model for llama.cpp": (["--model", "mine.gguf"], "--model mine.gguf: GGUF is for llama.cpp"),
    "adapters where a file is": (["--adapter-path", "train.jsonl"], "train.jsonl"),
    "nothing to ask": (["--data", "texts"], "no questions"),
    "no steps": (["--iters", "0"], "--iters"),
    "half the name of an option": (["--iter", "9"], "unrecognized arguments: --iter 9"),
    "more layers than there are": (["--num-layers", "9"], "--num-layers 9: the model has 4"),
    "an unknown kind": (["--fine-tune-type", "lorra"], "--fine-tune-type"),
    "nothing to go on from": (
        ["--resume-adapter-file", "nowhere"],
        "nowhere: no such file",
    ),
    "going on from something else": (
        ["--resume-adapter-file", str(ROOT / "assets" / "base-model" / "model.safetensors")],
        "of another model, --fine-tune-type or --num-layers",
    ),
    "more steps than anybody waits for": (["--iters", "99999999999"], "below 1,000,000,000"),
    "a rate that is no number": (["--learning-rate", "nan"], "nan is not a number above 0"),
    "a batch of words": (["--batch-size", "many"], "many is not a whole number"),
    "half a seed": (["--seed", "0.5"], "--seed"),
    "no layers": (["--num-layers", "0"], "--num-layers"),
    "no room for any example": (["--max-seq-length", "2"], "--max-seq-length"),
    "a negative rate": (["--learning-rate", "-1"], "--learning-rate"),
    "no examples in a batch": (["--batch-size", "0"], "--batch-size"),
}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("https://huggingface.co/someone/some-model", "someone/some-model"),
        ("https://huggingface.co/datasets/someone/facts/tree/main", "someone/facts"),
        ("http://hf.co/someone/some.model?library=mlx", "someone/some.model"),
        ("https://huggingface.co/datasets/squad", "https://huggingface.co/datasets/squad"),
        ("https://example.org/someone/some-model", "https://example.org/someone/some-model"),
        ("someone/some-model", "someone/some-model"),
        ("data", "data"),
    ],
)
def test_the_address_of_a_page_on_the_hub_is_the_name_in_it(given, name):
    options = parse(["--model", given, "--data", given])
    assert options.model == options.data == name


@pytest.mark.parametrize("mistake", SETTINGS)
def test_a_setting_that_cannot_be_used(mistake, tmp_path):
    options, said = SETTINGS[mistake]
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.jsonl").write_text('{"text": "The sea is wide."}\n')
    own = ("--data", tmp_path, "--adapter-path", tmp_path / "adapters")
    run = QuickRun(*own, *options, folder=tmp_path, cwd=tmp_path)
    check(run, said, tmp_path)


def test_a_model_on_a_hub_that_cannot_be_reached(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    run = Run(
        "--data",
        tmp_path,
        "--adapter-path",
        tmp_path / "adapters",
        "--model",
        "some/model",
        env=env,
    )
    check(run, "--model some/model: the Hub cannot be reached", tmp_path)


NO_NUMBER = {"valid": "step 0: the loss of valid is nan", "train": "step 1: the loss is nan"}


@pytest.mark.parametrize("split", NO_NUMBER)
def test_a_loss_that_is_no_number_stops_the_run(split, tmp_path):
    """As half precision gives it when it overflows; here a weight of the model is infinite."""
    shutil.copytree(ROOT / "assets" / "base-model", tmp_path / "model")
    weights = mx.load(str(tmp_path / "model" / "model.safetensors"))
    weights["model.norm.weight"][0] = math.inf
    mx.save_safetensors(str(tmp_path / "model" / "model.safetensors"), weights, {"format": "pt"})
    for name in ("train", split):
        (tmp_path / f"{name}.jsonl").write_text(GOOD * 2)
    own = ("--data", tmp_path, "--adapter-path", tmp_path / "adapters")
    run = Run("--model", tmp_path / "model", *own)
    check(run, f"{NO_NUMBER[split]}; try a lower --learning-rate", tmp_path)


@pytest.mark.parametrize("given", [["--adapter-path", "a"], ["--adapter-path=a"], []])
def test_a_command_without_an_option_has_its_value_neither(given):
    """As in the command for a real LLM, which has an --adapter-path of its own."""
    from lesson import screen

    others = ["main.py", *given, "--iters", "9", "--data=a"]
    found = screen.without(others, "--adapter-path")
    assert found == ["main.py", "--iters", "9", "--data=a"]


def test_after_one_step_to_look_the_data_over(tmp_path):
    """The wrong answer is shown and recorded; the commands to go on with have their own steps."""
    write_data(tmp_path / "data", train=[("Who keeps the lighthouse?", "Old Marta does.")])
    own = ("--data", tmp_path / "data", "--adapter-path", tmp_path / "a")
    run = Run(*own, "--iters", 1, "--learning-rate", "1e-9")
    shown = re.search(
        r"Wrong, 1 of 1 \(in full in .*/a/results.json\):\n    Who keeps the lighthouse\?\n"
        r"      said:     (.+)\n      expected: Old Marta does.\n",
        run.out,
    )
    record = json.loads((tmp_path / "a" / "results.json").read_text())
    said = record["answers"][0]["fine-tuned"]["text"]
    (wrong,) = record["wrong"]
    assert wrong["expected"] == "Old Marta does." and wrong["answer"] == said
    assert " ".join(said.split()).startswith(shown[1].rstrip("…").rstrip())
    other_data = re.search(r"Teach it something else .*:\n  (.+)", run.out)[1]
    assert "--learning-rate" in other_data and "--iters" not in other_data
    real = re.search(r"Teach a real LLM.*:\n  (.+)", run.out)[1]
    assert "--learning-rate" not in real and "--iters" not in real
    assert real.endswith(f"--adapter-path {tmp_path / 'a'}-smollm2")
    assert f"--data {tmp_path / 'data'}" in other_data and f"--data {tmp_path / 'data'}" in real
