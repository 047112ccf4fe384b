"""Does each request fit the memory of its GPUs, and if not, what is missing and what would fit.

Invariant: a remedy is checked with the arithmetic that refused the request, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.catalog.params import parameter_count
from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment, parallelism_error
from llmco2.errors import explain
from llmco2.operators.memory import memory_need
from llmco2.predictor.columns import PredictionColumns, SizeColumns
from llmco2.records.engines import ENGINES

# Engines that page their KV cache: a batch too large for it waits in turns instead of failing.
_PAGING_PRODUCTS: Final = frozenset(
    {"vllm", "vllm-speculative", "sglang", "tgi", "tensorrt-llm", "deepspeed-mii", "splitwise-server"}
)
PAGING_ENGINES: Final = frozenset(
    engine.name for engine in ENGINES.values() if (engine.product or engine.name) in _PAGING_PRODUCTS
)
WIDEST_REMEDY: Final = 64  # GPUs; no remedy asks for more
_NOTHING_FITS: Final = "use a smaller model, a narrower precision or more pipeline stages"


NO_ROOM: Final = "does not fit"  # what the error of a request that exceeds the memory says
IN_TURNS: Final = "so it would run in turns"  # what the note of a batch that waits for memory says


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVerdict:
    """What to say about a request whose memory need exceeds the GPU's: an error, or else notes."""

    error: str = ""
    notes: tuple[str, ...] = ()


def memory_verdicts(
    deployments: list[Deployment], sizes: SizeColumns, prediction: PredictionColumns
) -> dict[int, MemoryVerdict]:
    """Return a verdict for each request (by its position) that needs more than its GPUs have."""
    need, available = prediction.memory, prediction.memory_available_bytes
    total = need.total_bytes
    missing_gb = (total - available) / 1e9
    one_fits = total - need.kv_cache_bytes * (1.0 - 1.0 / sizes.batch_size) <= available
    pages = np.array([deployment.engine in PAGING_ENGINES for deployment in deployments], dtype=bool)
    over = total > available
    waits = over & pages[sizes.deployment] & one_fits
    failing = np.flatnonzero(over & ~waits)
    names = {i: _described(deployments[i]) for i in set(sizes.deployment[failing].tolist())}
    verdicts = {}
    for row in np.flatnonzero(waits).tolist():
        note = f"KV cache of the batch exceeds GPU memory by {missing_gb[row]:.3g} GB, {IN_TURNS}"
        verdicts[row] = MemoryVerdict(notes=(note,))
    wider = fitting_tensor_parallel(deployments, sizes, failing)
    for row, fitting in zip(failing.tolist(), wider, strict=True):
        remedies = [f"tensor_parallel {fitting} would fit"] if fitting else []
        if one_fits[row] and sizes.batch_size[row] > 1.0:
            remedies.append("a smaller batch would fit")
        error = explain(
            names[int(sizes.deployment[row])],
            got=f"{total[row] / 1e9:.4g} GB a GPU (weights {need.weights_bytes[row] / 1e9:.4g}, "
            f"KV cache {need.kv_cache_bytes[row] / 1e9:.4g})",
            expected=f"at most {available[row] / 1e9:.4g} GB, so {missing_gb[row]:.3g} GB are missing",
            remedy=" and ".join(remedies) or _NOTHING_FITS,
        )
        verdicts[row] = MemoryVerdict(error=error)
    return verdicts


def _described(deployment: Deployment) -> str:
    arch = deployment.architecture
    billions = parameter_count(arch) / 1e9
    return f"{arch.title} ({billions:.3g}B, {deployment.precision.name}) {NO_ROOM} {deployment.gpu_id}"


def fitting_tensor_parallel(
    deployments: list[Deployment], sizes: SizeColumns, rows: NDArray[np.intp]
) -> list[int]:
    """Return for each of ``rows`` the least tensor_parallel above its own that fits; 0 where none does.

    A power of two is preferred, for that is how servers are built.
    """
    options = {i: _wider(deployments[i]) for i in sorted(set(sizes.deployment[rows].tolist()))}
    tried = [candidate for candidates in options.values() for candidate in candidates]
    if not tried:
        return [0] * len(rows)
    first = dict(zip(options, np.cumsum([0, *(len(c) for c in options.values())])[:-1].tolist(), strict=True))
    pairs = [
        (row, first[i] + k)
        for row in rows.tolist()
        for i in (int(sizes.deployment[row]),)
        for k in range(len(options[i]))
    ]
    of_row, of_candidate = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    columns = deployment_columns(tried).take(of_candidate)
    work = columns.workload(
        sizes.batch_size[of_row],
        sizes.prompt_tokens[of_row],
        sizes.output_tokens[of_row],
        sizes.continuous[of_row],
    )
    fits = memory_need(columns.shape, work).total_bytes <= columns.device.memory_bytes
    best = dict.fromkeys(rows.tolist(), 0)
    for row, candidate in zip(of_row[fits].tolist(), of_candidate[fits].tolist(), strict=True):
        best[row] = best[row] or tried[candidate].tensor_parallel
    return list(best.values())


def _wider(deployment: Deployment) -> list[Deployment]:
    """Return the deployments on more GPUs that the model allows, best first."""
    heads = deployment.architecture.n_heads
    degrees = [n for n in range(deployment.shard_degree + 1, WIDEST_REMEDY + 1) if heads % n == 0]
    degrees.sort(key=lambda n: (n & (n - 1) != 0, n))
    wider = (replace(deployment, tensor_parallel=n) for n in degrees)
    return [candidate for candidate in wider if not parallelism_error(candidate)]
