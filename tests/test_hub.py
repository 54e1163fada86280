"""From the Hub: what comes down, what is said when it does not, and that nobody else is reached."""

import json
import re
import subprocess
import sys

import pytest
from conftest import TERMINAL, Run, write_data
from hub import Hub
from models import make

pytestmark = pytest.mark.slow
PAIRS = {"Who keeps the lighthouse?": "Old Marta does.", "When is it lit?": "At nine."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the Hub has: the same model under several names, and the data to teach it."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("open", "gated", "cut"):
        make("llama base", folder / "someone" / name)
    make("llama base", folder / "someone" / "pickled")
    (folder / "someone" / "pickled" / "model.safetensors").rename(
        folder / "someone" / "pickled" / "pytorch_model.bin"
    )
    write_data(folder / "data", train=PAIRS.items(), test=PAIRS.items())
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Marta."}]
    splits = {"train": PAIRS, "validation": PAIRS, "test": PAIRS}
    write_data(
        folder / "datasets" / "someone" / "facts", **{s: p.items() for s, p in splits.items()}
    )
    chats = folder / "datasets" / "someone" / "chats" / "data"
    chats.mkdir(parents=True)
    lines = [{"messages": chat}, {"text": "The sea is wide."}]
    (chats / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_data(folder / "datasets" / "someone" / "others" / "data", test=PAIRS.items())
    wrong = folder / "datasets" / "someone" / "wrong"
    wrong.mkdir()
    (wrong / "train.jsonl").write_text('{"query": "Who?", "reply": "Marta."}\n')
    parts = folder / "datasets" / "someone" / "parts"
    write_data(parts, spring=[("When is spring?", "In March.")], fall=[("When is fall?", "Later.")])
    files = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}.jsonl"}]}
        for name in ("spring", "fall")
    ]
    (parts / "README.md").write_text(f"---\nconfigs: {json.dumps(files)}\n---\n")
    alpaca = folder / "datasets" / "someone" / "alpaca"
    alpaca.mkdir()
    lines = [
        {"instruction": "Who?", "input": "", "output": "Marta.", "text": "### Who? Marta."},
        {"instruction": "Who is it?", "input": "Be short.", "output": "Marta.", "text": "###"},
    ]
    (alpaca / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    usable = [{"prompt": f"Who is {n}?", "completion": f"It is {n}."} for n in range(199)]
    for name, answers in (("flawed", [" "]), ("rotten", [None, "", " "])):  # 0.5 %, 1.5 %
        (folder / "datasets" / "someone" / name).mkdir()
        wrong = [{"prompt": "Who?", "completion": answer} for answer in answers]
        text = "".join(json.dumps(line) + "\n" for line in [*usable[:5], *wrong, *usable[5:]])
        (folder / "datasets" / "someone" / name / "train.jsonl").write_text(text)
    return folder


@pytest.fixture(scope="module")
def hub(folder):
    with Hub(folder, gated=("someone/gated",), cut={"someone/cut": 10000}) as hub:
        yield hub


def lesson(folder, home, hub, name, *options, **more):
    """A short run with the model of that name, its downloads kept in `home`."""
    own = ("--data", folder / "data", "--adapter-path", home / "adapters", "--iters", 1)
    return Run("--model", name, *own, *options, env=hub.env(home / "hub"), **more)


def test_a_model_is_fetched_once_and_nobody_but_the_hub_is_reached(folder, hub, tmp_path):
    run = lesson(folder, tmp_path, hub, "someone/open")
    assert run.status == 0 and run.err == "", run.err
    record = json.loads((tmp_path / "adapters" / "results.json").read_text())
    assert record["reached"] == ["127.0.0.1"] and "Reached: 127.0.0.1." in run.out
    fetched = len(hub.ranges)
    assert any(path == "model.safetensors" for path, *_ in hub.ranges)
    assert not [path for _, path in hub.requests if "agent" in path or "telemetry" in path]
    assert lesson(folder, tmp_path, hub, "someone/open").status == 0
    assert len(hub.ranges) == fetched


def test_a_download_shows_how_far_it_is(folder, hub, tmp_path):
    """In a terminal; in a file it would only be noise."""
    (tmp_path / "typed").write_text("\n")  # no questions of one's own
    wide = ("sh", "-c", 'stty cols 80 rows 24 && exec "$@"', "sh")
    terminal = (sys.executable, "-c", TERMINAL, *wide)
    with (tmp_path / "typed").open() as stdin:
        run = lesson(folder, tmp_path, hub, "someone/open", before=terminal, stdin=stdin)
    assert run.status == 0
    assert re.search(r"Fetching \d+ files: +\d+%", run.out)


MISTAKES = {
    "no such name": ("someone/none", "not on the Hub by that name"),
    "gated": ("someone/gated", "accept its terms on its page on the Hub"),
    "broken off": ("someone/cut", "the download broke off; run it again"),
    "pickled": ("someone/pickled", "no safetensors in it"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_fetched(mistake, folder, hub, tmp_path):
    name, said = MISTAKES[mistake]
    check(lesson(folder, tmp_path, hub, name), name, said, tmp_path)


def check(run, name, said, home):
    """One line that says what and why; nothing saved."""
    assert run.status == 2
    assert len(run.err.splitlines()) == 1 and run.err.startswith(f"main.py: --model {name}: ")
    assert said in run.err, run.err
    assert not (home / "adapters").exists()


def test_half_a_download_is_taken_up_again(folder, tmp_path):
    """Not offline, which is said; and when the Hub is there again, all is well."""
    with Hub(folder, cut={"someone/cut": 10000}) as hub:
        assert lesson(folder, tmp_path, hub, "someone/cut").status == 2
    run = lesson(folder, tmp_path, hub, "someone/cut")
    check(run, "someone/cut", "half of it is here and the Hub cannot be reached", tmp_path)
    with Hub(folder) as hub:
        assert lesson(folder, tmp_path, hub, "someone/cut").status == 0
    # What is here needs no Hub.
    assert lesson(folder, tmp_path, hub, "someone/cut").status == 0
    run = lesson(folder, tmp_path / "elsewhere", hub, "someone/cut")
    check(run, "someone/cut", "the Hub cannot be reached", tmp_path / "elsewhere")


def test_a_full_disk(folder, hub, tmp_path):
    """A disk of 100 KB, and a model of 200."""
    (tmp_path / "hub").mkdir()
    mount = f'mount -t tmpfs -o size=100k tmpfs "{tmp_path}/hub" && exec "$@"'
    small = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if subprocess.run([*small, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    run = lesson(folder, tmp_path, hub, "someone/open", before=small)
    check(run, "someone/open", "the disk is full; make room, or go to another disk", tmp_path)


# ---- Data sets ---------------------------------------------------------------------------------
DATA_SETS = {
    "someone/facts": ["Looked over 2 of train, 2 of valid, 2 of test"],
    "someone/parts:fall": ["Looked over 1 of train", "When is fall?\n  → "],
    "someone/alpaca": ['Not read of the data: "text".', "Looked over 2 of train", "Who?\n  → "],
    "someone/flawed": [
        "Passed over, as no examples: 1 of 200 rows. The first, someone/flawed/train:6: "
        '"completion" is empty.',
        "Looked over 160 of train",  # a fifth is held out
    ],
    "someone/chats": ["Looked over 2 of train, 0 of valid, 0 of test", "Who?\n  → "],
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_by_its_name(name, hub, tmp_path):
    options = ("--data", name, "--adapter-path", tmp_path / "adapters", "--iters", 1)
    run = Run(*options, env=hub.env(tmp_path))
    assert run.status == 0 and run.err == "", run.err
    assert all(said in run.out for said in [*DATA_SETS[name], "Reached: 127.0.0.1."]), run.out
    assert "first edit what is in" not in run.out


BAD_DATA_SETS = {
    "someone/none": "--data someone/none: DatasetNotFoundError: "
    "Dataset 'someone/none' doesn't exist on the Hub",
    "someone/parts": "--data someone/parts: has spring, fall; take one of them, as --data "
    "someone/parts:spring\n",
    "someone/others": "--data someone/others: no split called train",
    "someone/rotten": 'someone/rotten/train:6: has the key "prompt"; we take',
    "someone/wrong": 'someone/wrong/train:1: has the keys "query", "reply"; rename "query" to',
}


@pytest.mark.parametrize("name", BAD_DATA_SETS)
def test_a_data_set_that_cannot_be_used(name, hub, tmp_path):
    options = ("--data", name, "--adapter-path", tmp_path / "adapters")
    run = Run(*options, env=hub.env(tmp_path / "hub"))
    assert run.status == 2 and len(run.err.splitlines()) == 1, run.err
    assert run.err.startswith(f"main.py: {BAD_DATA_SETS[name]}")
    assert not (tmp_path / "adapters").exists()


def test_behind_a_socks_proxy_it_can_be_asked_at_all(tmp_path):
    """What speaks SOCKS is installed; nobody listens at this one."""
    proxy = dict.fromkeys(("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"), "socks5://127.0.0.1:9")
    env = proxy | {"NO_PROXY": "", "no_proxy": "", "HF_HOME": str(tmp_path / "hub")}
    options = ("--model", "someone/some-model", "--adapter-path", tmp_path / "adapters")
    run = Run(*options, env=env)
    said = "main.py: --model someone/some-model: the Hub cannot be reached"
    assert run.status == 2 and run.err.startswith(said) and run.err.count("\n") == 1, run.err
