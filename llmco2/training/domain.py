"""What a training table covers, as the checkpoint records it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from llmco2.catalog.params import parameter_count
from llmco2.data.tensors import RunTensors, energy_known
from llmco2.deployment.deployment import mechanisms
from llmco2.physics.groups import deployment_name


def training_domain(runs: pd.DataFrame, tensors: RunTensors) -> dict[str, Any]:
    """Return the names and size ranges that occur among runs with an energy label."""
    known = energy_known(tensors)
    used = sorted({int(i) for i in tensors.deployment[known].tolist()})
    deployments = [tensors.deployments[i] for i in used]
    sizes = {
        name: [float(np.nanmin(values)), float(np.nanmax(values))]
        for name in ("batch_size", "prompt_tokens", "output_tokens")
        for values in (runs.loc[known, name].astype(float).to_numpy(),)
    }
    parameters = [parameter_count(d.architecture) for d in deployments]
    gpus = [d.shard_degree * d.pipeline_parallel for d in deployments]
    return {
        "gpus": sorted({d.gpu_id for d in deployments}),
        "families": sorted({d.architecture.family for d in deployments}),
        "engines": sorted({d.engine for d in deployments}),
        "precisions": sorted({d.precision.name for d in deployments}),
        "deployments": sorted({deployment_name(d) for d in deployments} - {""}),
        "mechanisms": sorted(set().union(*(mechanisms(d) for d in deployments))),
        "ranges": {
            **sizes,
            "parameters": [float(min(parameters)), float(max(parameters))],
            "n_gpus": [float(min(gpus)), float(max(gpus))],
        },
    }
