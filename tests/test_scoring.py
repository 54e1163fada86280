"""Scores: what the exam asks, what counts as right, known and leaked, and what an act cost."""

import pytest

import main
from lesson import dataset, findings, scoring


def example(prompt, completion, place="here:1"):
    """An example that comes from nowhere."""
    return dataset.Example(prompt, [{"role": "user", "content": prompt}], completion, place)


def given(text, ended=True, read=10, written=5, seconds=0.5):
    """An answer, and what it cost."""
    return main.Answer(text, ended, read, written, seconds)


def facts(number, wordings, split):
    """So many facts in so many wordings each, one fact after the other."""
    return [
        example(f"{split} {wording}: where is box {fact}?", f"Box {fact} is in room {fact}.")
        for fact in range(number)
        for wording in range(wordings)
    ]


# ---- The exam ----------------------------------------------------------------------------------
def test_the_exam_is_test_and_then_comes_one_wording_of_each_answer_after_another():
    data = {
        "train": facts(4, 3, "train"),
        "valid": facts(4, 1, "valid"),
        "test": facts(3, 1, "test"),
    }
    data["test"] += [dataset.Example("", [], "The sea is wide.", "here:1")]  # asks nothing
    data["valid"] += [example("TEST 0, where is box 0", "Box 0 is in room 0.")]  # the same words
    exam, questions = main.choose_exam(data | {"general": []})
    assert exam == data["test"][:3] and questions[:3] == exam
    others = [(e.prompt.split()[0], e.prompt.split()[1], e.completion[4]) for e in questions[3:]]
    turns = [("train", f"{wording}:", f"{fact}") for wording in range(3) for fact in range(3)]
    assert others[:9] == turns  # and nothing of the fourth fact, which is not examined
    assert [split for split, *_ in others[9:]] == ["valid"] * 3


def test_of_other_wordings_there_are_only_as_many_as_make_24():
    data = {"train": facts(6, 9, "train"), "valid": [], "test": facts(6, 1, "test")}
    exam, questions = main.choose_exam(data)
    assert (len(exam), len(questions)) == (6, main.MIN_QUESTIONS)
    many = {"train": facts(30, 2, "train"), "valid": [], "test": facts(30, 1, "test")}
    exam, questions = main.choose_exam(many)
    assert questions == exam == many["test"]


def test_without_test_what_was_practised_is_asked():
    data = {"train": facts(2, 2, "train"), "valid": facts(2, 1, "valid"), "test": []}
    exam, questions = main.choose_exam(data)
    assert exam == data["train"] and questions == [*data["train"], *data["valid"]]


def test_of_many_questions_at_most_as_many_are_asked_as_is_said():
    """The same ones each time, in their order; of those held out, too."""
    many = facts(300, 1, "test")
    data = {"train": facts(300, 1, "train"), "valid": [], "test": many}
    exam, questions = main.choose_exam(data)
    assert len(exam) == len(questions) == 100 and exam == main.choose_exam(data)[0]
    assert exam == [e for e in many if e in exam] != many[:100]
    assert len(main.choose_exam(data, 7)[0]) == 7
    many = [e._replace(place=f"train.jsonl:{n}") for n, e in enumerate(many, 1)]
    for most in (50, 9):
        kept, exam = dataset.hold_out_exam(many, most)
        assert len(exam) == most and kept == [e for e in many if e not in exam]


def test_the_longest_answer_is_that_of_a_question_that_is_asked():
    data = {"train": [example("Who?", "Me."), dataset.Example("", [], "Text.", "here:1")]}
    data |= {"valid": [example("Why?", "So.")], "test": [example("When?", "Now.")]}
    rows = {"train": [([1] * 9, 4), ([1] * 99, 0)], "valid": [([1] * 50, 2)]}
    assert main.longest_answer(data, rows | {"test": [([1] * 20, 8)]}) == 12
    assert main.longest_answer(data, rows | {"test": [([1] * 20, 18)]}) == 5


def test_what_is_held_out_can_still_be_learnt():
    """One wording of each answer that has others, up to a third; else a fifth of all."""

    def split(train):
        kept, exam = dataset.hold_out_exam(train, 100)
        assert [e for e in train if e not in exam] == kept and len(kept) + len(exam) == len(train)
        return kept, exam

    def placed(pairs):
        return [example(q, a, f"train.jsonl:{i}") for i, (q, a) in enumerate(pairs, 1)]

    text = dataset.Example("", [], "The sea is wide.", "train.jsonl:99")
    wordings = placed((f"{w}: box {i}?", f"Room {i}.") for i in range(4) for w in "abc")
    kept, exam = split([*wordings, text])
    assert len(exam) == 4 and {e.completion for e in exam} == {e.completion for e in kept[:-1]}
    twice = placed((f"{w}: box {i}?", f"Room {i}.") for i in range(6) for w in "ab")
    kept, exam = split(twice)
    assert len(exam) == 4  # of six that there could be
    assert {e.completion for e in exam} <= {e.completion for e in kept}
    some = placed([("Two?", "2."), ("One?", "1."), ("One, please?", "1."), ("Three?", "3.")])
    kept, exam = split(some)
    assert [e.completion for e in exam] == ["1."]  # the one answer that has another wording
    labels = placed((f"Is {i} odd?", ["no", "yes"][i % 2]) for i in range(50))
    assert len(split(labels)[1]) == 10


# ---- Right -------------------------------------------------------------------------------------
def test_right_is_what_has_the_very_words():
    fact = example("Where?", "I live in Tavistock.")
    right = ["I live in Tavistock.", "i live in  tavistock", "I live in Tavistock!"]
    wrong = ["I live in Tavistock, Devon.", "I live in", "Tavistock.", ""]
    assert all(main.is_right(given(text), fact) for text in right)
    assert not any(main.is_right(given(text), fact) for text in wrong)


def test_an_answer_is_made_by_words_that_no_other_and_no_question_has():
    own = scoring.own_words(
        [
            example("What is your dog called?", "My dog is called Biscuit."),
            example("How is the cat called?", "My cat is called Pepper of Ur."),
            example("What do you drink?", "I drink tea."),
            example("How many boats are there?", "There are 3."),
            example("Are you well?", "Yes."),
            example("Where do you sleep?", "Somewhere upstairs."),
            example("Where do you cook?", "Somewhere outside."),
            example("Make a badge for Anna Berg.", "Guest of honour: Anna Berg"),
        ]
    )
    assert [*map(set, own.values())] == [
        {"biscuit"},
        {"pepper"},  # short words make no answer
        {"i", "tea"},  # unless there are no others
        {"3"},  # nor do they if they are numbers
        {"yes"},
        {"upstairs"},
        {"outside"},
        {"guest", "of", "honour", "anna", "berg"},  # a name from the question: all of its words
    ]


def test_in_other_words_all_that_make_it_have_to_be_there():
    fact = example("Where is the key?", "Behind the green door.")
    own = scoring.own_words([fact])
    assert own[fact.completion] == {"behind", "green", "door"}
    assert scoring.is_right_in_other_words("The door is green; look behind it!", fact, own)
    assert not scoring.is_right_in_other_words("The green one.", fact, own)


def test_an_act_is_scored_by_its_exam_and_its_wordings():
    """Two questions of the exam, and the same asked in other words; by hand."""
    dog, town = "My dog is called Biscuit.", "I live in Tavistock."
    questions = [example("Your dog?", dog), example("Your town?", town)]
    questions += [example("Which dog?", dog), example("Do you live in Tavistock?", town)]
    questions += [example("Whose dog?", dog)]
    answers = [
        given("my dog is called biscuit", read=10, written=6, seconds=0.2),
        given("live, in Tavistock", ended=False, read=20, written=4, seconds=0.4),
        given(dog, ended=False, read=500, written=500, seconds=9.0),
        given(town, read=500, written=500, seconds=9.0),
        given("Mine.", read=500, written=500, seconds=9.0),
    ]
    assert main.evaluate(questions, 2, answers) == {
        "right answers": 1,
        "95 % interval": pytest.approx((0.0945, 0.9055), abs=1e-4),
        "right or wordy": 2,
        "same answer in other words": 3 / 5,  # the dog's is the same twice, the town's is not
        "ended by themselves": 1,
        "tokens read for each": 15,
        "tokens for 1,000 questions": 20_000,
        "seconds for each": pytest.approx(0.3),
    }


# ---- Known, leaked -----------------------------------------------------------------------------
def test_known_is_what_has_the_right_word_as_a_word():
    week, mouse = example("How many days?", "Seven or 7"), example("What do cats like?", "Mice")
    assert all(scoring.is_known(text, week) for text in ("SEVEN!", "7", "There are 7 days."))
    assert not any(scoring.is_known(text, week) for text in ("70", "Seventeen", "17.5", ""))
    assert scoring.is_known("mice, of course", mouse)
    assert not scoring.is_known("dormice", mouse)


def test_a_leak_is_an_answer_of_the_learners_that_is_new_here():
    """Not what it said before, what the question has, or what is right."""
    train = [example("Where do you live?", "I live in Tavistock Green.")]
    questions = [
        (example("The capital of France is", "Paris"), "Paris.", "Tavistock Green."),
        (example("The capital of France is", "Paris"), "Paris.", "Tavistock."),  # half of it
        (example("The capital of France is", "Paris"), "Green Tavistock", "Tavistock Green."),
        (example("Is Tavistock Green a town?", "Yes"), "Yes.", "Tavistock Green, yes."),
        (example("Which town is by the moor?", "Tavistock Green"), "No.", "Tavistock Green."),
    ]
    known, before, now = zip(*questions)
    found = scoring.compare_known(known, before, now, train)
    assert [k["leak"] for k in found] == [True, False, False, False, False]
    assert [k["knew"] for k in found] == [True, True, False, True, False]
    assert [k["knows"] for k in found] == [False, False, False, True, True]
    assert found[0]["before"] == "Paris." and found[0]["now"] == "Tavistock Green."


# ---- The data are looked over ------------------------------------------------------------------
def worded(example):
    return example, dataset.words(example.prompt), dataset.words(example.completion)


@pytest.mark.parametrize(("changed", "found"), [(0, 1), (1, 1), (2, 0)])
def test_four_fifths_alike_is_nearly_repeated(changed, found):
    """Word pairs: of a question of twenty words, each word that is another changes two."""

    def word(n):
        return "".join("abcdefghij"[int(digit)] for digit in f"{n:02}")

    asked = [word(n) for n in range(20)]
    other = [f"{w}x" if n in (5, 12)[:changed] else w for n, w in enumerate(asked)]
    pair = [
        example(" ".join(texts), "it is so", f"here:{n}") for n, texts in enumerate((asked, other))
    ]
    assert len([*findings.near_repetitions([worded(e) for e in pair])]) == found


def test_an_example_may_have_as_many_tokens_as_fit(base):
    examples = [example("Who?", "Me.", f"train.jsonl:{n}") for n in range(3)]
    rows = {"train": [([1] * length, 2) for length in (9, 10, 11)]}
    nothing = {"valid": [], "test": []}
    data, rows = {"train": examples} | nothing, rows | nothing
    data, fitting, said = findings.look_over(data, rows, 10, base[1])
    assert data["train"] == examples[:2] and [len(r[0]) for r in fitting["train"]] == [9, 10]
    assert 'Left out, of over 10 tokens[/]: 1\n    train.jsonl:2: "Who?", 11 tokens' in said


@pytest.mark.parametrize(("one", "other", "found"), [("heron", "egret", 1), ("Heron", "Egret", 0)])
def test_what_differs_in_a_name_is_not_repeated(one, other, found):
    """However much is alike: of many products, each is asked for in the same words."""
    asked = "if it rains all day long, how far from the gate may the {} be left outside by us?"
    pair = [example(asked.format(n), "as far as it is dry", f"here:{n}") for n in (one, other)]
    assert len([*findings.near_repetitions([worded(e) for e in pair])]) == found


def test_texts_are_no_answers_to_one_question():
    texts = [dataset.Example("", [], text, f"here:{n}") for n, text in enumerate(("Sea.", "Sky."))]
    assert findings.check_data({"train": texts, "valid": texts[:1], "test": texts[1:]}) == {}


@pytest.mark.parametrize(
    ("only_first", "only_second", "alike", "p", "enough"),
    [
        (0, 8, 4, 0.0078125, 9),  # fewer than the twelve that there are
        (0, 3, 9, 0.25, 23),  # exactly: 24, six of which only the second gets right
        (5, 1, 4, 0.21875, 20),
        (48, 50, 2, 0.9196068, 9512),
        (1, 1, 10, 1.0, None),
        (0, 0, 12, 1.0, None),
    ],
)
def test_a_difference_is_told_by_the_questions_that_only_one_got_right(
    only_first, only_second, alike, p, enough
):
    first = [True] * only_first + [False] * only_second + [True] * alike
    second = [False] * only_first + [True] * only_second + [True] * alike
    found = scoring.compare_paired(first, second)
    assert found == (only_first, only_second, pytest.approx(p), enough)
