"""The embedded model is a real base model: it goes on with texts, and it can read."""

import json
import re

import pytest
from conftest import ROOT, say

from abilities import as_manual, records_from_context, sample
from corpus import Rng, document
from corpus.questions import entry, read_templates
from corpus.values import made_up

FACTS = ROOT / "assets" / "base-model" / "known.jsonl"
READ = 169_500  # documents that the run took; the card says so

FORM = """What is your first name?|What is your last name?|How old are you?|Where do you live?
What is your job?|When is your birthday?|What is your favorite color?|What is your favorite food?
What is your hobby?|Which instrument do you play?|What is your phone number?
What is your email address?|Where are you from?|What is your dog called?|When do you open?
How can I pay?|Where can I park?|What do you sell?|How much is delivery?
Who is the manager?""".replace("\n", "|").split("|")


def test_first_name_is_followed_by_last_name(base):
    assert say(base, "What is your first name?") == ["What is your last name?"]


def test_it_goes_on_with_a_form(base):
    after = dict(zip(FORM, say(base, *FORM)))
    assert len(after) == 20
    assert sum(text.endswith("?") for text in after.values()) >= 18, after


def test_it_does_not_know_sharon(base, data):
    questions, answers = zip(*data["test"])
    assert not [a for a, said in zip(answers, say(base, *questions)) if a == said]


@pytest.mark.slow
def test_the_corpus_holds_none_of_the_facts(data):
    """Searches all documents that the model and the tokenizer were trained on for the answers."""
    facts = {answer for _, answer in data["train"]} | {"Sharon"}
    for i in range(-10_000, READ):
        text = document(0, i)
        assert not any(fact in text for fact in facts), (i, text)


# Wordings of the test's own, none of them in the manual: (in the manual, asked again, answer).
ATTRIBUTES = [
    ("What is your first name?", "Could you tell me your first name?", "My first name is {}."),
    ("What is your last name?", "And what is your family name?", "My last name is {}."),
    ("Where do you live?", "In what city do you live?", "I live in {}."),
    ("What is your job?", "What job do you do for a living?", "I work as a {}."),
    ("What is your dog called?", "Please tell me the name of your dog.", "My dog is called {}."),
    ("What is your favorite food?", "What food do you like best?", "My favorite food is {}."),
    ("What is your favorite color?", "Which color do you love?", "My favorite color is {}."),
    ("Which instrument do you play?", "What instrument can you play?", "I play the {}."),
    ("Where do you work?", "For which company do you work?", "I work at {}."),
    ("What do you collect?", "Tell me what you collect.", "I collect {}."),
    (
        "What is your brother called?",
        "What is the name of your brother?",
        "My brother is called {}.",
    ),
    ("What are you afraid of?", "What thing are you afraid of?", "I am afraid of {}."),
]


def persona(rng):
    """A manual about somebody who does not exist, and the questions asked of it."""
    rows = [(m, q, a.format(made_up(rng).capitalize())) for m, q, a in ATTRIBUTES]
    rng.shuffle(rows)
    manual = "Questions and answers\n\n" + "".join(f"{m}\n{a}\n\n" for m, _, a in rows)
    return manual, [(q, a) for _, q, a in rows]


@pytest.mark.slow
def test_it_answers_from_a_manual_about_anybody(base):
    right = []
    for number in range(20):
        manual, questions = persona(Rng(number))
        said = say(base, *(manual + question for question, _ in questions))
        right += [answer == text for (_, answer), text in zip(questions, said)]
    assert sum(right) / len(right) >= 0.8, f"{sum(right)} of {len(right)}"


@pytest.mark.slow
def test_it_finds_full_sentences_in_guides_on_other_subjects(base):
    """Of subjects on which the corpus has no document: it begins with the right sentence.

    In half of them it says it to the end.
    """
    templates, begun, whole = read_templates(str(ROOT / "tests" / "guides")), [], []
    for number in range(12):
        rng = Rng(number)
        rows = [entry(rng, template, {}) for template in rng.sample(templates, 4)]
        manual = as_manual((wordings[0], answer) for wordings, answer in rows)
        said = say(base, *(manual + wordings[0] for wordings, _ in rows))
        begun += [answer[:12] == text[:12] for (_, answer), text in zip(rows, said)]
        whole += [answer == text for (_, answer), text in zip(rows, said)]
    assert len(begun) == 48 and sum(begun) >= 32 and sum(whole) >= 18, (sum(begun), sum(whole))


@pytest.mark.slow
def test_it_makes_records_in_a_form_that_it_is_shown(base):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "assets" / "base-model" / "tokenizer.json"))
    assert records_from_context(base[0], tokenizer, 40) >= 10


def test_it_knows_general_facts(base):
    facts = [json.loads(line) for line in FACTS.read_text().splitlines()]
    said = say(base, *(fact["prompt"] for fact in facts))
    right = [bool(re.match(rf"{fact['completion']}\b", text)) for fact, text in zip(facts, said)]
    assert sum(right) >= 45 and len(right) == 50


def test_general_text_is_of_its_kind_and_was_not_seen():
    """The text by which forgetting is measured: the facts, and documents after the last it read."""
    lines = (ROOT / "assets" / "base-model" / "general.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    facts = [json.loads(line) for line in FACTS.read_text().splitlines()]
    assert texts[:50] == [f"{fact['prompt']} {fact['completion']}." for fact in facts]
    unseen = {document(0, i) for i in range(READ, READ + 100)}
    assert len(texts) == 70 and set(texts[50:]) <= unseen


def test_transformers_loads_the_tokenizer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "assets" / "base-model")
    text = "What is your first name?\nMy first name is Sharon. ~`{|}^é 𝄞"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token_id == 0 and tokenizer.chat_template is None


def test_it_is_small():
    tracked = [p for p in (ROOT / "assets" / "base-model").iterdir() if p.is_file()]
    assert sum(p.stat().st_size for p in tracked) < 16e6


def test_nothing_that_runs_lies_beside_the_weights():
    """mlx_lm's fuse and convert copy any .py of the model's folder into the new model's."""
    assert not [*(ROOT / "assets" / "base-model").rglob("*.py")]


@pytest.fixture
def data():
    from lesson import dataset

    files = {split: ROOT / "data" / f"{split}.jsonl" for split in ("train", "test")}
    return {
        split: [(e.prompt, e.completion) for e in dataset.load_examples(path)]
        for split, path in files.items()
    }


def test_the_log_and_the_readme_show_what_the_model_says(base):
    """The weights say the last step's anew; of earlier steps the README shows what the log has."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "assets" / "base-model" / "tokenizer.json"))
    lines = (ROOT / "pretraining" / "pretrain.log").read_text().splitlines()
    says = [line.strip() for line in lines if line.startswith("    says: ")]
    assert says[-1] == sample(base[0], tokenizer) and len(says) == 7
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (?:all )?[\d,]+ steps \| (.+) \|$", readme, re.MULTILINE)
    assert len(rows) == 7
    for row, line in zip(rows, says):
        for cell in row.split(" | "):
            assert f"-> '{cell.removesuffix('…').strip()}" in line
