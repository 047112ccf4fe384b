"""Node functions in numpy: time of measured kernels from their features, without torch.

Invariant: a kernel never takes less than its roofline, and sizes past what was measured keep the last measured ratio
to the roofline instead of extrapolating it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.kernel_model.device import KernelDevice
from llmco2.kernel_model.features import KINDS, LAUNCH_S, Column, Sizes

FEATURE_LIMIT: Final = 6.0  # standard deviations; beyond them a feature says no more than that it is far
# Largest sizes that the tables reach; beyond them ratios are held.
LARGEST: Final[Mapping[str, float]] = {
    "m": 65_536.0,
    "tokens": 131_072.0,
    "context_tokens": 262_144.0,
    "batch_size": 2_048.0,
    "message_bytes": 1e9,
}
MOST_ANSWERS: Final = 20_000  # of some 150 numbers each
# Log of time over (roofline + launch): no measured kernel lies outside.
LEAST_LOG_RATIO: Final = -3.0
LARGEST_LOG_RATIO: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeFunction:
    """One kind's network: layers of ``(weight (out, in), bias (out,))`` and the scales of its features."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    center: float
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def log_ratio(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``log(latency / (roofline + launch))`` for features ``(n, n_features)``, ``(n,)``."""
        x = np.clip((features - self.mean) / self.scale, -FEATURE_LIMIT, FEATURE_LIMIT)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = x / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))  # SiLU
        result: NDArray[np.float32] = x[:, 0] + self.center
        return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeFunctions:
    """The networks of all kinds, with the answers they gave: deployments share most of their kernels."""

    of_kind: Mapping[str, NodeFunction]
    answers: dict[Hashable, Column] = field(default_factory=dict, repr=False)

    def latency_s(
        self, kind: str, sizes: Sizes, device: KernelDevice, block_rows: int | None = None
    ) -> Column:
        """Return the kernels' times in seconds, ``(n_kernels,)``; ``sizes`` has the kind's SIZES, stack and library.

        Rows go through the network ``block_rows`` at a time, so that a block's answer does not depend, to the bit, on
        what else is asked.
        """
        within = {
            name: np.minimum(values, LARGEST[name]) if name in LARGEST else values
            for name, values in sizes.items()
        }
        inputs = KINDS[kind](within, device)
        node, rows = self.of_kind[kind], len(inputs.roofline_s)
        step = block_rows or rows
        blocks = [node.log_ratio(inputs.features[first : first + step]) for first in range(0, rows, step)]
        log_ratio = np.concatenate(blocks).astype(np.float64)
        log_ratio = np.clip(log_ratio, LEAST_LOG_RATIO, LARGEST_LOG_RATIO)
        roofline = inputs.roofline_s
        if any(np.any(within[name] < sizes[name]) for name in LARGEST if name in sizes):
            roofline = KINDS[kind](sizes, device).roofline_s
        bounded: Column = np.maximum(np.exp(log_ratio) * (roofline + LAUNCH_S), roofline)
        return bounded

    def remember(self, key: Hashable, seconds: Column) -> None:
        """Keep an answer; the oldest make room."""
        while len(self.answers) >= MOST_ANSWERS:
            self.answers.pop(next(iter(self.answers)), None)
        self.answers[key] = seconds


def node_functions(arrays: Mapping[str, NDArray[np.float32]]) -> NodeFunctions:
    """Return the networks of a checkpoint's arrays ``kernel.KIND.{mean,scale,center,weight0,bias0,…}``."""
    found = {}
    for kind in KINDS:
        prefix = f"kernel.{kind}."
        own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        depth = sum(name.startswith("weight") for name in own)
        layers = tuple(
            (own[f"weight{i}"].astype(np.float32), own[f"bias{i}"].astype(np.float32)) for i in range(depth)
        )
        found[kind] = NodeFunction(
            mean=own["mean"].astype(np.float32),
            scale=own["scale"].astype(np.float32),
            center=float(own["center"]),
            layers=layers,
        )
    return NodeFunctions(of_kind=found)
