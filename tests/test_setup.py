"""Setting up: init.sh on a fresh clone, and again; the README's commands; the style of the code."""

import re
import shlex
import shutil
import subprocess
import sys
from ctypes.util import find_library

import pytest
from conftest import ROOT


def sh(command, cwd, **options):
    return subprocess.run(
        ["bash", "-c", command], check=False, cwd=cwd, capture_output=True, text=True, **options
    )


def test_readme_begins_with_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^bash init\.sh && .*$", readme, re.MULTILINE)
    assert commands[0] == "bash init.sh && .venv/bin/python3 main.py"
    assert "bash init.sh && .venv/bin/python3 -m pytest" in commands[1]


def fake(folder, **programs):
    """A folder of small programs that stand before the real ones on the PATH."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


MACHINES = {
    "an Intel Mac": (
        {"uname": '[ "$1" = -s ] && echo Darwin || echo x86_64', "sysctl": "echo 0"},
        "Intel",
    ),
    "Rosetta": (
        {"uname": '[ "$1" = -s ] && echo Darwin || echo x86_64', "sysctl": "echo 1"},
        "Rosetta",
    ),
    "an old Python": (
        {f"python3{v}": "exit 1" for v in ("", ".10", ".11", ".12", ".13", ".14")},
        "no Python from 3.11",
    ),
    "no venv": (
        {
            f"python3{v}": 'case "$*" in *ensurepip*) exit 1;; esac'
            for v in ("", ".10", ".11", ".12", ".13", ".14")
        },
        "no venv module",
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_init_says_in_one_line_what_is_missing(machine, tmp_path):
    programs, said = MACHINES[machine]
    for name in ("init.sh", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    path = fake(tmp_path / "bin", **programs)
    run = sh("bash init.sh", tmp_path, env={"PATH": f"{path}:/usr/bin:/bin", "HOME": str(tmp_path)})
    assert run.returncode == 1 and said in run.stderr, run
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_requirements_say_what_each_is_for():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w-]+(\[\w+\])?~=[\d.]+(; [^#]+)?  # .+", x) for x in lines)


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_code_holds_to_ruff_toml_and_mypy_ini(command):
    run = sh(f"{shlex.quote(sys.executable)} -m {command}", ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not find_library("openblas"), reason="OpenBLAS is not installed, or not needed")
def test_every_python_of_the_environment_loads_openblas_first():
    """So mlx_lm's own commands are fast as well."""
    loaded = [sys.executable, "-c", "print(open('/proc/self/maps').read())"]
    assert (
        "/libopenblas" in subprocess.run(loaded, check=True, capture_output=True, text=True).stdout
    )
