"""What torch raises, as a reason that a row can carry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from llmco2.errors import explain
from llmco2.measurement.workloads.workload import WorkloadError

_NO_MEMORY: Final = ("out of memory", "can't allocate memory")  # of a GPU, of the host
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
        first_line = str(error).splitlines()[0][:_MAX_TEXT] if str(error) else type(error).__name__
        text = explain(label, got=first_line)
        if type(error).__name__ == "OutOfMemoryError" or any(words in first_line for words in _NO_MEMORY):
            raise WorkloadError("out_of_memory", text) from error
        if any(words in first_line for words in _GPU_TROUBLE):
            raise WorkloadError("gpu_error", text) from error
        raise WorkloadError("engine_error", text) from error
