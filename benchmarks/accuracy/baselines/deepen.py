"""DeepEn: a random forest over columns, without a graph.

Source: Tu et al., "Unveiling Energy Efficiency in Deep Learning: Measurement, Prediction, and Scoring across Edge
Devices" (DeepEn2023, arXiv 2310.18329), which predicts a kernel's energy with random forests over its configuration,
as LLMCO2 (arXiv 2410.02950) compares itself with it.

Columns: batch size, prompt tokens, output tokens, continuous serving and whether prefill and decode are inside the
window; parameters, active parameters, width, layers, heads, key-value heads, head width, feed-forward width,
vocabulary, experts and experts per token; peak FLOP/s at the run's precision, memory bandwidth, memory, link rate, TDP
and power limit; GPUs, tensor and pipeline parallelism; bytes per weight and per cached element; engine and precision by
name.

Simplifications: one forest for whole windows, because single kernels of these runs were not measured; it fits log
energy, because energies span nine decades; the engine is a column, though the source has one engine only; depth and
leaves are scikit-learn's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.baselines.label_table import Table, phase_work, row_deployments
from benchmarks.accuracy.baselines.request_columns import name_columns, trained_names
from benchmarks.accuracy.baselines.windows import Windows, all_windows, energy_samples, energy_table
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.release.heldout import Fold
from llmco2.catalog.params import active_parameter_count, parameter_count
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.tensors import assumed_prompt_tokens, numbers

NAME: Final = "DeepEn (random forest)"
N_TREES: Final = 200
Names = tuple[tuple[str, ...], tuple[str, ...]]


def forest_columns(data: EnergyDataModule, windows: Windows, names: Names) -> NDArray[np.float64]:
    """Return what the forest reads of each window, ``(n_windows, n_columns)``."""
    rows = windows.row
    frame, columns = data.frame.iloc[rows], row_deployments(data, rows)
    shape, device, (basis, later) = columns.shape, columns.device, phase_work(data, rows)
    counts = np.array([
        (parameter_count(d.architecture), active_parameter_count(d.architecture)) for d in data.tensors.deployments
    ], dtype=np.float64)[data.tensors.deployment.numpy()[rows]]  # fmt: skip
    decode = windows.phases[:, 1] * (later.steps > 0.0)  # a request for one token has none
    listed = (
        numbers(frame["batch_size"]),
        numbers(assumed_prompt_tokens(frame)),
        1.0 + later.steps * decode,
        numbers(frame["serving"] == "continuous"),
        windows.phases[:, 0],
        decode,
        counts[:, 0], counts[:, 1], shape.hidden_dim, shape.n_mixer_layers, shape.n_heads, shape.n_kv_heads,
        shape.head_dim, np.maximum(shape.ffn_dim, shape.expert_ffn_dim), shape.vocab_size, shape.n_experts,
        shape.experts_per_token,
        device.matmul_flops_per_s, device.memory_bandwidth_bytes_per_s, device.memory_bytes,
        device.network_bytes_per_s, device.tdp_w, basis.power_limit_w,
        basis.n_gpus, columns.shard_degree, columns.pipeline_parallel,
        columns.weight_bytes_per_element, columns.kv_bytes_per_element,
    )  # fmt: skip
    return np.column_stack([*listed, name_columns(data, rows, names)])


def forest_table(
    data: EnergyDataModule, train: Index, rows: Index, seed: int, n_trees: int = N_TREES
) -> Table:
    """Return predicted energies of ``rows`` by a forest grown on ``train``."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 - of the extra that evaluation asks for

    samples = energy_samples(data, train)
    names = trained_names(data, samples.windows.row)
    forest = RandomForestRegressor(n_estimators=n_trees, random_state=seed)
    forest.fit(forest_columns(data, samples.windows, names), samples.log_energy, sample_weight=samples.weight)
    return energy_table(forest.predict(forest_columns(data, all_windows(rows), names)))


def fold_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors on the fold's test rows."""
    return {NAME: label_errors(forest_table(data, fold.train, fold.test, seed), data, fold.test)}


METHOD_GROUP = MethodGroup(
    names=(NAME,),
    fold_errors=fold_errors,
    seeded=True,
    about="A random forest over request, model and GPU columns (DeepEn, arXiv 2310.18329), without a graph.",
)
