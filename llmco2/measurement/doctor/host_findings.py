"""The doctor's look at the host: RAPL, containers, torch, the compiler.

Invariant: everything is read under ``root`` and from ``environ``, so that any machine can be described to it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmco2.measurement.doctor.finding import OK, WARN, Finding
from llmco2.measurement.meters.host import RAPL_FOLDERS, find_host_energy
from llmco2.measurement.simulation.library import find_compiler

_CONTAINER_MARKS = ("docker", "containerd", "kubepods", "libpod", "lxc", "apptainer")
_RAPL_FIX = "run zeusd as root and set ZEUSD_SOCK_PATH, or: sudo chmod -R a+r /sys/class/powercap/intel-rapl"


def check_host(environ: Mapping[str, str], root: Path) -> Iterator[Finding]:
    """Check what the host allows: its own energy counters, and whether this is a container."""
    yield _rapl(environ, root)
    yield from _container(environ, root)


def _rapl(environ: Mapping[str, str], root: Path) -> Finding:
    found = find_host_energy(environ, tuple(root / folder.relative_to("/") for folder in RAPL_FOLDERS))
    if found.reason is not None:
        readable = "root" in found.reason
        fix = _RAPL_FIX if readable else "none here: the host's share will be modelled instead of measured"
        return Finding(name="cpu energy", status=WARN, found=found.reason, fix=fix)
    via = "zeusd" if found.through_zeusd else "RAPL"
    dram = "with DRAM" if found.has_dram else "without DRAM"
    return Finding(name="cpu energy", status=OK, found=f"{len(found.cpu_indices)} packages by {via}, {dram}")


def _container(environ: Mapping[str, str], root: Path) -> Iterator[Finding]:
    if not in_container(root):
        return
    shown = environ.get("NVIDIA_VISIBLE_DEVICES")
    if shown in ("", "void", "none"):
        yield Finding(
            name="container",
            status=WARN,
            found=f"this container was given no GPU (NVIDIA_VISIBLE_DEVICES={shown!r})",
            fix="start it with --gpus all, or set NVIDIA_VISIBLE_DEVICES=all",
        )
        return
    which = "" if shown is None else f" with NVIDIA_VISIBLE_DEVICES={shown}"
    yield Finding(
        name="container",
        status=WARN,
        found=f"in a container{which}: processes of other containers on the same GPU may not show",
        fix="make sure nothing else runs on the GPU, or start the container with --pid host",
    )


def in_container(root: Path) -> bool:
    """Whether the files under ``root`` are those of a container."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    try:
        groups = (root / "proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(mark in groups for mark in _CONTAINER_MARKS)


def check_torch() -> Finding:
    """Whether torch can use CUDA, which in-process workloads need."""
    if importlib.util.find_spec("torch") is None:
        fix = "pip install 'llmco2[measure]', or measure a server instead"
        return Finding(name="torch", status=WARN, found="not installed", fix=fix)
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        found = f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA GPUs"
        return Finding(name="torch", status=OK, found=found)
    built_for = torch.version.cuda
    why = (
        "this build is for CPUs only"
        if built_for is None
        else f"built for CUDA {built_for}, which finds no GPU"
    )
    fix = "install a CUDA build of torch to run workloads in process; measuring a server needs none"
    return Finding(name="torch", status=WARN, found=f"torch {torch.__version__} has no CUDA: {why}", fix=fix)


def check_compiler() -> Finding:
    """Whether the simulated NVML library can be built."""
    compiler = find_compiler()
    if compiler is not None:
        return Finding(
            name="simulation", status=OK, found=f"C compiler {compiler}: child processes see it too"
        )
    found = "no C compiler: --simulate works in one process only, and not for servers it starts"
    return Finding(name="simulation", status=WARN, found=found, fix="install gcc, or set CC")
