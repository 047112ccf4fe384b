"""What the predictor says the parts of serving cost, as attribution divides by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2.serving.attribution import PhaseCosts

_FAR: Final = 4.0  # the second context is this many times the first


def phase_costs(request: InferenceRequest, predict: Callable[[InferenceRequest], Footprint]) -> PhaseCosts:
    """Return the costs of a steady batch like ``request``, J over all GPUs.

    A step of decoding is taken as a + b × batch + c × batch × context and solved from three predictions: one sequence,
    the batch, and the batch at four times its context. No cost is below zero. Prefill is that of the batch per prompt
    token.
    """
    steady = replace(request, serving="continuous", batch_size=max(2.0, request.batch_size))
    batch, context = steady.batch_size, _mean_context(steady)
    far = replace(steady, prompt_tokens=_FAR * steady.prompt_tokens)
    here = predict(steady)
    one_j, here_j, far_j = (
        _step_j(predict(replace(steady, batch_size=1.0))),
        _step_j(here),
        _step_j(predict(far)),
    )
    per_context_j = max(0.0, (far_j - here_j) / (batch * (_mean_context(far) - context)))
    slope_j = max(0.0, (here_j - one_j) / (batch - 1.0) - per_context_j * context)
    fixed_j = max(0.0, here_j - batch * (slope_j + per_context_j * context))
    return PhaseCosts(
        prefill_token_j=here.prefill.energy_j / (batch * steady.prompt_tokens),
        decode_step_j=fixed_j,
        decode_token_j=slope_j,
        context_token_j=per_context_j,
    )


def _mean_context(request: InferenceRequest) -> float:
    return request.prompt_tokens + request.output_tokens / 2


def _step_j(footprint: Footprint) -> float:
    """Return the joules of one step of decoding; the first output token comes out of prefill."""
    return footprint.decode.energy_j / float(np.maximum(1.0, footprint.request.output_tokens - 1.0))
