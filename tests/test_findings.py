"""Error analysis: what is wrong with the data is found, with file and line; and nothing else is."""

import json
import random
import time

import pytest
from conftest import ROOT, Run, write_data

import main
from lesson import dataset, findings, models

CLEAN = [
    ("When does the greenhouse open?", "The greenhouse opens at nine."),
    ("What is grown in the greenhouse?", "Tomatoes, basil and lemons are grown there."),
    ("Who waters the plants?", "Nkechi Ostrander waters them every evening."),
    ("How much is a lemon tree?", "A lemon tree is 40 euros, with its pot."),
    ("Which tools can I borrow on a Saturday?", "You can borrow a spade or a rake."),
    ("Where is the compost?", "The compost is behind the shed."),
]
FAULTS = [
    ("Who recieves the guests?", "Ms. Teh does. Thier coats hang in the hall."),
    ("where is  the COMPOST", "The compost is behind the shed!"),
    ("Which tools can I borrow on a Saturday please?", "You can borrow a spade or a rake."),
    ("Who waters the plants?", "Nobody does."),
    ("What does the gate sound like?", "It squeaks."),
    ("What is on the list?", "Peas. " * 60),
]
FOUND = """
  Looked over 12 of train, 0 of valid, 1 of test: 7 findings.

  Misspelt: 2
    train.jsonl:7: "recieves", for receives
    train.jsonl:7: "Thier", for their

  Repeated: 1
    train.jsonl:8: "where is the COMPOST", as train.jsonl:6

  Two answers to one question: 1
    train.jsonl:10: "Who waters the plants?" is "Nobody does.", but in train.jsonl:3 \
"Nkechi Ostrander waters them every evening."

  Nearly repeated: 1
    train.jsonl:9: "Which tools can I borrow on a Saturday please?", almost as train.jsonl:5

  Asked in training too, so the exam proves less: 1
    test.jsonl:1: "What does the gate sound like" stands in train.jsonl:11

  Left out, of over 100 tokens: 1
    train.jsonl:12: "What is on the list?", 249 tokens
"""  # Ms. Teh is a name


def test_each_planted_fault_is_found_at_its_line(tmp_path):
    test = [("What does the gate sound like", "It squeaks.")]
    folder = write_data(tmp_path / "data", train=CLEAN + FAULTS, test=test)
    limits = ("--max-seq-length", 100, "--iters", 1)
    run = Run("--data", folder, "--adapter-path", tmp_path / "a", *limits)
    assert run.status == 0, run.err
    said = run.out.split("Training: ")[1].split("\n", 1)[1].split("\n  Rehearsal: ")[0]
    assert said.replace(f"{folder}/", "").strip() == FOUND.strip()


@pytest.mark.slow
def test_at_most_ten_of_a_kind_are_shown(tmp_path):
    train = [(f"Who has key {i}?", f"Key {i} is with the porter, definately.") for i in range(14)]
    folder = write_data(tmp_path / "data", train=train, test=CLEAN)
    run = Run("--data", folder, "--adapter-path", tmp_path / "a", "--iters", 1)
    assert "Misspelt: 14\n" in run.out and "    and 4 more\n" in run.out
    assert run.out.count('"definately", for definitely') == 10


def examples(pairs):
    rows = [dataset.Example(q, [], a, f"train.jsonl:{i}") for i, (q, a) in enumerate(pairs, 1)]
    return {"train": rows, "valid": [], "test": []}


def catalogue():
    """200 clean examples of the kind in which much is alike: products, names, places, sizes."""
    birds = [
        "Marlin",
        "Heron",
        "Kestrel",
        "Osprey",
        "Tern",
        "Curlew",
        "Plover",
        "Avocet",
        "Teal",
        "Rail",
    ]
    people = ["Ned", "Ingrid", "Ba", "Tamsin", "Olu", "Sorin", "Maeve", "Fo", "Anouk", "Wim"]
    rows = []
    for i, (product, person) in enumerate(zip(birds, people)):
        rows += [
            (f"How much is the {product}?", f"The {product} costs {300 + 20 * i} dollars."),
            (f"What does the {product} cost?", f"The {product} costs {300 + 20 * i} dollars."),
            (f"Who designed the {product}?", f"{person} designed the {product}."),
            (f"Is the {product} made for long tours in the hills and in the rain?", "Yes, it is."),
            (f"How long is the warranty of the {product}?", "Two years from the day you buy it."),
        ]
        for size in range(15):
            price = f"The {product} {size + 46} is in stock, in shelf {chr(65 + size)} of the hall."
            rows.append((f"Do you have the {product} in size {size + 46}?", price))
    return rows


def test_clean_data_are_called_clean(lesson):
    assert len(catalogue()) == 200
    assert findings.check_data(examples(catalogue())) == {}
    assert "Looked over 48 of train, 12 of valid, 12 of test: nothing to mend." in lesson.out


GERMAN = [
    ("Wer backt das Brot?", "Frau Brandt backt das Brot, oder ihr Sohn."),
    ("Wann ist die Bäckerei offen?", "Sie ist ab sechs Uhr offen, und am Sonntag ab acht."),
    ("Was ist das beste Brot?", "Das Roggenbrot ist das beste, und es ist billig."),
]
DUTCH = [
    ("Wie is van het huis?", "De vrouw van het huis is niet thuis, of ze slaapt."),
    ("Wat is het adres?", "Het adres is op een kaart, en die ligt in een la."),
]
CHINESE = [("图书馆几点开门？", "早上九点。"), ("谁浇花？", "小明每天晚上浇花。")] * 9
ORDERS = [json.loads(line) for line in (ROOT / "data/orders/train.jsonl").open()]


def test_texts_that_are_not_english_are_not_checked_for_english_spelling():
    """Or `oder` would be for "order", and `Sie` for "Size", in every line."""
    assert findings.check_data(examples(GERMAN)) == findings.check_data(examples(DUTCH)) == {}
    assert [*findings.check_data(examples([("Who recieves the guests?", "I do.")]))] == ["Misspelt"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (GERMAN, "tokens a byte, where plain English has 0."),
        (CHINESE, "tokens a byte, where plain English has 0."),
        ([(f"{n} + {n} =", f"{n + n}") for n in range(40)], ""),
        ([("def f(x):", "return x ** 2"), ("for i in range(9):", "print(i)")] * 9, ""),
        (CLEAN, ""),
        ([(order["prompt"], order["completion"]) for order in ORDERS], ""),
    ],
)
def test_a_language_that_the_model_knows_little_of(pairs, said, base):
    """By the tokens that its texts fall into; a task in English, with names and signs, is none."""
    found = findings.check_language(examples(pairs)["train"], base[1])
    assert (said in found and "Qwen3" in found) if said else found == ""


@pytest.mark.parametrize(("count", "kinds"), [(4, 3), (5, 1)])
def test_many_answers_to_one_question_are_a_task_and_one_finding(count, kinds):
    """As stories, or chat; a few are contradictions, each of which is named."""
    names = ["Ada", "Bo", "Cy", "Di", "Ed"][:count]
    pairs = [("Tell me about somebody.", f"{name} has a boat.") for name in names]
    found = findings.check_data(examples([*pairs, ("Who has a car?", "Fay does.")]))
    ((kind, places),) = found.items()
    assert len(places) == kinds
    assert kind == ("Two answers to one question" if count == 4 else "Many answers to one question")
    if count == 5:
        assert places[0].startswith('train.jsonl:1: "Tell me about somebody." has 5: a task')


def test_special_tokens_within_a_text_are_found(base):
    """What ends a text, or a turn, does so in the middle too; as a word it cannot be learnt."""
    pairs = [
        ("What ends a text?", "The mark <|endoftext|> does."),
        ("Is <b>this</b> a mark, or [that]?", "No."),
    ]
    special = models.special_tokens(base[1])
    (found,) = findings.check_data(examples(pairs), special).items()
    kind, places = found
    assert kind.startswith("Holds a special token")
    assert places == ['train.jsonl:1: "What ends a text?" has <|endoftext|>']


def test_the_end_of_text_after_an_answer_is_taken_off(base, capsys):
    """Other tools want it there; encode() adds it by itself, and twice it would be learnt."""
    data = examples([("Who?", "Me.<|endoftext|>"), ("Where?", "Here. <|endoftext|>")])
    data = models.without_end(base[1], data)
    assert [e.completion for e in data["train"]] == ["Me.", "Here."]
    tokens, _ = main.encode(base[1], data["train"][0])
    assert base[1].decode(tokens) == "Who?\nMe.<|endoftext|>"
    assert findings.check_data(data, models.special_tokens(base[1])) == {}
    with pytest.raises(SystemExit):
        models.without_end(base[1], examples([("Who?", "<|endoftext|>")]))
    assert "train.jsonl:1: has nothing but the end of text" in capsys.readouterr().err


def test_ten_thousand_examples_take_no_longer_than_twice_their_tokens():
    """Of ordinary words, some 250 letters each; beside making their tokens, in the same run."""
    rng = random.Random(0)
    vocabulary = sorted({right for right in findings.dictionary().values() if right.isalpha()})[::7]

    def sentence(length):
        return " ".join(rng.choices(vocabulary, k=length)).capitalize()

    rows = [(sentence(8) + "?", sentence(20) + ".") for _ in range(10_000)]
    rows[9_000] = (rows[10][0] + " please", rows[10][1])
    data = examples(rows)
    tokenizer = models.load(str(ROOT / "assets" / "base-model"))[1]
    start = time.perf_counter()
    encoded = {split: [main.encode(tokenizer, e) for e in data[split]] for split in data}
    tokens_made = time.perf_counter()
    *_, report = findings.look_over(data, encoded, 512, tokenizer)
    assert time.perf_counter() - tokens_made <= 2 * (tokens_made - start)
    assert "train.jsonl:9001" in report and "almost as train.jsonl:11" in report
