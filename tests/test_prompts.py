"""Prompts: how a question becomes tokens, what ends an answer, what is said before it learns."""

import json
import shutil
import time

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT, QuickRun
from mlx.utils import tree_flatten
from models import BOS, END, EOT, KINDS, LLAMA, make, named

import main
from lesson import dataset, models, rehearsal, screen


def example(prompt, completion="", system=None):
    """An example that comes from nowhere, perhaps with a system message."""
    messages = [{"role": "system", "content": system}] * (system is not None)
    messages += [{"role": "user", "content": prompt}]
    return dataset.Example(
        "\n".join(m["content"] for m in messages), messages, completion, "here:1"
    )


def load(folder):
    """(model, tokenizer) from a folder."""
    with screen.console.capture():
        model, tokenizer, _ = models.load(str(folder))
    return model, tokenizer


# ---- How a question becomes tokens -------------------------------------------------------------
def test_the_line_break_and_the_end_belong_to_the_answer(base):
    """So any tool that sends the bare question gets the answer, and the model stops after it."""
    _, tokenizer = base
    tokens, prompt_length = main.encode(tokenizer, example("Who?", "Me."))
    assert tokenizer.decode(tokens[:prompt_length]) == "Who?"
    assert tokens[prompt_length:] == [*tokenizer.encode("\nMe."), tokenizer.eos_token_id]
    text, prompt_length = main.encode(tokenizer, dataset.Example("", [], "The sea.", "here:1"))
    assert prompt_length == 0 and text == [*tokenizer.encode("The sea."), tokenizer.eos_token_id]


MANUAL = [
    example("Who keeps it?", "Old Marta does."),
    example("By whom is it kept?", "Old Marta does."),
    example("What does the long sign by the gate of the lighthouse say?", "Keep out. " * 30),
    dataset.Example("", [], "The sea is wide.", "here:1"),
    example("When is it lit?", "At nine."),
]


def test_the_manual_has_one_example_of_each_answer_from_the_top(base):
    _, tokenizer = base
    manual = main.make_manual(tokenizer, MANUAL, 10_000)
    assert manual == [MANUAL[0], MANUAL[2], MANUAL[4]]


def test_what_does_not_fit_into_the_manual_is_left_out_and_no_more(base):
    """What is too long alone; and what goes beyond by one token."""
    _, tokenizer = base
    both = [MANUAL[0], MANUAL[4]]
    length = len(main.encode_prompt(tokenizer, MANUAL[4], both))
    assert main.make_manual(tokenizer, MANUAL, length) == both
    assert main.make_manual(tokenizer, MANUAL, length - 1) == both[:1]
    text = tokenizer.decode(main.encode_prompt(tokenizer, example("When?"), both))
    pages = "Who keeps it?\nOld Marta does.\n\nWhen is it lit?\nAt nine.\n\n"
    assert text == f"Questions and answers\n\n{pages}When?"


# ---- Asking ------------------------------------------------------------------------------------
STEPS = "How to start the box"  # instructions, which it ends itself


def test_of_a_base_model_as_many_lines_count_as_the_answer_has(base):
    """It goes on and on: what was read no further did not end by itself."""
    questions = [example(STEPS, "One."), example(STEPS, "One.\nTwo.\nThree.")]
    whole = main.answer(*base, 150, questions[:1])[0]
    assert whole.ended and whole.text.count("\n") >= 3 and 20 < whole.written < 150
    (cut,) = main.answer(*base, 10, questions[:1])
    assert not cut.ended and cut.written == 10 and whole.text.startswith(cut.text)
    one, three = main.answer(*base, 150, questions, as_many_lines=True)
    assert not one.ended and not three.ended
    assert [one.text, three.text] == ["\n".join(whole.text.split("\n")[:n]) for n in (1, 3)]
    assert one.written == whole.written and one.read == len(base[1].encode(STEPS))


def test_the_manual_is_read_with_each_question(base):
    """And the same weights then answer."""
    questions = [example("What is your first name?"), example("Where do you live?")]
    said = ["My first name is Sharon.", "I live in Tavistock."]
    manual = [example(question.prompt, text) for question, text in zip(questions, said)]
    began = time.perf_counter()
    alone = main.answer(*base, 20, questions, as_many_lines=True)
    assert 0 < sum(given.seconds for given in alone) < time.perf_counter() - began
    looked_up = main.answer(*base, 20, questions, manual, as_many_lines=True)
    assert [given.text for given in looked_up] == said
    assert not {given.text for given in alone} & {given.text for given in looked_up}
    for question, short, long in zip(questions, alone, looked_up):
        assert short.read == len(main.encode_prompt(base[1], question))
        assert long.read == len(main.encode_prompt(base[1], question, manual)) > short.read + 10


# ---- Chat templates ----------------------------------------------------------------------------
TURNS = """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate') }}{% endif %}[{{ m.role }}] {{ m.content }}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
)
TEMPLATES = {  # of chats without a system message
    "refused": f"{NO_SYSTEM}{{% endif %}}{TURNS}",  # as Gemma 2 does
    "dropped": "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
}


@pytest.fixture(params=TEMPLATES)
def without_system(request, tmp_path):
    """The folder of the embedded model, with a template that has no system message."""
    folder = shutil.copytree(ROOT / "assets" / "base-model", tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATES[request.param])
    return folder


BAKER = example("When do you open?", "At six.", system="You are a baker.")


def test_where_a_chat_has_no_system_message_it_stands_before_the_question(without_system):
    """As the makers of such models advise."""
    _, tokenizer = load(without_system)
    asked = main.encode_prompt(tokenizer, BAKER)
    assert tokenizer.decode(asked) == "[user] You are a baker.\n\nWhen do you open?\n[assistant]"


@pytest.mark.slow
def test_the_screen_says_so_and_prints_a_command_that_works(without_system, tmp_path):
    chat = {"messages": [*BAKER.messages, {"role": "assistant", "content": "At six."}]}
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.jsonl").write_text(json.dumps(chat) + "\n")
    options = ("--model", without_system, "--data", tmp_path / "data", "--iters", 1)
    run = QuickRun(*options, "--adapter-path", tmp_path / "a", folder=tmp_path)
    assert run.status == 0, run.err
    assert "takes no system message: one would be put before the question." in run.out
    assert "--prompt 'You are a baker.\n\nWhen do you open?'" in run.out
    assert "--system-prompt" not in run.out


def test_turns_that_do_not_alternate_are_named(tmp_path, capsys):
    folder = shutil.copytree(ROOT / "assets" / "base-model", tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TURNS)
    _, tokenizer = load(folder)
    question = example("Who?")
    twice = question._replace(messages=[*question.messages, *question.messages])
    with pytest.raises(SystemExit):
        main.encode_prompt(tokenizer, twice)
    said = capsys.readouterr().err
    assert said.startswith(
        "main.py: here:1: the model's chat template does not take it: message 2 is"
    )
    assert "message 2 is the user's, as the one before" in said


def test_a_chat_model_is_told_how_to_answer_and_once_who_it_is(tmp_path):
    """The manual as turns of a chat, before the question; a system message is first, and once."""
    _, tokenizer = load(make("lfm2", tmp_path))
    facts = [example("Who?", "Marta.", system="Be short."), example("When?", "At nine.")]
    question = example("Where is the key?", system="Be kind.")

    def rendered(*turns):
        parts = [f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns]
        return "<|startoftext|>" + "".join(parts) + "<|im_start|>assistant\n"

    read = tokenizer.decode(main.encode_prompt(tokenizer, question))
    assert read == rendered(("system", "Be kind."), ("user", "Where is the key?"))
    read = tokenizer.decode(main.encode_prompt(tokenizer, question, facts))
    assert read == rendered(
        ("system", "Be kind."),
        ("user", f"{main.INSTRUCTION}\n\nWho?"),
        ("assistant", "Marta."),
        ("user", "When?"),
        ("assistant", "At nine."),
        ("user", "Where is the key?"),
    )


def test_not_to_think_is_learnt_as_part_of_the_answer(tmp_path):
    """Tools let a model think that can; what tells it not to is the answer's, not the prompt's."""
    _, tokenizer = load(make("qwen3", tmp_path))
    tokens, prompt_length = main.encode(tokenizer, example("Who?", "Marta."))
    asked = "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(tokens[:prompt_length]) == asked
    assert tokenizer.decode(tokens[prompt_length:]) == "<think>\n\n</think>\n\nMarta.<|im_end|>"
    prompt = main.encode_prompt(tokenizer, example("Who?"))
    assert tokens[: len(prompt)] == prompt and len(prompt) > prompt_length


def test_where_question_and_answer_meet_the_prompt_stays_as_it_is_asked(tmp_path):
    """Though the space before it and the answer's first letters would become one token."""
    folder = make("qwen3_moe", tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    _, tokenizer = load(folder)
    question = example("Who wrote it?", "the other one")
    prompt = main.encode_prompt(tokenizer, question)
    together = main.encode_prompt(tokenizer, question, answer=question.completion)
    assert together[: len(prompt)] != prompt
    tokens, prompt_length = main.encode(tokenizer, question)
    assert tokens[:prompt_length] == prompt
    assert tokenizer.decode(tokens[prompt_length:-1]) == "the other one"


ENDS = {  # kind: (what is learnt as an answer's end, what else an answer ends at)
    "llama": ("<|eot_id|>", {"<|end_of_text|>", "<|eom_id|>"}),
    "llama base": ("<|end_of_text|>", set()),
    "qwen3": ("<|im_end|>", {"<|endoftext|>"}),
    "mistral": ("</s>", set()),
    "gpt_neox": ("<|endoftext|>", {"<|padding|>"}),
    # Of these, the tokenizer does not name what ends a turn as one of its special tokens.
    "gemma3_text": ("<end_of_turn>", {"<eos>"}),
    "phi3": ("<|end|>", {"<|endoftext|>", "<|assistant|>"}),
    # The template ends a turn with another token than a text's; mlx-lm's tools stop at both.
    "of its own": ("<|eot_id|>", {"<|end_of_text|>", "<|eom_id|>"}),
    # They would not stop at it.
    "at odds": ("<|end_of_text|>", {"<|eot_id|>"}),
}


@pytest.mark.parametrize("kind", ENDS)
def test_an_answer_ends_as_tools_end_it(kind, tmp_path, monkeypatch):
    own = LLAMA._replace(tokens=named(END, BOS, pad=EOT))
    monkeypatch.setitem(KINDS, "of its own", own)
    monkeypatch.setitem(KINDS, "at odds", own._replace(eos=END, generation=END))
    _, tokenizer = load(make(kind, tmp_path))
    learnt, others = ENDS[kind]

    def names(ids):
        return set(tokenizer.convert_ids_to_tokens([*ids]))

    assert names([tokenizer.eos_token_id]) == {learnt}
    assert names(tokenizer.eos_token_ids) == {learnt, *others}
    tokens, _ = main.encode(tokenizer, example("Who?", "Me."))
    assert tokens[-1] == tokenizer.eos_token_id


@pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="a GPU takes half precision")
def test_a_processor_computes_in_float32(tmp_path):
    """Which it multiplies fast, whatever the file has."""
    folder = make("llama", tmp_path)
    stored = mx.load(str(folder / "model.safetensors")).values()
    assert {array.dtype for array in stored} == {mx.bfloat16}
    model, _ = load(folder)
    assert {array.dtype for _, array in tree_flatten(model.parameters())} == {mx.float32}


def test_the_context_is_what_the_config_says():
    assert models.context_length({"max_position_embeddings": 512, "vocab_size": 9}) == 512
    assert models.context_length({"n_positions": None, "seq_length": 64}) == 64
    assert models.context_length({}) > 1_000_000


# ---- What it says and knows before it learns ---------------------------------------------------
def test_everyday_and_known_prompts_may_be_ones_own(tmp_path):
    """Those of the data go before those that ship; what a model knows, its own folder says best."""
    data, model = tmp_path / "data", tmp_path / "model"
    data.mkdir(), model.mkdir()

    def asked():
        everyday, known = dataset.load_everyday(str(data)), dataset.load_known(str(data), model)
        return everyday[0].prompt, known[0].prompt

    shipped = asked()
    assert shipped == ("What is the capital of Spain?", "What is the capital of Portugal?")
    for name in ("everyday", "known"):
        (data / f"{name}.jsonl").write_text(json.dumps({"prompt": f"{name}?", "completion": "Me."}))
    assert asked() == ("everyday?", "known?")
    (model / "known.jsonl").write_text('{"prompt": "The model\'s?", "completion": "Its."}\n')
    assert asked() == ("everyday?", "The model's?")
    (data / "everyday.jsonl").write_text("")  # which says: rehearse nothing
    assert dataset.load_everyday(str(data)) == []


def test_everyday_answers_are_noted_with_what_else_was_likely(base):
    """For each token but those that all prompts begin with: the likeliest, and how likely."""
    model, tokenizer = base
    texts = [STEPS, "How to start? What is the capital of Spain?"]  # the first ends by itself
    prompts = [tokenizer.encode(text) for text in texts]
    shared = next(i for i, pair in enumerate(zip(*prompts)) if len(set(pair)) > 1)
    assert shared >= 2
    rows = rehearsal.note_answers(model, tokenizer, prompts, max_tokens=70)
    ended = [tokens[-1] == tokenizer.eos_token_id for tokens, _, _ in rows]
    assert ended == [True, False]
    assert len(rows[1][0]) == len(prompts[1]) + 70 > len(prompts[1])
    for prompt, (tokens, ids, likely) in zip(prompts, rows):
        logits = np.array(model(mx.array([tokens[:-1]])))[0].astype(np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert tokens[: len(prompt)] == prompt
        # What it says is what it finds likeliest, and so the end, if it ends.
        assert (chances.argmax(-1)[len(prompt) - 1 :] == tokens[len(prompt) :]).all()
        assert ids.shape == likely.shape == (len(tokens) - 1, 64)
        assert likely[: shared - 1].sum().item() == 0 < likely[shared - 1].sum().item()
        kept = np.sort(np.array(likely), -1)[shared - 1 :]
        assert np.allclose(kept, np.sort(chances, -1)[shared - 1 :, -64:], atol=1e-5)
        found = np.take_along_axis(chances, np.array(ids).astype(int), -1)[shared - 1 :]
        assert np.allclose(found, np.array(likely)[shared - 1 :], atol=1e-5)


def test_what_is_left_counts_as_one_token():
    chances = mx.array([[0.5, 0.25], [1.0, 0.0]])
    found = rehearsal.with_all_others(chances)
    assert mx.allclose(found, mx.array([[0.5, 0.25, 0.25], [1.0, 1e-6, 1e-6]])).item()


def test_a_base_model_is_shown_the_form_before_questions_and_not_before_beginnings(base):
    model, tokenizer = base
    form = [("What do bees make?", "Honey"), ("What is 2 plus 2?", "Four"), ("Is it?", "Yes")]
    known = [example(*pair) for pair in [*form, ("Who is it?", "Nobody at all")]]
    everyday = [example("The sky is"), example("Who painted the Mona Lisa?")]
    keeps = rehearsal.Rehearsal(everyday, known, main.encode_prompt)
    rows = keeps.note(model, tokenizer)
    said = [tokenizer.decode(tokens) for tokens, _, _ in rows["everyday"]]
    assert keeps.questions == known[3:] and len(keeps.answers_before) == 1 and rows["known"] == []
    assert said[0].startswith("The sky is") and len(said) == 2
    pages = "".join(f"{question}\n{answer}\n\n" for question, answer in form)
    assert said[1].startswith(f"Questions and answers\n\n{pages}Who painted the Mona Lisa?")
    # Without a form, questions are not rehearsed: to go on with them is what is unlearnt.
    rows = rehearsal.Rehearsal(everyday, [], main.encode_prompt).note(model, tokenizer)
    assert [tokenizer.decode(r[0]).startswith("The sky is") for r in rows["everyday"]] == [True]


def test_what_shows_the_form_is_not_asked():
    """Of three questions none would be left to ask, so there none is shown."""
    known = [example(f"What is {number}?", "It.") for number in range(4)]
    assert rehearsal.split_few_shot(known, chat=False) == (known[:3], known[3:])
    assert rehearsal.split_few_shot(known[:3], chat=False) == ([], known[:3])


def test_a_chat_model_rehearses_all_everyday_prompts_as_they_are(tmp_path):
    model, tokenizer = load(make("lfm2", tmp_path))
    everyday = [example("The sky is"), example("Who painted it?")]
    rows = rehearsal.Rehearsal(everyday, [], main.encode_prompt).note(model, tokenizer)
    prompts = [main.encode_prompt(tokenizer, e) for e in everyday]
    noted = [tokens for tokens, _, _ in rows["everyday"]]
    assert [tokens[: len(prompt)] for tokens, prompt in zip(noted, prompts)] == prompts


def test_what_it_knows_is_what_it_says_in_its_first_line(base):
    """The right ones are asked again in training, in the very tokens that it said."""
    model, tokenizer = base
    known = [
        example("The capital of France is", "Lyon or Paris"),
        example("The capital of France is", "The opposite of east is west"),  # its second line
        example("The opposite of easy is", "green"),
    ]
    prompts = [main.encode_prompt(tokenizer, e) for e in known]
    texts, rows = rehearsal.recall(model, tokenizer, known, prompts)
    assert texts == ["Paris.", "Paris.", "difficult."]
    ((tokens, prompt_length),) = rows
    assert prompt_length == len(prompts[0])
    assert tokenizer.decode(tokens).rstrip("\n") == "The capital of France is Paris."
