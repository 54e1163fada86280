"""Small models with random weights, in the layout of the Hub: of each kind that learners may bring.

All but the size is as in the model that each is named after: names of weights, tokenizer, template,
and which tokens end a text according to which file.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, quantize_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

MERGES = 160  # pairs that a tokenizer learns from TEXT, over and above the single characters
TEXT = """
The capital of France is Paris, and the capital of Japan is Tokyo. Water boils at 100 degrees.
Question: What is 7 × 8? Answer: It is 56. Question: Who wrote the play? Answer: She wrote it.
The house is in the street that leads to the river; there are three boats on the water there.
What colour is the sky? The sky is blue. What does the dog say? The dog says nothing at all.
When will the train arrive? It will arrive at 12:45, or when the rain has stopped. Who are you?
You are reading a text that has no other purpose than to have the same words again and again.
How many people live in this town? There are 3,400 people. How old is the town? It is 800 years.
She said: "This is the best that we could have done." He asked: "Where is the other one, then?"
The answer to the question is written on the other side of the page, in the same blue colour.
"""

# ---- Tokenizers --------------------------------------------------------------------------------
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
SPLIT += r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # Llama 3's and Qwen's pattern


def learn(pre_tokenizer, first: list[str], alphabet: list[str], normalizer=None) -> dict:
    """A vocabulary, `first` and the alphabet at its head, and merges; learnt from TEXT."""
    learner = Tokenizer(BPE())
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
    size = len(first) + len(alphabet or {*TEXT}) + MERGES
    options = {"initial_alphabet": alphabet, "special_tokens": first, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=size, **options)
    learner.train_from_iterator(TEXT.strip().splitlines(), trainer)
    model = json.loads(learner.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def finish(tokenizer: Tokenizer, special: list[str], bos: str | None, **looks) -> Tokenizer:
    """Adds the special tokens, and `bos` before every text."""
    for name in special:
        plain = name in THINK  # these are not left out of what is decoded
        token = AddedToken(name, normalized=False, special=not plain, **looks)
        (tokenizer.add_tokens if plain else tokenizer.add_special_tokens)([token])
    if bos:
        special = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = TemplateProcessing(f"{bos} $A", None, special)
    return tokenizer


def byte_level(first=(), last=(), digits=None, nfc=False, bos=None) -> Tokenizer:
    """Over bytes, as GPT-2's; or with `digits`, so many to a token, as Llama 3's and Qwen's."""
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=digits is None)
    if digits is not None:
        split = pre_tokenizers.Split(Regex(SPLIT.replace("DIGITS", digits)), "isolated")
        pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizer])
    learnt = learn(pre_tokenizer, [*first], sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = Tokenizer(BPE(**learnt, ignore_merges=digits == "{1,3}"))
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    return finish(tokenizer, [*first, *last], bos)


def sentencepiece(first=(), last=(), prefix=False, bos=None, **looks) -> Tokenizer:
    """SentencePiece's: ▁ for a space, if `prefix` before each text as well; bytes if need be."""
    spaces, known = normalizers.Replace(" ", "▁"), [*first, *(f"<0x{n:02X}>" for n in range(256))]
    prefixed = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    learnt = learn(pre_tokenizers.Split("▁", "merged_with_next"), known, [], prefixed)
    tokenizer = Tokenizer(BPE(**learnt, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = prefixed if prefix else spaces
    if not prefix:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * prefix)
    return finish(finish(tokenizer, first, bos), last, None, **looks)


# ---- Chat templates ----------------------------------------------------------------------------
CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

QWEN3 = """{% set turn = namespace(user=-1) %}
{% for m in messages %}{% if m.role == 'user' %}{% set turn.user = loop.index0 %}{% endif %}
{% endfor %}
{% for m in messages %}<|im_start|>{{ m.role }}
{% set said = m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' %}
{% if m.role != 'assistant' %}{{ m.content }}
{%- elif loop.last and loop.index0 > turn.user %}{{ '<think>\\n\\n</think>\\n\\n' + said }}
{%- else %}{{ said }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

LLAMA3 = """{% set system = messages[0].content | trim if messages[0].role == 'system' else '' %}
{% set today = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{{ bos_token }}<|start_header_id|>system<|end_header_id|>

Cutting Knowledge Date: December 2023
Today Date: {{ today }}

{{ system }}<|eot_id|>
{%- for m in messages if m.role != 'system' %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>
{%- endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

ALTERNATE = """{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}"""

GEMMA = """{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' %}
{% for m in (messages[1:] if system else messages) %}ALTERNATE
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ system + '\\n\\n' if system and loop.first }}{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}""".replace("ALTERNATE", ALTERNATE)

MISTRAL = """{{ bos_token }}{% for m in messages %}ALTERNATE
{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}
{%- endif %}{% endfor %}""".replace("ALTERNATE", ALTERNATE)

PHI3 = """{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}"""


# ---- Kinds -------------------------------------------------------------------------------------
class Kind(NamedTuple):
    """What is special about a kind of model; tokens are given by name, and written as numbers."""

    tokenizer: Callable[[], Tokenizer]
    tokenizer_class: str
    tokens: dict  # in tokenizer_config.json
    eos: str | list[str]  # in config.json
    config: dict
    generation: str | list[str] | None = None  # eos in generation_config.json
    template: str | None = None
    jinja: bool = False  # the template is a file of its own
    bits: int | None = None


def named(eos: str, bos: str | None = None, **others) -> dict:
    """The tokens with the keys that they have in tokenizer_config.json."""
    return {f"{name}_token": token for name, token in {"bos": bos, "eos": eos, **others}.items()}


SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32768}
SMALL |= {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "torch_dtype": "bfloat16"}

BOS, END, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
LLAMA_TOKENS = [BOS, END, "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", EOT]
ROPE = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}
ROPE |= {"original_max_position_embeddings": 8192}
LLAMA_BASE = Kind(
    partial(byte_level, last=LLAMA_TOKENS, digits="{1,3}", bos=BOS),
    "PreTrainedTokenizerFast",
    named(END, BOS),
    END,
    {"model_type": "llama", "tie_word_embeddings": True, "rope_scaling": ROPE},
    generation=END,
)
LLAMA_ENDS = [END, "<|eom_id|>", EOT]
LLAMA = LLAMA_BASE._replace(
    tokens=named(EOT, BOS), eos=LLAMA_ENDS, generation=LLAMA_ENDS, template=LLAMA3
)

TEXT_END, TURN_END, THINK = "<|endoftext|>", "<|im_end|>", ["<think>", "</think>"]
CHAT = [TEXT_END, "<|im_start|>", TURN_END]
QWEN3_BASE = Kind(
    partial(byte_level, last=CHAT + THINK, digits="", nfc=True),
    "Qwen2Tokenizer",
    named(TEXT_END, pad=TEXT_END),
    TEXT_END,
    {"model_type": "qwen3", "tie_word_embeddings": True},
    generation=TEXT_END,
    template=QWEN3,
)
QWEN_ENDS = {"tokens": named(TURN_END, pad=TEXT_END), "eos": TURN_END}
QWEN_ENDS |= {"generation": [TURN_END, TEXT_END]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
EXPERTS |= {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True}

TURNS, LFM2_BOS = ["<start_of_turn>", "<end_of_turn>"], "<|startoftext|>"
LLAMA2 = ["<unk>", "<s>", "</s>"]  # the first tokens of Llama 2 and of what came after it
PHI3_TOKENS = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]

KINDS = {
    "llama": LLAMA,
    "llama base": LLAMA_BASE,
    "llama-4bit": LLAMA._replace(bits=4, jinja=True),
    "qwen3": QWEN3_BASE._replace(**QWEN_ENDS),
    "qwen3 base": QWEN3_BASE,
    "qwen3_moe": QWEN3_BASE._replace(
        tokenizer=partial(byte_level, last=CHAT, digits="", nfc=True),
        config={"model_type": "qwen3_moe", "tie_word_embeddings": False, **EXPERTS}
        | {"torch_dtype": "float32"},  # MLX multiplies experts in no other on a processor
        template=CHATML,
        **QWEN_ENDS,
    ),
    "gpt_neox": Kind(  # Pythia
        partial(byte_level, [TEXT_END, "<|padding|>"], nfc=True),
        "GPTNeoXTokenizer",
        named(TEXT_END, TEXT_END, unk=TEXT_END),
        "<|padding|>",  # not the tokenizer's
        {"model_type": "gpt_neox", "rotary_emb_base": 10000, "rotary_pct": 0.25}
        | {"layer_norm_eps": 1e-5, "intermediate_size": 256, "num_key_value_heads": 4}
        | {"tie_word_embeddings": False, "torch_dtype": "float16"},
    ),
    "gemma3_text": Kind(
        partial(sentencepiece, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *TURNS], bos="<bos>"),
        "GemmaTokenizer",
        named("<eos>", "<bos>", pad="<pad>", unk="<unk>") | {"add_bos_token": True},
        ["<eos>", "<end_of_turn>"],
        {"model_type": "gemma3_text", "sliding_window": 32, "sliding_window_pattern": 2}
        | {"query_pre_attn_scalar": 16, "num_key_value_heads": 1, "rope_theta": 1e6}
        | {"rope_local_base_freq": 10000.0},
        generation=["<eos>", "<end_of_turn>"],
        template=GEMMA,
    ),
    "phi3": Kind(
        partial(sentencepiece, LLAMA2, PHI3_TOKENS, prefix=True, rstrip=True),
        "LlamaTokenizer",
        named(TEXT_END, "<s>", pad=TEXT_END, unk="<unk>") | {"add_bos_token": False},
        TEXT_END,
        {"model_type": "phi3", "tie_word_embeddings": False, "num_key_value_heads": 4},
        generation=[TEXT_END, "<|assistant|>", "<|end|>"],
        template=PHI3,
    ),
    "mistral": Kind(
        partial(sentencepiece, [*LLAMA2, "[INST]", "[/INST]"], prefix=True, bos="<s>"),
        "LlamaTokenizer",
        named("</s>", "<s>", unk="<unk>") | {"add_bos_token": True},
        "</s>",
        {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": None},
        template=MISTRAL,
    ),
    "olmo2": Kind(
        partial(byte_level, last=[TEXT_END, "<|pad|>"], digits="{1,3}"),
        "GPT2Tokenizer",
        named(TEXT_END, TEXT_END, pad="<|pad|>", unk=TEXT_END),
        TEXT_END,
        {"model_type": "olmo2", "tie_word_embeddings": False},
    ),
    "lfm2": Kind(  # half of its layers are convolutions
        partial(byte_level, ["<|pad|>", LFM2_BOS, *CHAT], digits="{1,3}", bos=LFM2_BOS),
        "PreTrainedTokenizerFast",
        named(TURN_END, LFM2_BOS, pad="<|pad|>"),
        TURN_END,
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "conv_L_cache": 3}
        | {"conv_bias": False, "norm_eps": 1e-5, "block_dim": 64, "block_ff_dim": 128}
        | {"block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0}
        | {"block_auto_adjust_ff_dim": False, "tie_word_embeddings": True},
        template="{{ bos_token }}" + CHATML,
        jinja=True,
    ),
}


# ---- Files -------------------------------------------------------------------------------------
def published(model, config: dict) -> dict[str, mx.array]:
    """The model's weights under the names, and in the shapes, that the Hub's checkpoints have."""
    weights = dict(tree_flatten(model.parameters()))
    if config["model_type"] == "gpt_neox":
        inner = {k.removeprefix("model."): v for k, v in weights.items()}
        head = {"embed_out.weight": inner.pop("embed_out.weight")}
        weights = {f"gpt_neox.{re.sub('^h', 'layers', k)}": v for k, v in inner.items()} | head
    if config["model_type"] == "gemma3_text":  # the embeddings are that as well
        del weights["lm_head.weight"]
    for name in [name for name in weights if ".switch_mlp." in name]:
        for number, expert in enumerate(weights.pop(name)):
            weights[name.replace("switch_mlp", f"experts.{number}")] = expert
    for name in [name for name in weights if name.endswith("conv.conv.weight")]:
        weights[name] = weights[name].swapaxes(1, 2)
    return weights


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """Writes a model of the kind KINDS[name], with random weights; gives the folder."""
    kind, folder = KINDS[name], Path(folder)
    tokenizer = kind.tokenizer()

    def ids(tokens):
        """The token's number, or the numbers of several; None of none."""
        several = isinstance(tokens, list)
        return [*map(ids, tokens)] if several else tokenizer.token_to_id(tokens or "")

    config = SMALL | kind.config | {"eos_token_id": ids(kind.eos)}
    config |= {f"{name}_token_id": ids(kind.tokens.get(f"{name}_token")) for name in ("bos", "pad")}
    config["vocab_size"] = -(-tokenizer.get_vocab_size() // 64) * 64  # rounded up, as most are
    mx.random.seed(seed)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    # What no token stands for is never said.
    used = mx.arange(config["vocab_size"])[:, None] < tokenizer.get_vocab_size()
    rows = {k: v * used for k, v in tree_flatten(model.parameters()) if len(v) == len(used)}
    model.load_weights([*rows.items()], strict=False)
    model.set_dtype(getattr(mx, config["torch_dtype"]))
    if kind.bits:
        model, config = quantize_model(model, config, 32, kind.bits)
    told = {"format": "mlx" if kind.bits else "pt"}
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), published(model, config), told)
    settings = {**kind.tokens, "tokenizer_class": kind.tokenizer_class, "model_max_length": 32768}
    if kind.jinja:
        (folder / "chat_template.jinja").write_text(kind.template)
    elif kind.template:
        settings["chat_template"] = kind.template
    files = {"config.json": config, "tokenizer_config.json": settings}
    if kind.generation:
        files["generation_config.json"] = {"eos_token_id": ids(kind.generation), "do_sample": True}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
