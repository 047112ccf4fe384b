"""Building the simulated NVML library, and putting it in the place of the real one in this process.

Invariant: nothing outside the user's cache folder is written, and taking the simulation out restores
pynvml, zeus and the environment as they were.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

from llmco2.errors import MeasurementError, explain
from llmco2.measurement.meters.zeus_devices import forget_zeus_devices

LIBRARY_NAME: Final = "libnvidia-ml.so.1"  # what pynvml, and nvidia-smi with it, ask the loader for
_FLAGS: Final = ("-O1", "-std=c11", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S: Final = 120


def find_compiler() -> str | None:
    """Return the C compiler (``$CC``, else ``cc``, ``gcc`` or ``clang``), or ``None`` where there is none."""
    candidates = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((found for name in candidates if name and (found := shutil.which(name))), None)


def cache_folder() -> Path:
    """Return where built libraries are kept (``$XDG_CACHE_HOME/llmco2``)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "llmco2" / "sim_nvml"


def build_library() -> Path:
    """Return the folder of the simulated ``libnvidia-ml.so.1``, built anew where its source has changed.

    Raises ``MeasurementError`` where there is no compiler or it fails.
    """
    source = resources.files("llmco2.measurement.simulation").joinpath("sim_nvml/sim_nvml.c").read_bytes()
    folder = cache_folder() / hashlib.sha256(source + sys.platform.encode()).hexdigest()[:16]
    library = folder / LIBRARY_NAME
    if library.exists():
        return folder
    compiler = find_compiler()
    if compiler is None:
        raise MeasurementError(
            explain(
                "the simulated NVML library needs a C compiler",
                got="none on PATH",
                expected="cc, gcc or clang",
                remedy="install gcc, or set CC; without one the simulation runs in this process only",
            )
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / LIBRARY_NAME
            _compile(compiler, source, built)
            built.replace(library)  # atomic: two builders at once both end with a whole file
    except OSError as error:
        raise MeasurementError(
            explain(
                "the simulated NVML library has nowhere to be built",
                got=str(error),
                remedy="set XDG_CACHE_HOME to a folder you may write to",
            )
        ) from error
    return folder


def _compile(compiler: str, source: bytes, built: Path) -> None:
    code = built.with_suffix(".c")
    code.write_bytes(source)
    command = [compiler, *_FLAGS, "-o", str(built), str(code), "-lm", "-lpthread"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(
            explain("the simulated NVML library could not be built", got=f"no end in {error.timeout:g} s")
        ) from error
    if done.returncode != 0:
        why = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise MeasurementError(explain("the simulated NVML library could not be built", got=why))


def load_library(folder: Path) -> Any:
    """Return the built library, loaded by its full path so that it never shadows the real one."""
    return ctypes.CDLL(str(folder / LIBRARY_NAME))


@contextmanager
def in_place_of_nvml(library: Any) -> Iterator[None]:
    """Have pynvml, and zeus on top of it, talk to ``library`` in this process while the context lasts."""
    pynvml: Any = importlib.import_module("pynvml")
    kept_library, kept_users = pynvml.nvmlLib, pynvml._nvmlLib_refcount
    forget_zeus_devices()
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib, pynvml._nvmlLib_refcount = library, 0
    try:
        yield
    finally:
        forget_zeus_devices()
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlLib, pynvml._nvmlLib_refcount = kept_library, kept_users
