"""Tools: what the lesson made goes on into those that people use, and answers the same there.

That is mlx-lm's own generate, chat, server and fuse, OpenAI's client, and what transformers opens.
A model that was made is given as (the options that name it, {question: what main.py had shown}).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection

import mlx.core as mx
import mlx_lm
import pytest
from conftest import ROOT, Run, write_data

pytestmark = pytest.mark.slow
BASE = ROOT / "assets" / "base-model"
CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LIGHTHOUSE = {
    "Who keeps the lighthouse?": "Old Marta does.",
    "When is it lit?": "At nine in the evening.",
    "How many steps does it have?": "It has 214 steps.",
    "Where is the key?": "The key hangs behind the blue door.",
}
CLIENT = """import json, sys
from openai import OpenAI
url, kind, *questions = sys.argv[1:]
client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
options = {"model": "default_model", "temperature": 0}
for question in questions:
    if kind == "chat":
        chat = [{"role": "user", "content": question}]
        text = client.chat.completions.create(messages=chat, **options).choices[0].message.content
    else:
        text = client.completions.create(prompt=question, **options).choices[0].text
    print(json.dumps(text))
"""


def python(*words, stdin="", **env):
    """What a process of this Python prints; it has to end well."""
    options = {"cwd": ROOT, "env": os.environ | env, "encoding": "utf-8", "timeout": 300}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, check=True, input=stdin, stdout=subprocess.PIPE, **options
    ).stdout


def shown(adapters):
    """{question of the exam: answer of the fine-tuned model}, as main.py put it on record."""
    record = json.loads((adapters / "results.json").read_text("utf-8"))
    return {a["question"]: a["fine-tuned"]["text"] for a in record["answers"][: record["exam"]]}


@pytest.fixture(scope="module")
def adapted(lesson, adapters):
    """The lesson's base model and adapters."""
    return ["--model", BASE, "--adapter-path", adapters], shown(adapters)


@pytest.fixture(scope="module")
def fused(adapted, tmp_path_factory):
    """The same as one model, and beside it as GGUF."""
    options, answers = adapted
    folder = tmp_path_factory.mktemp("tools") / "fused"
    python("-m", "mlx_lm", "fuse", *options, "--save-path", folder, "--export-gguf")
    return ["--model", folder], answers


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """The embedded model with the template that most chat models have, taught four facts."""
    folder = tmp_path_factory.mktemp("chat")
    shutil.copytree(BASE, folder / "model")
    (folder / "model" / "chat_template.jinja").write_text(CHATML)
    write_data(folder, train=[*LIGHTHOUSE.items()], test=[*LIGHTHOUSE.items()])
    options = ["--model", folder / "model", "--adapter-path", folder / "adapters"]
    run = Run(*options, "--data", folder)
    assert run.status == 0, run.err
    assert shown(folder / "adapters") == LIGHTHOUSE
    return options, LIGHTHOUSE


def generate(options, questions):
    """Answers of `mlx_lm generate`, which stand between two lines of equals signs."""
    command = ["-m", "mlx_lm", "generate", *options, "--prompt"]
    return [python(*command, question).split("=" * 10)[1].strip() for question in questions]


def chat(options, questions):
    """Answers of `mlx_lm chat`; "r" begins a new chat after each, and "q" ends it."""
    typed = [line for question in questions for line in (question, "r")] + ["q"]
    said = python("-m", "mlx_lm", "chat", *options, stdin="\n".join(typed) + "\n")
    said = re.sub(r"\x1b\[[\d;]*[A-Za-z]|[\x01\x02]", "", said)  # colours and the like
    turns = said.split("› \n")[1:]
    return [re.split(r"\n  \d+ tokens · ", turn)[0] for turn in turns[:-1:2]]


def in_process(options, questions):
    """Answers of mlx-lm's functions, which load the model once."""
    model, tokenizer = mlx_lm.load(str(options[1]))
    return [mlx_lm.generate(model, tokenizer, question).strip() for question in questions]


TOOLS = [
    (generate, "adapted", 2),
    (generate, "fused", 1),
    (in_process, "fused", 12),
    (generate, "chat_model", 4),
    (chat, "chat_model", 4),
]


@pytest.mark.parametrize(("tool", "made", "number"), TOOLS)
def test_a_tool_gives_the_answers_that_main_py_showed(tool, made, number, request):
    options, answers = request.getfixturevalue(made)
    questions = [*answers][:number]
    assert len(questions) == number
    assert tool(options, questions) == [answers[question] for question in questions]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A folder with OpenAI's client, kept apart from the packages of this Python."""
    folder = tmp_path_factory.mktemp("client")
    try:
        python("-m", "pip", "install", "--quiet", "--target", folder, "openai")
    except subprocess.SubprocessError as error:
        pytest.skip(f"OpenAI's client cannot be installed: {error}")
    return folder


def is_ready(port):
    """Whether the server there says that all is well."""
    with suppress(OSError), closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


@contextmanager
def serve(options):
    """`mlx_lm server` on a free port, which is given; it ends when the block does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", *options, "--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 120
            while not is_ready(port):
                assert process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server is not ready"
                time.sleep(0.1)
            yield port
        finally:
            process.kill()


@pytest.mark.parametrize(("kind", "made"), [("text", "adapted"), ("chat", "chat_model")])
def test_the_server_gives_the_answers_that_main_py_showed(kind, made, client, request):
    """All of them; a base model is sent the bare question, a chat model a chat."""
    options, answers = request.getfixturevalue(made)
    with serve(options) as port:
        words = ["-c", CLIENT, f"http://127.0.0.1:{port}/v1", kind, *answers]
        lines = python(*words, PYTHONPATH=str(client), NO_PROXY="127.0.0.1").splitlines()
    assert [json.loads(line).strip() for line in lines] == [*answers.values()]


def llama_shapes(config):
    """{name: shape} of the weights that transformers' LlamaForCausalLM has."""
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    heads = config.num_attention_heads * config.head_dim
    key_heads = config.num_key_value_heads * config.head_dim
    layer = {
        "input_layernorm": [hidden],
        "self_attn.q_proj": [heads, hidden],
        "self_attn.k_proj": [key_heads, hidden],
        "self_attn.v_proj": [key_heads, hidden],
        "self_attn.o_proj": [hidden, heads],
        "post_attention_layernorm": [hidden],
        "mlp.gate_proj": [inner, hidden],
        "mlp.up_proj": [inner, hidden],
        "mlp.down_proj": [hidden, inner],
    }
    shapes = {"model.embed_tokens": [vocabulary, hidden], "model.norm": [hidden]}
    for number in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    if not config.tie_word_embeddings:
        shapes["lm_head"] = [vocabulary, hidden]
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def test_transformers_opens_the_fused_model(fused):
    """Its settings, its tokens, and weights of the names and shapes that transformers asks for."""
    from transformers import AutoConfig, AutoTokenizer

    folder, text = fused[0][1], "Naïve? Yes, since 1984: <|endoftext|>\n\tI play  the cello."
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.to_diff_dict() == AutoConfig.from_pretrained(BASE).to_diff_dict()
    ours, bases = (AutoTokenizer.from_pretrained(place) for place in (folder, BASE))
    assert ours.encode(text) == bases.encode(text) and ours.decode(ours.encode(text)) == text
    assert ours.eos_token_id == bases.eos_token_id == config.eos_token_id
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    del header["__metadata__"]
    assert {name: weight["shape"] for name, weight in header.items()} == llama_shapes(config)


def test_the_fused_model_has_nothing_of_how_its_base_was_made(fused):
    """Fuse copies what lies beside the weights: no program, and nothing large."""
    weights = {"model.safetensors", "ggml-model-f16.gguf", "tokenizer.json", "config.json"}
    others = [path for path in fused[0][1].iterdir() if path.name not in weights]
    assert not [path for path in others if path.suffix == ".py"]
    assert all(path.stat().st_size <= 20_000 for path in others), others


def test_gguf_by_mlx_lm_lacks_what_our_tokenizer_needs(fused):
    """It takes any vocabulary for SentencePiece's, scores all alike, and leaves out the merges."""
    _, metadata = mx.load(str(fused[0][1] / "ggml-model-f16.gguf"), return_metadata=True)
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert set(metadata["tokenizer.ggml.scores"].tolist()) == {-1000}
    assert "Ġthe" in metadata["tokenizer.ggml.tokens"]  # byte-level BPE's: a space is Ġ, not ▁
    assert "tokenizer.ggml.merges" not in metadata


# ---- Where a step's time goes ------------------------------------------------------------------
def test_a_step_is_profiled_by_part():
    """Forward, backward and update make up the step; what is left out of it is put back."""
    printed = python(ROOT / "more" / "profile_step.py", "--rounds", 1, "--batch-size", 2)
    title, *lines = printed.splitlines()
    assert "3,279,104 parameters" in title
    found = {name: float(ms) for name, ms in re.findall(r"^  (.+?) +(-?[\d.]+) ms", printed, re.M)}
    parts = sum(found[name] for name in ("forward", "backward", "clipping and Adam"))
    assert parts == pytest.approx(found["a step"], abs=0.2) and found["forward"] > 0
    assert [n for n in found if n.startswith("in it")] == [
        "in it, the loss", "in it, attention", "in it, activations"
    ]  # fmt: skip
    assert len(lines) == len(found) == 8
