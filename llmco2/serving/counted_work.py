"""Our count of FLOPs and bytes beside the engine's own estimate, for what ran in an interval.

vLLM (with ``--enable-mfu-metrics``) and SGLang estimate both per GPU; a counter that stands at zero is off, not zero.

Invariant: both are of one GPU and of the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.resolving import request_deployment
from llmco2.operators.counting import count_phase
from llmco2.operators.names import Phase
from llmco2.serving import sample as q
from llmco2.serving.interval import Interval
from llmco2.serving.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedWork:
    """Work of one GPU in an interval, counted here and estimated by the engine; ``None`` where it estimates none."""

    flops: float
    bytes_moved: float
    engine_flops: float | None
    engine_bytes: float | None

    @property
    def flops_ratio(self) -> float | None:
        """Our FLOPs over the engine's."""
        return self.flops / self.engine_flops if self.engine_flops else None

    @property
    def bytes_ratio(self) -> float | None:
        """Our bytes over the engine's."""
        return self.bytes_moved / self.engine_bytes if self.engine_bytes else None


def counted_work(short: Interval, work: Workload) -> CountedWork | None:
    """Return our count beside the engine's for one GPU; ``None`` where the engine estimates neither.

    Raises:
        InputError: the request cannot be counted: an unknown name, or parallelism that does not suit the model.
    """
    engine_flops = _estimated(short, q.FLOPS_PER_GPU)
    engine_bytes = _estimated(short, q.READ_BYTES_PER_GPU, q.WRITTEN_BYTES_PER_GPU)
    if engine_flops is None and engine_bytes is None:
        return None
    request = replace(work.request, engine="unknown")  # what is counted does not depend on it
    columns = deployment_columns([request_deployment(request)])
    one = np.ones(1)
    counted = columns.workload(
        batch_size=one * request.batch_size,
        prompt_tokens=one * request.prompt_tokens,
        output_tokens=one * request.output_tokens,
        continuous=one,
    )
    replicas = max(1.0, work.n_gpus / request.n_gpus)
    flops = bytes_moved = 0.0
    phases: tuple[tuple[Phase, float], ...] = (
        ("prefill", work.prefill_batches),
        ("decode", work.decode_batches),
    )
    for phase, batches in phases:
        table = count_phase(phase, columns.shape, counted)
        share = batches / replicas / request.pipeline_parallel
        flops += share * float(table.flops.sum())
        bytes_moved += share * float(table.total_bytes.sum())
    return CountedWork(
        flops=flops, bytes_moved=bytes_moved, engine_flops=engine_flops, engine_bytes=engine_bytes
    )


def _estimated(short: Interval, *quantities: str) -> float | None:
    """Return the sum of what the engine estimates, of all its ranks' GPUs one; ``None`` where it is off."""
    known = [short.counts.get(name) for name in quantities]
    total = sum(value for value in known if value is not None)
    return total / short.n_ranks if total > 0 else None
