#!/usr/bin/env bash
# Makes .venv and installs requirements.txt into it. Run it again whenever you like.
set -eu
cd "$(dirname "$0")"

say() { printf '%s\n' "$*"; }
die() { say "init.sh: $*" >&2; exit 1; }

system=$(uname -s) machine=$(uname -m)
if [ "$system" = Darwin ] && [ "$machine" = x86_64 ]; then
    [ "$(sysctl -n hw.optional.arm64 2>/dev/null || true)" = 1 ] &&
        die "this terminal runs under Rosetta, for which there is no MLX; turn off \"Open using Rosetta\" in its Get Info window, open it anew and run init.sh again"
    die "MLX needs Apple silicon (M1 or newer) or Linux; this Mac has an Intel processor"
fi

# A Python from 3.11 to 3.14 (macOS's own 3.9 is too old for MLX), or uv, which brings one.
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
python=
for name in python3.13 python3.12 python3.11 python3.14 python3; do
    if command -v "$name" >/dev/null && suits "$name"; then python=$name; break; fi
done

if [ ! -x .venv/bin/python3 ] || ! .venv/bin/python3 -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    if [ -n "$python" ]; then
        [ "$system" = Darwin ] && [ "$("$python" -c 'import platform; print(platform.machine())')" != arm64 ] &&
            die "$(command -v "$python") is built for Intel and runs under Rosetta, for which there is no MLX; install an arm64 Python: brew install python@3.13"
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            die "$python has no venv module; install it (on Debian and Ubuntu: sudo apt-get install python3-venv) and run init.sh again"
        "$python" -m venv .venv
    elif command -v uv >/dev/null; then
        uv venv --quiet --seed --python 3.13 .venv
    else
        die "no Python from 3.11 to 3.14 found; install one (on a Mac: brew install python@3.13, or from python.org) and run init.sh again"
    fi
    say "made .venv with $(.venv/bin/python3 --version)"
fi

# Installing again is quick, but looking is quicker: a stamp remembers what was installed.
cuda=
if [ "$system" = Linux ] && command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    case $(nvidia-smi | sed -n 's/.*CUDA[^0-9]*Version: *\([0-9]*\).*/\1/p') in
        1[3-9]) cuda='mlx[cuda13]' ;;
        *) cuda='mlx[cuda12]' ;;
    esac
fi
wanted="$(cat requirements.txt) $cuda"
if [ "$(cat .venv/installed 2>/dev/null || true)" != "$wanted" ]; then
    say "installing requirements.txt into .venv (0.9 GB, a few minutes the first time)"
    sed "s/^mlx\[cpu\]/${cuda:-mlx[cpu]}/" requirements.txt >.venv/requirements.txt
    .venv/bin/python3 -m pip install --quiet --disable-pip-version-check -r .venv/requirements.txt
    printf '%s' "$wanted" >.venv/installed
fi

# On Linux MLX multiplies matrices up to 40 times faster with OpenBLAS, if that is loaded before it.
# So every Python of .venv loads it first.
if [ "$system" = Linux ]; then
    site=$(.venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp lesson/openblas_first.py "$site"
    echo 'import openblas_first' >"$site/openblas_first.pth"
    if ! .venv/bin/python3 -c 'import ctypes; ctypes.CDLL("libopenblas.so.0")' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
            { apt-get update -qq && apt-get install -y -qq libopenblas0-pthread; } >/dev/null 2>&1; then
            say "installed OpenBLAS"
        elif command -v apt-get >/dev/null; then
            say "for up to 40 times the speed: sudo apt-get install libopenblas0-pthread"
        else
            say "for up to 40 times the speed, install OpenBLAS (libopenblas.so.0) with your system's package manager"
        fi
    fi
fi
say "ready: .venv/bin/python3 main.py"
