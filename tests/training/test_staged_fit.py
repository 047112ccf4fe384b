"""The formula of a staged fit is the formula fitted alone: the graph network that follows leaves it as it is."""

from __future__ import annotations

import pytest
import torch

from benchmarks.release import heldout
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import SplitOptions


def test_a_graph_network_does_not_move_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heldout, "FORMULA_STEPS", 12)
    monkeypatch.setattr(heldout, "GRAPH_STEPS", 6)
    data = EnergyDataModule(split=SplitOptions(kind="none"))
    data.setup()
    rows = heldout.training_rows(data)
    alone = dict(heldout.fit_rows(data, rows, "alone", graph=False).named_parameters())
    staged = dict(heldout.fit_rows(data, rows, "staged", graph=True).named_parameters())
    assert set(alone) < set(staged)
    assert staged["slot_head.weight"].abs().max() > 0.0  # the graph network did learn
    for name, values in alone.items():
        torch.testing.assert_close(staged[name], values, rtol=0.0, atol=0.0, msg=name)
