"""The shapes of the batches behind each run: one, or for a run of many different batches every one of them.

Invariant: work is counted for each shape and then averaged. The mean shape does less: a cache read over the output
grows with its square, so that batches of 10 and of 8,192 tokens read twice what two of 4,101 do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmco2.errors import InputError, explain
from llmco2.operators.columns import Column
from llmco2.physics.readout import PhaseBasis


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShapes:
    """Shapes of the batches of all runs, in the order of the runs, ``(n_shapes,)`` each."""

    run: NDArray[np.intp]  # the row of the run
    batch_size: Column
    prompt_tokens: Column
    output_tokens: Column


def batch_shapes(
    shape_mix: pd.Series[Any], batch_size: Column, prompt_tokens: Column, output_tokens: Column
) -> BatchShapes:
    """Return the shapes of every run; a run without a ``shape_mix`` has the one of its columns.

    Raises InputError for a mix that is no JSON list of [batch_size, prompt_tokens, output_tokens].
    """
    rows: list[tuple[float, float, float, float]] = []
    own = zip(batch_size.tolist(), prompt_tokens.tolist(), output_tokens.tolist(), strict=True)
    for i, (mix, shape) in enumerate(zip(shape_mix, own, strict=True)):
        shapes = [shape] if pd.isna(mix) else _parsed(mix)
        rows.extend((float(i), *each) for each in shapes)
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return BatchShapes(
        run=table[:, 0].astype(np.intp),
        batch_size=table[:, 1],
        prompt_tokens=table[:, 2],
        output_tokens=np.maximum(table[:, 3], 1.0),
    )


def mean_basis(basis: PhaseBasis, shapes: BatchShapes) -> PhaseBasis:
    """Return the basis of each run's mean batch from the basis of every shape."""
    starts = np.flatnonzero(np.diff(shapes.run, prepend=-1))
    counts = np.diff(starts, append=len(shapes.run)).astype(np.float64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.add.reduceat(values, starts, axis=0)
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    if len(starts) == len(shapes.run):
        return basis
    return PhaseBasis(
        **{field.name: mean(np.asarray(getattr(basis, field.name))) for field in fields(PhaseBasis)}
    )


def _parsed(mix: str) -> list[tuple[float, float, float]]:
    try:
        shapes = [(float(b), float(p), float(o)) for b, p, o in json.loads(mix)]
    except (TypeError, ValueError):
        shapes = []
    if not shapes or min(min(shape) for shape in shapes) < 0.0 or min(b for b, _, _ in shapes) <= 0.0:
        raise InputError(
            explain(
                "shape_mix is no list of shapes",
                got=repr(mix)[:60],
                expected="JSON [[batch_size, prompt_tokens, output_tokens], …]",
            )
        )
    return shapes
