"""Launch one kernel of torch again and again, on a GPU without a host in the way.

Invariant: on a GPU the launches are captured once as a CUDA graph and replayed, so that the time between
two of them is the GPU's own; where that fails they are launched one by one and the row says so. Where a cold
cache is asked for, a set of operands comes back only after several times the last cache has passed through it.
"""

from __future__ import annotations

import gc
import time
from math import ceil
from typing import Final

import torch

from llmco2.measurement.kernels.kernel import LAUNCHED_EAGERLY, WARM_CACHE, KernelFacts
from llmco2.measurement.kernels.recipes import OperandMaker, Operands, recipe_of
from llmco2.measurement.kernels.shapes import KernelShape
from llmco2.measurement.kernels.work import work_of
from llmco2.measurement.workloads.torch_errors import translated
from llmco2.measurement.workloads.workload import WorkloadError

ROTATION: Final = 3.0  # times the cache that operands are rotated through
MAX_SETS: Final = 65_536  # of operands; beyond, making them takes longer than measuring
MAX_LAUNCHES: Final = 8192  # in one cycle of several passes
CYCLE_S: Final = 2e-3  # a replayed graph this long hides what its own launch takes
_UNKNOWN_CACHE_BYTES: Final = 64 * 2**20  # more than most have
_GRAPH_NOTE: Final = "launches replayed from a CUDA graph"


class TorchKernel:
    """One shape on one device."""

    def __init__(self, shape: KernelShape, *, device: str = "cuda", cache_bytes: float | None = None) -> None:
        """``cache_bytes`` is the last cache to rotate through; without it, what the device says it has."""
        self._shape = shape
        self._recipe = recipe_of(shape)
        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        self._cache_bytes = cache_bytes
        self._sets: list[Operands] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._passes = 1  # through all sets, in one cycle
        self._facts = KernelFacts()
        self._loaded = False

    @property
    def launches_per_cycle(self) -> int:
        """Sets of operands × passes through them."""
        return max(1, len(self._sets)) * self._passes

    @property
    def facts(self) -> KernelFacts:
        """Implementation and versions; complete after :meth:`load`."""
        return self._facts

    def load(self) -> None:
        """Make the operands, launch each once, and capture a cycle where there is a GPU."""
        with translated(self._shape.label), torch.inference_mode():
            cold = self._make_sets()
            self._launch_all()  # allocates, and picks algorithms
            self._synchronise()
            self._passes = self._passes_for(self._pass_s())
            flags = [] if cold or not self._shape.cold_cache else [WARM_CACHE]
            if self._on_gpu and not self._capture():
                flags.append(LAUNCHED_EAGERLY)
            self._facts = KernelFacts(
                implementation=self._recipe.implementation(self._sets[0]),
                engine_version=f"torch {torch.__version__}",
                cuda_graphs=self._graph is not None,
                cold_cache=cold,
                flags=tuple(flags),
                notes=(f"{len(self._sets)} sets of operands", *((_GRAPH_NOTE,) if self._graph else ())),
            )
            self._loaded = True

    def run(self, cycles: int) -> None:
        """Launch all sets ``cycles`` × passes times and wait for the end."""
        if not self._loaded:
            raise WorkloadError("engine_error", "the kernel is not loaded")
        with translated(self._shape.label), torch.inference_mode():
            if self._graph is not None:
                for _ in range(cycles):
                    self._graph.replay()
            else:
                for _ in range(cycles * self._passes):
                    self._launch_all()
            self._synchronise()

    def close(self) -> None:
        """Drop graph and operands, and give their memory back to the device."""
        self._loaded = False
        self._graph = None
        self._sets = []
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()  # nothing to do where CUDA was never started

    def _make_sets(self) -> bool:
        """Make as many sets of operands as the cache wants; return whether they leave it cold."""
        wanted_bytes = ROTATION * self._last_cache_bytes()
        read_bytes = work_of(self._shape).read_bytes
        count = ceil(wanted_bytes / read_bytes) if self._shape.cold_cache else 1
        maker = OperandMaker(self._shape, self._device)
        for _ in range(max(1, min(MAX_SETS, count))):
            first = self._sets[0] if self._sets else None
            self._sets.append(self._recipe.make(self._shape, maker, first))
        return len(self._sets) * read_bytes >= wanted_bytes

    def _last_cache_bytes(self) -> float:
        if self._cache_bytes is not None:
            return self._cache_bytes
        if not self._on_gpu:
            return _UNKNOWN_CACHE_BYTES
        found = getattr(torch.cuda.get_device_properties(self._device), "L2_cache_size", 0)
        return float(found or _UNKNOWN_CACHE_BYTES)

    def _launch_all(self) -> None:
        launch = self._recipe.launch
        for operands in self._sets:
            launch(operands)

    def _pass_s(self) -> float:
        """Return the seconds of one pass through all sets as the host launches it."""
        began_s = time.perf_counter()
        self._launch_all()
        self._synchronise()
        return time.perf_counter() - began_s

    def _passes_for(self, pass_s: float) -> int:
        most = max(1, MAX_LAUNCHES // len(self._sets))
        return max(1, min(most, ceil(CYCLE_S / max(pass_s, 1e-9))))

    def _capture(self) -> bool:
        """Capture one cycle as a graph; return whether that worked."""
        graph = torch.cuda.CUDAGraph()
        try:
            # the meter's thread may go on: only what this thread does can spoil a capture
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                for _ in range(self._passes):
                    self._launch_all()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:
            torch.cuda.synchronize(self._device)
            return False
        graph.replay()
        self._synchronise()
        self._graph = graph
        return True

    def _synchronise(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
