"""Requests whose GPU is a name of several ("p5.48xlarge", "gpu:h100:4"): how many they use, and what to say of it."""

from __future__ import annotations

import math

from llmco2.catalog.gpus import counted_gpus


def named_degree(gpu: object, pipeline_parallel: object = 1) -> int:
    """Return the tensor parallelism of a request that does not say it: all GPUs that ``gpu`` names, else one.

    Pipeline stages share the GPUs among them; where they do not divide, one GPU a stage is left to be refused or
    noted by what follows.
    """
    counted = counted_gpus(gpu) if isinstance(gpu, str) else None
    stages = pipeline_parallel if isinstance(pipeline_parallel, int | float) else 0
    if counted is None or not 1 <= stages <= counted.n_gpus or counted.n_gpus % stages:
        return 1
    return int(counted.n_gpus // stages)


def counted_remark(gpu: object, n_gpus: int) -> tuple[str, ...]:
    """Return what ``gpu`` counts where it names several boards, and how many of them the request uses."""
    counted = counted_gpus(gpu) if isinstance(gpu, str) else None
    if counted is None:
        return ()
    if n_gpus == counted.n_gpus:
        return (f"{counted.said_by} is {counted.n_gpus} GPUs, which share one copy of the model",)
    if n_gpus > counted.n_gpus:
        several = math.ceil(n_gpus / counted.n_gpus)
        return (
            f"{counted.said_by} is {counted.n_gpus} GPUs, so {n_gpus} of them take {several} and cross servers",
        )
    return (f"{counted.said_by} is {counted.n_gpus} GPUs, of which the request uses {n_gpus}",)
