"""From the names in a request to a deployment whose parts go together.

Invariant: a deployment is checked when it is made; a name that is not known is refused with the nearest ones.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.gpu import Gpu
from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.part_precisions import PartPrecisions
from llmco2.catalog.precisions import (
    Precision,
    compute_peak_flops_per_s,
    default_precision,
    resolve_precision,
    served_precision,
)
from llmco2.catalog.stored import served_parts
from llmco2.deployment.deployment import Deployment, parallelism_error
from llmco2.errors import RequestError, explain
from llmco2.records.engines import ENGINES, resolve_engine
from llmco2.records.request import UNKNOWN, InferenceRequest

_KV_PRECISIONS: Final = ("fp32", "fp16", "bf16", "fp8", "int8", "int4")


def request_deployment(request: InferenceRequest) -> Deployment:
    """Return the deployment of a request; errors as in :func:`resolve_deployment`."""
    return resolve_deployment(
        request.model,
        request.gpu,
        request.tensor_parallel,
        request.pipeline_parallel,
        request.expert_parallel,
        request.engine,
        request.precision,
        request.kv_precision,
    )


def resolve_deployment(  # noqa: PLR0917 - the columns of a request, in their order
    model: str,
    gpu: str,
    tensor_parallel: int,
    pipeline_parallel: int,
    expert_parallel: int,
    engine: str,
    precision: str,
    kv_precision: str,
) -> Deployment:
    """Resolve names and check that the parts go together.

    Raises:
        UnknownNameError: a model, GPU, engine or precision that is not known, with the nearest names.
        FileFormatError: a damaged configuration or datasheet, where the model or GPU is given by its path.
        RequestError: a precision the GPU lacks, or parallelism that does not divide the model.
    """
    return assemble_deployment(
        resolve_model(_name("model", model)),
        resolve_gpu(_name("gpu", gpu)),
        resolve_engine(_name("engine", engine)),
        named_precision(_name("precision", precision)),
        named_precision(_name("kv_precision", kv_precision)),
        tensor_parallel=int(tensor_parallel),
        pipeline_parallel=int(pipeline_parallel),
        expert_parallel=int(expert_parallel),
    )


def assemble_deployment(
    architecture: Architecture,
    gpu: Gpu,
    engine: str,
    precision: Precision | None,
    kv_precision: Precision | None,
    *,
    tensor_parallel: int,
    pipeline_parallel: int,
    expert_parallel: int,
) -> Deployment:
    """Return the deployment of records that are resolved; a precision of None is the engine's own choice.

    Raises RequestError as :func:`resolve_deployment` does.
    """
    precision = _of_engine(engine, precision, architecture)
    asked = precision or default_precision(architecture, gpu)
    compute_peak_flops_per_s(gpu, asked)  # refuses what the GPU cannot compute, by the name that was given
    chosen = served_precision(architecture, asked) if precision else asked
    parts = served_parts(architecture, gpu, precision and chosen)
    deployment = Deployment(
        architecture=architecture,
        gpu_id=gpu.gpu_id,
        engine=engine,
        precision=chosen,
        parts=parts,
        kv_bytes_per_element=_kv_bytes(kv_precision, chosen, parts),
        tensor_parallel=tensor_parallel,
        expert_parallel=expert_parallel,
        pipeline_parallel=pipeline_parallel,
        datasheet=None if load_gpus().get(gpu.gpu_id) == gpu else gpu,
    )
    reason = parallelism_error(deployment)
    if reason:
        raise RequestError(reason)
    return deployment


def _of_engine(engine: str, precision: Precision | None, architecture: Architecture) -> Precision | None:
    """Return the precision under an engine that holds weights of its own formats alone, where it is one.

    Raises RequestError for a format that it cannot hold.
    """
    formats = ENGINES[engine].formats if engine in ENGINES else ()
    if not formats or (precision is not None and precision.name in formats):
        return precision
    if precision is None:
        own = architecture.checkpoint_precision
        return None if own in formats else resolve_precision(formats[0])
    raise RequestError(
        explain(
            f"{engine} holds no weights in {precision.name}",
            got=f"precision {precision.name}",
            expected=" or ".join(formats),
            remedy="leave --precision out for its own, or name another engine",
        )
    )


def named_precision(name: str) -> Precision | None:
    """Return the precision that ``name`` means; None where it is left to the engine."""
    return None if name.strip().casefold() == UNKNOWN else resolve_precision(name)


def _name(what: str, value: object) -> str:
    if isinstance(value, PathLike):
        value = fspath(value)
    if not isinstance(value, str):
        raise RequestError(explain(f"{what} is not a name", got=repr(value), expected="text"))
    return value


def _kv_bytes(kv_precision: Precision | None, precision: Precision, parts: PartPrecisions) -> float:
    if kv_precision is None:
        published = resolve_precision(parts.kv_cache) if parts.kv_cache else None
        return published.weight_bytes_per_element if published else precision.kv_bytes_per_element
    if kv_precision.name not in _KV_PRECISIONS:
        raise RequestError(
            explain(
                "no engine caches keys and values so",
                got=kv_precision.name,
                expected=" ".join(_KV_PRECISIONS),
                remedy="leave --kv-precision out to use the activations' own",
            )
        )
    return kv_precision.weight_bytes_per_element
