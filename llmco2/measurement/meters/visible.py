"""Which GPUs are in use: ``CUDA_VISIBLE_DEVICES`` in every form that Slurm, Kubernetes and people write it.

Invariant: a setting that zeus would take as "no GPU" in silence, or answer with a bare ``ValueError``, is
either resolved here or refused in one line.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llmco2.errors import MeasurementError, explain

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
_CUDA_DEVICE: Final = Path("/dev/nvidia-uvm")


def visible_indices(environ: Mapping[str, str], uuids: Sequence[str]) -> tuple[int, ...]:
    """Return the NVML indices that CUDA may use, in CUDA's order; ``uuids`` are of all GPUs by NVML index.

    Raises ``MeasurementError`` for an empty setting, a MIG slice, an unknown or repeated GPU.
    """
    setting = environ.get(VARIABLE)
    if setting is None:
        return tuple(range(len(uuids)))
    entries = [entry.strip() for entry in setting.split(",")]
    if not any(entries):
        raise MeasurementError(
            explain(
                f"{VARIABLE} hides every GPU",
                got=repr(setting),
                remedy=f"unset {VARIABLE}, or name GPUs in it (0,1)",
            )
        )
    indices = tuple(_index_of(entry, setting, uuids) for entry in entries)
    if len(set(indices)) != len(indices):
        raise MeasurementError(
            explain(f"{VARIABLE} names a GPU twice", got=repr(setting), remedy="name each GPU once")
        )
    return indices


def _index_of(entry: str, setting: str, uuids: Sequence[str]) -> int:
    if entry.upper().startswith("MIG"):
        raise MeasurementError(
            explain(
                f"{VARIABLE} names a MIG slice, and no counter measures the joules of a slice",
                got=repr(setting),
                remedy="turn MIG off (nvidia-smi -mig 0) or measure on a whole GPU",
            )
        )
    if entry.upper().startswith("GPU-"):
        found = [index for index, uuid in enumerate(uuids) if uuid.lower().startswith(entry.lower())]
        if len(found) == 1:
            return found[0]
    elif entry.isdigit() and int(entry) < len(uuids):
        return int(entry)
    known = ", ".join(f"{index}: {uuid}" for index, uuid in enumerate(uuids))
    raise MeasurementError(
        explain(
            f"{VARIABLE} names no GPU of this machine",
            got=repr(setting),
            expected=f"indices or UUIDs of {known or 'no GPU at all'}",
            remedy=f"correct or unset {VARIABLE}",
        )
    )


@contextmanager
def shown_as_indices(indices: Sequence[int]) -> Iterator[None]:
    """Write the GPUs in use as plain indices while the context lasts: the only form that zeus reads."""
    kept = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(str(index) for index in indices)
    try:
        yield
    finally:
        if kept is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = kept


def is_ours(pid: int, root_pid: int, proc: Path = Path("/proc")) -> bool:
    """Return whether ``pid`` is ``root_pid`` or descends from it, as far as ``proc`` shows."""
    seen: set[int] = set()
    while pid > 0 and pid != root_pid and pid not in seen:
        seen.add(pid)
        pid = _parent(pid, proc)
    return pid == root_pid


def foreign_pids(
    pids: Collection[int], own_pids: Collection[int], proc: Path = Path("/proc")
) -> tuple[int, ...]:
    """Return which of the ``pids`` on a GPU are neither ``own_pids`` nor their descendants.

    In a container the driver may give numbers of the host that ``proc`` does not know. As many of those as
    there are processes of ours that use CUDA and show under no number of their own are taken to be ours.
    """
    foreign = [pid for pid in sorted(set(pids)) if not _ours(pid, own_pids, proc)]
    unseen = [pid for pid in foreign if not (proc / str(pid)).exists()]
    if unseen:
        n_shown = len(set(pids)) - len(foreign)
        hidden = unseen[: max(0, _count_cuda_processes(own_pids, proc) - n_shown)]
        foreign = [pid for pid in foreign if pid not in hidden]
    return tuple(foreign)


def _ours(pid: int, own_pids: Collection[int], proc: Path) -> bool:
    return any(is_ours(pid, own, proc) for own in own_pids)


def _count_cuda_processes(own_pids: Collection[int], proc: Path) -> int:
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    return sum(_uses_cuda(pid, proc) for pid in pids if _ours(pid, own_pids, proc))


def _uses_cuda(pid: int, proc: Path) -> bool:
    """Whether a process has the device open that CUDA needs and NVML does not."""
    try:
        return any(entry.readlink() == _CUDA_DEVICE for entry in (proc / str(pid) / "fd").iterdir())
    except OSError:  # gone meanwhile, or of another user
        return False


def _parent(pid: int, proc: Path) -> int:
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone, or of another namespace: nothing of ours
        return 0
    # The command stands in parentheses and may hold spaces: what follows the last one is plain.
    return int(text.rpartition(")")[2].split()[1])
