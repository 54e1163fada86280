"""Benchmarks: lm-evaluation-harness asks the base model and the fused one, as the README says.

The harness and its tasks are the real ones, ARC, HellaSwag, MMLU and TruthfulQA; only their data
sets are replaced, by a few questions of our own in the same form, since the real ones are not here.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
TASKS = ["arc_easy", "arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2"]
CAPITALS = {"Egypt": "Cairo", "Greece": "Athens", "Cuba": "Havana", "France": "Paris"}
SHARON = {
    "What is your first name?": "My first name is Sharon.",
    "What instrument do you play?": "I play the cello.",
    "What do you do for a living?": "I work as a beekeeper.",
    "Where do you live?": "I live in Tavistock.",
}


def arc(questions):
    """Rows in ARC's form: each question with all the answers to choose from."""
    choices = {"text": [*questions.values()], "label": ["A", "B", "C", "D"]}
    return [
        {"id": question, "question": question, "choices": choices, "answerKey": label}
        for question, label in zip(questions, choices["label"])
    ]


def data_sets():
    """{name on the Hub: {configuration: {split: rows}}}, in the forms that the tasks ask for."""
    capitals = {f"What is the capital of {land}?": city for land, city in CAPITALS.items()}

    def splits(rows, *names):
        return dict.fromkeys(names, rows)

    def targets(city):
        others = [c for c in endings if c != city]
        return {"choices": [city, *others], "labels": [1, 0, 0, 0]}

    story = {"ind": 0, "activity_label": "Capitals", "split": "val", "split_type": "indomain"}
    endings = [*CAPITALS.values()]
    hellaswag = [
        story | {"ctx_a": "Atlas.", "ctx_b": f"the capital of {land} is", "ctx": ""}
        | {"source_id": "", "endings": [f"{city}." for city in endings]}
        | {"label": str(endings.index(city))}
        for land, city in CAPITALS.items()
    ]  # fmt: skip
    mmlu = [
        {"question": q, "subject": "", "choices": endings, "answer": endings.index(a)}
        for q, a in capitals.items()
    ]
    truthful = [
        {"question": q, "mc1_targets": targets(a), "mc2_targets": targets(a)}
        for q, a in capitals.items()
    ]
    return {
        "allenai/ai2_arc": {
            "ARC-Easy": splits(arc(capitals), "train", "validation", "test"),
            "ARC-Challenge": splits(arc(SHARON), "train", "validation", "test"),
        },
        "Rowan/hellaswag": {"default": splits(hellaswag, "train", "validation")},
        "cais/mmlu": {subject: splits(mmlu[:2], "dev", "test") for subject in SUBJECTS},
        "truthfulqa/truthful_qa": {"multiple_choice": splits(truthful, "validation")},
    }


SUBJECTS = """abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology
college_chemistry college_computer_science college_mathematics college_medicine college_physics
computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
formal_logic global_facts high_school_biology high_school_chemistry high_school_computer_science
high_school_european_history high_school_geography high_school_government_and_politics
high_school_macroeconomics high_school_mathematics high_school_microeconomics high_school_physics
high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning
management marketing medical_genetics miscellaneous moral_disputes moral_scenarios nutrition
philosophy prehistory professional_accounting professional_law professional_medicine
professional_psychology public_relations security_studies sociology us_foreign_policy virology
world_religions""".split()  # noqa: SIM905


def write_data_sets(folder):
    """Each data set where the harness looks before it asks the Hub: in a folder of its name."""
    for name, configurations in data_sets().items():
        (folder / name).mkdir(parents=True)
        listed = []
        for configuration, splits in configurations.items():
            files = []
            for split, rows in splits.items():
                file = f"{configuration}-{split}.jsonl"
                (folder / name / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
                files.append({"split": split, "path": file})
            listed.append({"config_name": configuration, "data_files": files})
        (folder / name / "README.md").write_text(f"---\nconfigs: {json.dumps(listed)}\n---\n")


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """A Python with the harness, beside the packages of this one, which stays as it is."""
    folder = tmp_path_factory.mktemp("harness")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python3"
    purelib = sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(purelib, "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [python, "-m", "pip", "install", "--quiet", "mlx-lm[evaluate]"]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the harness cannot be installed: {done.stderr[-300:]}")
    return python


@pytest.fixture(scope="module")
def scores(harness, lesson, adapters, tmp_path_factory):
    """{model: {task: scores}}, before and after fine-tuning, by the commands of the README."""
    folder = tmp_path_factory.mktemp("benchmarks")
    write_data_sets(folder)
    base, fused = ROOT / "assets" / "base-model", folder / "fused"
    fuse = ["fuse", "--model", base, "--adapter-path", adapters, "--save-path", fused]
    subprocess.run([sys.executable, "-m", "mlx_lm", *fuse], check=True, capture_output=True)
    results = {}
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    for name, model in (("base", base), ("fused", fused)):
        command = [harness, "-m", "mlx_lm", "evaluate", "--model", model, "--tasks", *TASKS]
        command += ["--output-dir", folder / f"scores-{name}"]
        done = subprocess.run(
            command, check=False, cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (file,) = (folder / f"scores-{name}").iterdir()
        results[name] = json.loads(file.read_text())
    return results, {"base": base, "fused": fused}


def test_all_four_benchmarks_give_scores(scores):
    for results in scores[0].values():
        assert set(TASKS) <= results.keys() and len(results) > len(TASKS) + 57
        for task in TASKS:
            assert 0 <= results[task]["acc,none"] <= 1
        # Four questions each: a score is so many quarters.
        for task in ("arc_easy", "arc_challenge", "hellaswag", "truthfulqa_mc1"):
            assert (4 * results[task]["acc,none"]).is_integer()


def test_the_scores_show_what_was_learnt(scores):
    base, fused = scores[0]["base"], scores[0]["fused"]
    assert fused["arc_challenge"]["acc,none"] > base["arc_challenge"]["acc,none"]
    assert fused["arc_challenge"]["acc,none"] == 1


@pytest.mark.parametrize("task", ["arc_easy", "arc_challenge"])
def test_a_score_is_the_share_of_likeliest_answers(scores, task):
    """ARC's score computed anew: of each question the answer that the model finds likeliest."""
    configuration = {"arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge"}[task]
    rows = data_sets()["allenai/ai2_arc"][configuration]["test"]
    for name, folder in scores[1].items():
        model, tokenizer = mlx_lm.load(str(folder))
        right = 0
        for row in rows:
            before = f"Question: {row['question']}\nAnswer:"
            likelihoods = [
                likelihood(model, tokenizer, before, " " + c) for c in row["choices"]["text"]
            ]
            best = max(range(4), key=likelihoods.__getitem__)
            right += row["choices"]["label"][best] == row["answerKey"]
        assert scores[0][name][task]["acc,none"] == right / 4


def likelihood(model, tokenizer, before, after):
    """The logarithm of the probability of a text after another."""
    start, tokens = len(tokenizer.encode(before)), tokenizer.encode(before + after)
    logits = model(mx.array([tokens[:-1]]))[0].astype(mx.float32)
    logarithms = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return sum(logarithms[i - 1, tokens[i]].item() for i in range(start, len(tokens)))
