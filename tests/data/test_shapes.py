"""Runs of many batches: their work is the mean of the batches' work, not the work of the mean batch."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmco2.data.shapes import batch_shapes
from llmco2.data.simulate import simulate_runs
from llmco2.data.tensors import run_tensors
from llmco2.errors import InputError
from llmco2.physics.readout import PhaseBasis

SHAPE = st.tuples(st.integers(1, 16), st.integers(1, 300), st.integers(2, 3000))


def _table(shapes: list[tuple[int, int, int]], mix: str | None) -> pd.DataFrame:
    row = simulate_runs(1, seed=0).iloc[[0]].assign(
        model="meta-llama/Llama-3.1-8B", gpu="A100-SXM4-80GB", serving="static", status="ok",
        tensor_parallel=1, expert_parallel=1, pipeline_parallel=1, precision="bf16", kv_precision="unknown",
    )  # fmt: skip
    rows = pd.concat([row] * len(shapes), ignore_index=True)
    rows[["batch_size", "prompt_tokens", "output_tokens"]] = np.array(shapes, dtype=float)
    return rows.assign(shape_mix=mix)


@given(st.lists(SHAPE, min_size=1, max_size=6))
def test_the_work_of_a_mix_is_the_mean_of_its_parts(shapes: list[tuple[int, int, int]]) -> None:
    whole = run_tensors(_table(shapes[:1], str([list(shape) for shape in shapes])))
    parts = run_tensors(_table(shapes, None))
    for one, each in zip(whole.bases, parts.bases, strict=True):
        for field in fields(PhaseBasis):
            mean = getattr(each, field.name).double().mean(dim=0)
            torch.testing.assert_close(
                getattr(one, field.name)[0].double(), mean, rtol=1e-5, atol=1e-12, msg=field.name
            )


def test_a_mean_shape_would_read_half_the_cache() -> None:
    """Batches of 10 and 8,192 tokens: 8191²/2 reads against twice 4100²/2, prompts of 1 token aside."""
    mixed = run_tensors(_table([(1, 1, 4101)], "[[1, 1, 10], [1, 1, 8192]]"))
    averaged = run_tensors(_table([(1, 1, 4101)], None))
    ratio = mixed.bases[1].kv_s.sum() / averaged.bases[1].kv_s.sum()
    assert ratio.item() == pytest.approx(2.0, rel=0.01)


def test_rows_with_and_without_a_mix_keep_their_order() -> None:
    mixes = pd.Series([None, "[[2, 3, 4], [5, 6, 7]]", None])
    own = np.array([1.0, 2.0, 3.0])
    shapes = batch_shapes(mixes, own, own * 10, own * 100)
    assert shapes.run.tolist() == [0, 1, 1, 2]
    assert shapes.batch_size.tolist() == [1, 2, 5, 3]
    assert shapes.prompt_tokens.tolist() == [10, 3, 6, 30]
    assert shapes.output_tokens.tolist() == [100, 4, 7, 300]


@pytest.mark.parametrize("mix", ["", "[]", "[[1, 2]]", "[[0, 2, 3]]", "[[1, -2, 3]]", '[["a", 2, 3]]', "{}"])
def test_what_is_no_mix_is_refused(mix: str) -> None:
    with pytest.raises(InputError, match="shape_mix is no list of shapes"):
        batch_shapes(pd.Series([mix]), np.ones(1), np.ones(1), np.ones(1))
