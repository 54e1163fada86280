"""Where it is started: without its environment, in no folder, with closed streams and leftovers."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT, TERMINAL, Run, write_data

MAIN = ROOT / "main.py"
BARE = (sys.executable, "-S")  # a Python without any package
OPEN = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from lesson.start import open_streams
open_streams()
"""


def one_line(done, said):
    """It ended with status 2 and this one line, and nothing else."""
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith("main.py: ") and done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


def run(*command, **more):
    return subprocess.run(command, check=False, capture_output=True, text=True, **more)


def test_without_its_environment_it_says_how_to_make_it(tmp_path):
    """As a newcomer may type it, before init.sh or beside it."""
    init = "bash init.sh && .venv/bin/python3 main.py"
    one_line(run(*BARE, MAIN, cwd=ROOT), f"run: {init}\n")
    one_line(run(*BARE, MAIN, cwd=tmp_path), f"run: cd '{ROOT}' && {init}\n")


def test_an_old_python_can_read_what_says_so():
    """The one of macOS is 3.9, to which `int | None` is an error unless hints are not looked at."""
    text = (ROOT / "lesson" / "start.py").read_text("utf-8")
    assert "from __future__ import annotations" in text
    for path in (MAIN, ROOT / "lesson" / "start.py", ROOT / "lesson" / "__init__.py"):
        ast.parse(path.read_text("utf-8"), feature_version=(3, 9))


def test_a_folder_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    done = run(
        "bash", "-c", f'cd gone && rmdir ../gone && "{sys.executable}" "{MAIN}"', cwd=tmp_path
    )
    one_line(done, "is gone; cd to one that is there")


OTHERS = [pytest.param(n, marks=pytest.mark.slow) for n in ("OMPI_COMM_WORLD_RANK", "MLX_RANK")]


@pytest.mark.parametrize("variable", ["PMI_RANK", *OTHERS])
def test_a_rank_that_was_left_over(variable, tmp_path):
    """By a batch system: there are no others, so nobody would tell the story or save."""
    done = run(
        sys.executable, MAIN, "--adapter-path", tmp_path / "a", env=os.environ | {variable: "1"}
    )
    one_line(done, f"{variable}=1 says that there are others, but there are none; unset {variable}")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_opened(closed):
    code = "print('x'); print('x', file=sys.stderr); sys.exit(5 if sys.stdin.read() == '' else 6)"
    done = run("bash", "-c", f'"$@" {closed}', "bash", *BARE, "-c", OPEN + code, input="")
    assert done.returncode == 5, done.stderr


def test_what_is_typed_need_not_be_utf_8():
    code = "print(ascii(input()))"
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [*BARE, "-c", OPEN + code], input=b"l\xe0 ?\n", capture_output=True, env=env
    )
    assert done.stdout == b"'l\\ufffd ?'\n", done.stderr


@pytest.mark.parametrize(("columns", "width"), [("0", None), ("40", "40")])
def test_a_width_of_nothing_is_no_width(columns, width):
    """As Emacs says it; rich would then print nothing."""
    code = "import os; print(os.environ.get('COLUMNS'))"
    done = run(*BARE, "-c", OPEN + code, env=os.environ | {"COLUMNS": columns})
    assert done.stdout == f"{width}\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_data(
        tmp_path_factory.mktemp("small"), train=[("Who?", "Me."), ("Whose?", "Mine.")]
    )


@pytest.mark.slow
def test_the_whole_lesson_with_standard_input_closed_and_no_width(small, tmp_path):
    options = ("--data", small, "--adapter-path", tmp_path / "a", "--iters", 1)
    closed = ("bash", "-c", 'exec "$@" <&-', "bash")
    done = Run(*options, before=closed, env={"COLUMNS": "0"})
    assert done.status == 0 and done.err == "", done.err
    assert "Evaluation: she is examined on" in done.out and "Ask it again:" in done.out


@pytest.mark.slow
def test_a_question_that_is_not_utf_8_is_answered(small, tmp_path):
    """Typed at Your turn."""
    (tmp_path / "typed").write_bytes(b"Qui est l\xe0 ?\n\n")
    options = ["--data", small, "--adapter-path", tmp_path / "a", "--iters", "2"]
    with (tmp_path / "typed").open("rb") as stdin:
        command = [sys.executable, "-c", TERMINAL, sys.executable, MAIN, *options]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stdout, done.stdout
    assert "→".encode() in done.stdout.split(b"Your turn:")[1]
