"""Times of a deployment's step as monotone curves over tokens, sequences, batch × context and batch × prompt.

Invariant: every curve rises along each of its axes, so that no answer falls where a request grows. Measured kernels
are not monotone (libraries change tiles with size); a curve takes the middle between the running maximum and the
reverse running minimum of the node functions' answers, and interpolates it in logs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.kernel_model.device import FAMILIES, KernelDevice
from llmco2.kernel_model.features import LIBRARIES, SIZES, STACKS, Column
from llmco2.kernel_model.formats import FORMAT_INDEX
from llmco2.kernel_model.lanes import Lane, Lanes
from llmco2.kernel_model.node_functions import NodeFunctions
from llmco2.kernel_model.step import PARTS, Call, Elementwise, StepShape, step_calls

Grid = NDArray[np.float64]
TOKENS: Final[Grid] = np.array(
    [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
     12288, 16384, 32768, 65536, 1 << 20, 1 << 30, 1 << 40], dtype=np.float64,
)  # fmt: skip
BATCHES: Final[Grid] = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048, 65536], dtype=np.float64)
CONTEXTS: Final[Grid] = np.array(
    [1, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 131072, 1 << 20, 1 << 25], dtype=np.float64
)
PROMPTS: Final[Grid] = np.array(
    [1, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768, 131072, 1 << 20, 1 << 24], dtype=np.float64
)
ELEMENTWISE_FIXED_S: Final = 3e-6
ELEMENTWISE_EFFICIENCY: Final = 0.8  # of memory bandwidth, for passes that no table covers
_CUSTOM_LIMIT_BYTES: Final = 2e6  # above it NCCL may be faster than a stack's own all-reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDeployment:
    """What one deployment's curves depend on."""

    shape: StepShape
    device: int  # row of the KernelDevice columns
    stack: str  # of STACKS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepCurves:
    """Seconds of one step of every deployment, by part; ``n_parts`` follows PARTS.

    ``tokens_s`` and ``sequences_s`` are ``(n_deployments, n_parts, n_grid)``; ``decode_s`` is ``(n_deployments,
    n_parts, n_batches, n_contexts)`` and ``prefill_s`` the same over prompts. ``measured`` is the share of a small
    decode step's time in kernels whose stack, family and format were measured, ``(n_deployments,)``.
    """

    tokens_s: Grid
    sequences_s: Grid
    decode_s: Grid
    prefill_s: Grid
    measured: Column


def step_curves(
    nodes: NodeFunctions, lanes: Lanes, deployments: Sequence[StepDeployment], devices: KernelDevice
) -> StepCurves:
    """Return the curves of all deployments; each kind's kernels are evaluated in one pass."""
    return _CurveBuilder(nodes, lanes, deployments, devices).build()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """A call of one deployment on one lane, and the key of its answer."""

    deployment: int
    call: Call
    lane: Lane
    key: Hashable
    instead: _Ask | None = None  # what runs where it is faster


class _CurveBuilder:
    def __init__(
        self, nodes: NodeFunctions, lanes: Lanes, deployments: Sequence[StepDeployment], devices: KernelDevice
    ) -> None:
        self.nodes, self.lanes, self.deployments, self.devices = nodes, lanes, deployments, devices
        n, parts = len(deployments), len(PARTS)
        self.axes = {
            "tokens": np.zeros((n, parts, len(TOKENS))),
            "sequences": np.zeros((n, parts, len(TOKENS))),
            "decode": np.zeros((n, parts, len(BATCHES), len(CONTEXTS))),
            "prefill": np.zeros((n, parts, len(BATCHES), len(PROMPTS))),
        }
        limits = np.column_stack([getattr(devices, f.name) for f in fields(KernelDevice)])
        self.boards = [tuple(row) for row in limits.tolist()]
        self.asks: list[_Ask] = []
        # Passes beside the routed experts are hidden by them: kept apart until both are known.
        self.beside = np.zeros((n, len(TOKENS)))
        self.known = np.zeros(n)
        self.whole = np.zeros(n)

    def build(self) -> StepCurves:
        for index, deployment in enumerate(self.deployments):
            for call in step_calls(deployment.shape):
                if isinstance(call, Elementwise):
                    self._elementwise(index, call)
                else:
                    self._collect(index, deployment, call)
        answers = self._answers()
        for ask in self.asks:
            own = answers[ask.key]
            if ask.instead is not None:
                message = ask.call.growing.get("message_bytes", np.inf) * TOKENS
                other = np.minimum(own, answers[ask.instead.key])
                own = (
                    np.where(message > _CUSTOM_LIMIT_BYTES, other, own) if len(own) == len(TOKENS) else other
                )
            self._place(ask, own)
        experts = PARTS.index("experts")
        self.axes["tokens"][:, experts] = np.maximum(self.axes["tokens"][:, experts], self.beside)
        return StepCurves(
            tokens_s=_no_dearer(_rising(self.axes["tokens"], 1), TOKENS, axis=2),
            sequences_s=_rising(self.axes["sequences"], 1),
            decode_s=_rising(self.axes["decode"], 2),
            prefill_s=_no_dearer(_rising(self.axes["prefill"], 2), BATCHES, axis=2),
            measured=np.divide(self.known, self.whole, out=np.ones_like(self.known), where=self.whole > 0),
        )

    def _elementwise(self, index: int, call: Elementwise) -> None:
        bandwidth = self.devices.bandwidth_bytes_per_s[self.deployments[index].device]
        rows = np.outer(BATCHES, CONTEXTS) if call.axis == "decode" else TOKENS
        moved = call.per_row * rows + call.fixed
        seconds = call.count * (ELEMENTWISE_FIXED_S + moved / (ELEMENTWISE_EFFICIENCY * bandwidth))
        if call.beside:
            self.beside[index] += seconds
        else:
            self.axes[call.axis][index, PARTS.index(call.part)] += seconds

    def _collect(self, index: int, deployment: StepDeployment, call: Call) -> None:
        """Ask for a call, and for what a stack runs instead where that is faster.

        A large message goes over NCCL. A narrow format whose kernels were not measured on this family of boards is
        never slower than the same product in 16 bit, which the stack has too.
        """
        lane = self._lane(deployment, call)
        instead = None
        if call.kind == "collective":
            instead = self._ask(index, call, Lane(stack=-1, library=_NCCL, measured=lane.measured))
        elif call.format not in {"", "16bit"} and not lane.measured:
            wide = replace(call, format="16bit")
            instead = self._ask(index, wide, self._lane(deployment, wide))
        self.asks.append(replace(self._ask(index, call, lane), instead=instead))

    def _lane(self, deployment: StepDeployment, call: Call) -> Lane:
        family_index = int(self.devices.family[deployment.device])
        family = FAMILIES[family_index] if family_index >= 0 else ""
        if call.kind == "collective":
            return Lane(stack=STACKS.index(deployment.stack), library=-1, measured=bool(family))
        if call.kind == "experts":
            s = call.sizes
            shape = (s["hidden_dim"], s["ffn_dim"], s["n_experts"], s["top_k"])
            return self.lanes.find_experts(deployment.stack, family, call.format, shape)
        return self.lanes.find(call.kind, deployment.stack, family, _variant(call))

    def _ask(self, index: int, call: Call, lane: Lane) -> _Ask:
        board = self.boards[self.deployments[index].device]
        sizes = (*call.sizes.items(), *call.growing.items())
        reach = (call.context_limit, call.context_share)
        key = (call.kind, call.axis, sizes, reach, call.format, lane.stack, lane.library, board)
        return _Ask(deployment=index, call=call, lane=lane, key=key)

    def _answers(self) -> dict[Hashable, Column]:
        """Return the times of all that is asked, each worked out once and remembered for later tables."""
        asked_for = [ask for own in self.asks for ask in (own, own.instead) if ask is not None]
        found = {ask.key: self.nodes.answers[ask.key] for ask in asked_for if ask.key in self.nodes.answers}
        missing: dict[tuple[str, int], dict[Hashable, _Ask]] = {}
        for ask in asked_for:
            if ask.key not in found:
                rows = _GRID_ROWS[ask.call.axis]
                missing.setdefault((ask.call.kind, rows), {})[ask.key] = ask
        for (kind, rows), asked in missing.items():
            seconds = self._evaluate(kind, rows, list(asked.values()))
            for i, key in enumerate(asked):
                found[key] = seconds[i * rows : (i + 1) * rows]
                self.nodes.remember(key, found[key])
        return found

    def _evaluate(self, kind: str, rows: int, asked: list[_Ask]) -> Column:
        grids = [_grid_sizes(ask.call) for ask in asked]
        sizes = {name: np.concatenate([grid[name] for grid in grids]) for name in grids[0]}
        sizes["stack"] = np.repeat([float(ask.lane.stack) for ask in asked], rows)
        sizes["library"] = np.repeat([float(ask.lane.library) for ask in asked], rows)
        if asked[0].call.format:
            sizes["format"] = np.repeat([float(FORMAT_INDEX[ask.call.format]) for ask in asked], rows)
        places = np.repeat([self.deployments[ask.deployment].device for ask in asked], rows)
        return self.nodes.latency_s(kind, sizes, self.devices.take(places), block_rows=rows)

    def _place(self, ask: _Ask, once: Column) -> None:
        call, index = ask.call, ask.deployment
        values = call.count * once
        if call.axis in {"tokens", "sequences"} and not call.beside:
            at = _SMALL_STEP
            self.whole[index] += values[at]
            self.known[index] += values[at] * ask.lane.measured
        if call.beside:
            self.beside[index] += values
            return
        target = self.axes[call.axis][index, PARTS.index(call.part)]
        target += values.reshape(target.shape)


_NCCL: Final = LIBRARIES.index("nccl")
_SMALL_STEP: Final = 7  # of TOKENS: 32 rows
_GRID_ROWS: Final = {
    "tokens": len(TOKENS),
    "sequences": len(TOKENS),
    "decode": len(BATCHES) * len(CONTEXTS),
    "prefill": len(BATCHES) * len(PROMPTS),
}


def _variant(call: Call) -> str:
    if call.kind == "gemm":
        return call.format
    if call.kind == "delta_net":
        return f"{call.sizes['convolution'] + 2.0 * call.sizes['decode']:g}"
    name = "narrow" if call.kind in {"prefill_attention", "mla_absorb"} else "kv_bytes"
    return f"{call.sizes[name]:g}"


def _grid_sizes(call: Call) -> dict[str, Grid]:
    if call.axis in {"tokens", "sequences"}:
        sizes = {name: factor * TOKENS for name, factor in call.growing.items()}
        n = len(TOKENS)
    else:
        second = CONTEXTS if call.axis == "decode" else PROMPTS
        batch, other = np.meshgrid(BATCHES, second, indexing="ij")
        n = batch.size
        name = "context_tokens" if call.axis == "decode" else "tokens"
        sizes = {"batch_size": batch.ravel()}
        if name in SIZES[call.kind]:
            sizes[name] = np.maximum(other.ravel() * call.context_share, 1.0)
            if call.context_limit:
                sizes[name] = np.minimum(sizes[name], call.context_limit)
    for name, value in call.sizes.items():
        sizes[name] = np.full(n, value)
    return sizes


def _rising(values: Grid, n_axes: int) -> Grid:
    """Return values made to rise along their last ``n_axes`` axes, by the middle of both running extremes."""
    for axis in range(-n_axes, 0):
        up = np.maximum.accumulate(values, axis=axis)
        down = np.flip(np.minimum.accumulate(np.flip(values, axis), axis=axis), axis)
        values = (up + down) / 2.0
    return values


def _no_dearer(values: Grid, sizes: Grid, axis: int) -> Grid:
    """Return values that rise along ``axis`` no faster than its sizes: more at once is never dearer each."""
    result = np.moveaxis(values.copy(), axis, 0)
    for i in range(1, len(sizes)):
        before = result[i - 1]
        result[i] = np.clip(result[i], before, before * (sizes[i] / sizes[i - 1]))
    return np.moveaxis(result, 0, axis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where values lie on a grid: the cell below and the share of the way to the next one, in logs."""

    cell: NDArray[np.intp]
    share: Column


def place_on(grid: Grid, values: Column) -> Place:
    """Return the places of ``values`` (at least 1) on a grid of sizes."""
    cell = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    low, high = np.log(grid[cell]), np.log(grid[cell + 1])
    share = np.clip((np.log(np.maximum(values, 1.0)) - low) / (high - low), 0.0, 1.0)
    return Place(cell=cell, share=share)


def along(curve: Grid, row: NDArray[np.intp], place: Place) -> Grid:
    """Return ``(n, n_parts)``: curves ``(n_deployments, n_parts, n_grid)`` of each ``row`` at its place."""
    low = curve[row, :, place.cell]
    high = curve[row, :, place.cell + 1]
    return _between(low, high, place.share[:, None])


def across(surface: Grid, row: NDArray[np.intp], first: Place, second: Place) -> Grid:
    """Return ``(n, n_parts)``: surfaces ``(n_deployments, n_parts, n_first, n_second)`` at both places."""
    i, j = first.cell, second.cell
    u, v = first.share[:, None], second.share[:, None]
    low = _between(surface[row, :, i, j], surface[row, :, i, j + 1], v)
    high = _between(surface[row, :, i + 1, j], surface[row, :, i + 1, j + 1], v)
    return _between(low, high, u)


def _between(low: Grid, high: Grid, share: Grid) -> Grid:
    """Return the point ``share`` of the way from low to high in logs; zero stays zero."""
    safe = np.maximum(low, 1e-15)
    with np.errstate(over="ignore"):
        ratio = np.maximum(high, 1e-15) / safe
    return np.where(low > 0.0, safe * ratio**share, 0.0)
