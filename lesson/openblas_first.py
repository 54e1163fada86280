"""Loads OpenBLAS before MLX, which then multiplies matrices up to 40 times faster on Linux.

init.sh copies this file into the environment, where every Python runs it as it starts: the one
module here that does something when it is imported.
"""

import contextlib
import ctypes
import os
import pathlib

# Says what the processor can do to an OpenBLAS that is older than the processor and would not know.
cpu = pathlib.Path("/proc/cpuinfo").read_text()
if "avx2" in cpu:
    os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX" if "avx512vl" in cpu else "Haswell")
with contextlib.suppress(OSError):
    ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)

# Memory is kept for the next step of a training, not given back and asked for again, which takes a
# tenth of the time of a model of 135 million parameters.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, GIGABYTE = -3, -1, 2**30
with contextlib.suppress(AttributeError):
    malloc_option = ctypes.CDLL(None).mallopt
    if malloc_option(M_MMAP_THRESHOLD, GIGABYTE):
        malloc_option(M_TRIM_THRESHOLD, GIGABYTE)
