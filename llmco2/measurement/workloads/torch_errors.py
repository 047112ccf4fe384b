"""What torch raises, as a reason that a row can carry.

Invariant: only what leaves a GPU of no use to this process is called its trouble; a launch that CUDA refuses is
the configuration's own. What failed lets go of its tensors at once: an error would hold on to those of every
call that it passed through.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from llmco2.errors import explain
from llmco2.measurement.workloads.workload import WorkloadError

# of a GPU, of the host, of a library that finds no room for its workspace
_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
# What CUDA and its libraries say of a launch that they do not take; the next one is none the worse for it.
_REFUSED: Final = (
    *("invalid configuration argument", "invalid argument", "too many resources requested for launch"),
    *("_STATUS_NOT_SUPPORTED", "_STATUS_INVALID_VALUE"),
)
_GPU_TROUBLE: Final = ("CUDA error", "NCCL")
_MAX_TEXT: Final = 200


@contextmanager
def translated(label: str) -> Iterator[None]:
    """Raise WorkloadError for what torch raises inside; ``label`` names the configuration."""
    try:
        yield
    except MemoryError as error:
        raise WorkloadError("out_of_memory", explain(f"out of host memory: {label}")) from error
    except RuntimeError as error:
        traceback.clear_frames(error.__traceback__)
        first_line = str(error).splitlines()[0][:_MAX_TEXT] if str(error) else type(error).__name__
        text = explain(label, got=first_line)
        if type(error).__name__ == "OutOfMemoryError" or any(words in first_line for words in _NO_MEMORY):
            raise WorkloadError("out_of_memory", text) from error
        troubled = any(words in first_line for words in _GPU_TROUBLE)
        if troubled and not any(words in first_line for words in _REFUSED):
            raise WorkloadError("gpu_error", text) from error
        raise WorkloadError("engine_error", text) from error
