"""One way to fit every small network here: AdamW, one cycle of the rate, and an early stop.

Invariant: a fit depends on its inputs and its seed alone, and leaves torch's global generator as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]  # each (n_samples, …)
_HUBER_DELTA = 0.5  # log error beyond which a sample pulls linearly, as in the shipped model's loss
_LOOK_EVERY = 10  # steps between looks at the samples held back


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """How long and how fast a network is fitted."""

    steps: int = 300
    batch_size: int = 0  # samples a step, drawn anew each time; 0 takes all
    peak_rate: float = 0.01
    weight_decay: float = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardiser:
    """Means and standard deviations of the columns that were fitted."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __call__(self, columns: NDArray[np.float64]) -> Tensor:
        """Return standardised columns, cut at ±5 so that a far-off input stays finite in its effect."""
        return torch.from_numpy(np.clip((columns - self.mean) / self.deviation, -5.0, 5.0)).float()


def standardiser(columns: NDArray[np.float64]) -> Standardiser:
    """Return the standardiser of these columns, over all axes but the last; constant columns stay as they are."""
    axes = tuple(range(columns.ndim - 1))
    deviation = columns.std(axis=axes)
    return Standardiser(mean=columns.mean(axis=axes), deviation=np.where(deviation > 1e-9, deviation, 1.0))


def fit_network(
    build: Callable[[], nn.Module], inputs: Inputs, target: NDArray[np.float64], weight: NDArray[np.float64],
    held: NDArray[np.bool_], *, seed: int, plan: FitPlan,
) -> nn.Module:  # fmt: skip
    """Return a network fitted to ``target``, at its best on the samples that were held back.

    Args:
        build: makes the network; called with torch seeded.
        inputs: what the network reads.
        target: ``(n_samples,)``.
        weight: ``(n_samples,)``, not negative.
        held: ``(n_samples,)``, samples that only decide when to stop; where there are none, the last step counts.
        seed: of weights and dropout.
        plan: steps and rates.
    """
    wanted, trust = torch.from_numpy(target).float(), torch.from_numpy(weight).float()
    aside = torch.from_numpy(held)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        optimizer = torch.optim.AdamW(network.parameters(), lr=plan.peak_rate, weight_decay=plan.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=plan.peak_rate, total_steps=plan.steps
        )
        fitted, best, best_state = (~aside).nonzero()[:, 0], float("inf"), copy.deepcopy(network.state_dict())
        for step in range(plan.steps):
            network.train()
            optimizer.zero_grad()
            batch = fitted
            if 0 < plan.batch_size < len(fitted):
                batch = fitted[torch.randperm(len(fitted))[: plan.batch_size]]
            loss = _loss(network(*(i[batch] for i in inputs)), wanted[batch], trust[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            if aside.any() and ((step + 1) % _LOOK_EVERY == 0 or step + 1 == plan.steps):
                found = float(
                    _loss(predict(network, tuple(i[aside] for i in inputs)), wanted[aside], trust[aside])
                )
                if found < best:
                    best, best_state = found, copy.deepcopy(network.state_dict())
    if aside.any():
        network.load_state_dict(best_state)
    return network.eval()


@torch.no_grad()
def predict(network: nn.Module, inputs: Inputs) -> Tensor:
    """Return the network's answers without dropout, ``(n_samples,)``."""
    answers: Tensor = network.eval()(*inputs)
    return answers


def _loss(predicted: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    huber = nn.functional.huber_loss(predicted, wanted, reduction="none", delta=_HUBER_DELTA)
    return (weight * huber).sum() / weight.sum()
