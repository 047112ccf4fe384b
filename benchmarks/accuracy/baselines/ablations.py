"""What single parts of the networks are worth: the same recipes with one part taken out.

* No roofline features: the paper's two networks without the attainable rate of each kernel, the one input that a
  roofline gives them. FLOPs, bytes and the GPU's rates stay: they say what is to be done, not how fast it can be.
* Single phase: the nine-constant formula on the summed work of prefill and decode, one roofline for both. Runs that
  know one phase alone are predicted from that phase.
* No message passing: the shipped network's graph part without rounds of message passing, so that a kernel knows of
  others through their mean only. It is fitted as held-out folds fit the whole network, evaluated with the gate open,
  because with the gate closed both are the formula where a board or family is new.

Kernel pretraining is left out: it needs a file of measured kernels beside the runs, and minutes a fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import lightning.pytorch as pl
from torch import Tensor, nn

from benchmarks.accuracy.baselines import nine_constants
from benchmarks.accuracy.baselines.lightning_fit import fit_module, own_data
from benchmarks.accuracy.baselines.paper import paper_table
from benchmarks.accuracy.method import LabelErrors, MethodGroup, label_errors
from benchmarks.accuracy.paper_module import PaperModule
from benchmarks.accuracy.paper_network import SIZE_FEATURES, PaperNetwork
from benchmarks.accuracy.shipped import OpenGateNetwork, network_errors
from benchmarks.release.heldout import FORMULA_STEPS, GRAPH_STEPS, Fold
from llmco2.data.module import EnergyDataModule
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.operators.names import KINDS
from llmco2.training.models import PhysicsModel
from llmco2.training.module import EnergyModule
from llmco2.training.options import NetworkOptions, OptimizerOptions, UnknownShare

NO_ROOFLINE: Final = "paper's two networks (no roofline)"
SINGLE_PHASE: Final = "nine constants (single phase)"
NO_MESSAGES: Final = "graph net (gate open; no messages)"
_ATTAINABLE_COLUMN: Final = len(KINDS) + SIZE_FEATURES.index("log_attainable_flops_per_s")


def hide_roofline(network: PaperNetwork) -> None:
    """Make both phases' networks read zeros in place of attainable rates."""
    for phase in (network.prefill, network.decode):
        phase.register_forward_pre_hook(_without_attainable)


def no_roofline_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors of the paper's networks without attainable rates."""

    def change(module: PaperModule) -> None:
        hide_roofline(module.network)

    table = paper_table(data, fold.train, fold.test, fold.name, seed, change=change)
    return {NO_ROOFLINE: label_errors(table, data, fold.test)}


def single_phase_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:  # noqa: ARG001
    """Return the errors of the nine-constant formula on merged phases; there is no chance in it."""
    constants = nine_constants.fit_constants(data, fold.train, merged=True)
    table = nine_constants.predicted(constants, data, fold.test, merged=True)
    return {SINGLE_PHASE: label_errors(table, data, fold.test)}


def pooled_network(
    data: EnergyDataModule,
    fold: Fold,
    seed: int,
    *,
    formula_steps: int = FORMULA_STEPS,
    graph_steps: int = GRAPH_STEPS,
) -> tuple[CoefficientNetwork, EnergyDataModule]:
    """Return the shipped recipe's network without message passing, and the data it was fitted on."""
    own = own_data(data, fold.train, fold.name)
    steps = formula_steps + graph_steps
    pl.seed_everything(seed, verbose=False)
    module = EnergyModule(
        network=replace(NetworkOptions(), n_rounds=0),
        optimizer=replace(OptimizerOptions(), formula_share=formula_steps / steps),
        unknown_share=UnknownShare(),
        seed=seed,
    )
    fit_module(module, own, epochs=steps)
    if not isinstance(module.model, PhysicsModel):
        raise TypeError(f"a physics network was asked for, got {type(module.model).__name__}")
    return module.model.network, own


def no_messages_errors(data: EnergyDataModule, fold: Fold, seed: int) -> Mapping[str, LabelErrors]:
    """Return the errors of the shipped recipe without message passing, its gate open."""
    network, own = pooled_network(data, fold, seed)
    return {NO_MESSAGES: network_errors(OpenGateNetwork.of(network), own, fold.test)}


def _without_attainable(module: nn.Module, inputs: tuple[Tensor, Any, Tensor]) -> tuple[Tensor, Any, Tensor]:  # noqa: ARG001
    nodes, graphs, features = inputs
    hidden = nodes.clone()
    hidden[:, _ATTAINABLE_COLUMN] = 0.0
    return hidden, graphs, features


METHOD_GROUPS = (
    MethodGroup(
        names=(NO_ROOFLINE,),
        fold_errors=no_roofline_errors,
        seeded=True,
        about="The paper's two networks without the attainable roofline rate of each kernel.",
    ),
    MethodGroup(
        names=(SINGLE_PHASE,),
        fold_errors=single_phase_errors,
        seeded=False,
        about="The nine-constant formula with prefill and decode added up before the roofline.",
    ),
    MethodGroup(
        names=(NO_MESSAGES,),
        fold_errors=no_messages_errors,
        seeded=True,
        about="The shipped recipe with its graph network pooling kernels only, without message passing.",
    ),
)
