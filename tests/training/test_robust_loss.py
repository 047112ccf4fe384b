"""Rows far off pull no harder than rows a little off, so that a rare regime does not move what is common."""

from __future__ import annotations

import pytest
import torch

from llmco2.data.tensors import N_LABELS
from llmco2.training.loss import HUBER_DELTA, robust_loss


def _loss(*errors: float) -> torch.Tensor:
    table = torch.zeros(len(errors), N_LABELS)
    table[:, 2] = torch.tensor(errors)
    labels = torch.full_like(table, torch.nan)
    labels[:, 2] = 1.0
    return robust_loss(table, labels, torch.ones(len(errors)))


def test_the_loss_by_hand_inside_and_outside_its_bend() -> None:
    assert _loss(0.5 * HUBER_DELTA).item() == pytest.approx(0.125 * HUBER_DELTA**2)
    assert _loss(1.0).item() == pytest.approx(HUBER_DELTA * (1.0 - 0.5 * HUBER_DELTA))


def test_the_best_constant_is_near_the_middle_and_not_the_mean() -> None:
    """Nine rows at 0 and one at 1: the mean is 0.1, the middle 0, and the best within one ninth of the bend."""
    level = torch.linspace(-0.2, 1.2, 1401)
    losses = torch.stack([_loss(*[float(x)] * 9, float(x) - 1.0) for x in level])
    assert float(level[losses.argmin()]) == pytest.approx(HUBER_DELTA / 9.0, abs=1e-3)
