"""Which engine serves what: learned from the endpoints that tell it, each of which may be absent.

Invariant: TensorRT-LLM is known before ``/metrics`` is read, for reading it there drains the engine's statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmco2.errors import explain
from llmco2.serving.client import PageClient
from llmco2.serving.errors import FOREIGN, REFUSED, ServerError
from llmco2.serving.exposition import printable
from llmco2.serving.sample import ServerSample

TRTLLM_PAGE: Final = "/prometheus/metrics"
USUAL_PAGE: Final = "/metrics"
TRTLLM_ENERGY: Final = "/energy_metrics"
_LONGEST_NAME: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server says of itself; ``None`` is: it does not say."""

    engine: str
    model: str | None = None  # the repository or path behind the served name, where it is told
    served_model: str | None = None
    version: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    kv_dtype: str | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    max_context_tokens: int | None = None


def find_page(client: PageClient) -> str:
    """Return the path of the metrics page; that of the URL where it has one.

    Raises:
        ServerError: the server cannot be read, or publishes no metrics.
    """
    if client.url.path not in ("", "/"):
        return client.url.raw_path.decode()
    for path in (TRTLLM_PAGE, USUAL_PAGE):
        if path == USUAL_PAGE and _is_trtllm(client):
            raise ServerError(
                FOREIGN,
                explain("TensorRT-LLM publishes no Prometheus page here", remedy="set return_perf_metrics"),
            )
        try:
            client.text(path)
        except ServerError as error:
            if error.code != REFUSED or path == USUAL_PAGE:
                raise
            continue
        return path
    raise AssertionError("unreachable")


def _is_trtllm(client: PageClient) -> bool:
    owners = {entry.get("owned_by") for entry in _entries(_facts(client, "/v1/models"))}
    if owners:
        return "tensorrt_llm" in owners
    return "total_energy_j" in _facts(client, TRTLLM_ENERGY)


def identify(client: PageClient, sample: ServerSample) -> Identity:
    """Return what the server of ``sample`` says of itself; a silent endpoint leaves its facts unknown."""
    listed = next(
        (
            entry
            for entry in _entries(_facts(client, "/v1/models"))
            if sample.model in (None, entry.get("id"))
        ),
        {},
    )
    facts: Mapping[str, Any] = {
        "model": listed.get("root") or listed.get("id") or sample.model,
        "served_model": sample.model or listed.get("id"),
        "max_context_tokens": listed.get("max_model_len"),
        **sample.config,
    }
    own = {"vllm": _vllm, "sglang": _sglang, "tgi": _tgi, "llamacpp": _llamacpp, "trtllm": _version}
    found = {**facts, **(own[sample.engine](client) if sample.engine in own else {})}
    return Identity(
        engine=sample.engine,
        model=_text(found.get("model")),
        served_model=_text(found.get("served_model")),
        version=_text(found.get("version")),
        dtype=_text(found.get("dtype")),
        quantization=_text(found.get("quantization")),
        kv_dtype=_text(found.get("kv_dtype")),
        tensor_parallel=_whole(found.get("tensor_parallel")),
        pipeline_parallel=_whole(found.get("pipeline_parallel")),
        max_context_tokens=_whole(found.get("max_context_tokens")),
    )


def energy_j(client: PageClient) -> float | None:
    """Return the joules that TensorRT-LLM counted for its GPUs, or ``None`` where it counts none."""
    value = _facts(client, TRTLLM_ENERGY).get("total_energy_j")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        return None
    return float(value)


def _version(client: PageClient) -> dict[str, Any]:
    version = _facts(client, "/version").get("version")
    return {} if version is None else {"version": version}


def _vllm(client: PageClient) -> dict[str, Any]:
    """Read the version and, under its development mode, the configuration."""
    config = _facts(client, "/server_info?config_format=json").get("vllm_config")
    parts = config if isinstance(config, dict) else {}
    model, parallel, cache = (_part(parts, f"{name}_config") for name in ("model", "parallel", "cache"))
    found = {
        "model": model.get("model"),
        "dtype": model.get("dtype"),
        "quantization": model.get("quantization"),
        "kv_dtype": cache.get("cache_dtype"),
        "tensor_parallel": parallel.get("tensor_parallel_size"),
        "pipeline_parallel": parallel.get("pipeline_parallel_size"),
    }
    return _version(client) | {name: value for name, value in found.items() if value is not None}


def _sglang(client: PageClient) -> dict[str, Any]:
    info = _facts(client, "/server_info") or _facts(client, "/get_server_info")
    model = _facts(client, "/model_info") or _facts(client, "/get_model_info")
    found = {
        "model": model.get("model_path") or info.get("model_path"),
        "version": info.get("version"),
        "dtype": info.get("dtype"),
        "quantization": info.get("quantization"),
        "kv_dtype": info.get("kv_cache_dtype"),
        "tensor_parallel": info.get("tp_size"),
        "pipeline_parallel": info.get("pp_size"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _tgi(client: PageClient) -> dict[str, Any]:
    info = _facts(client, "/info")
    found = {
        "model": info.get("model_id"),
        "served_model": info.get("model_id"),
        "version": info.get("version"),
        "dtype": info.get("model_dtype"),
        "quantization": info.get("quantize"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _llamacpp(client: PageClient) -> dict[str, Any]:
    props = _facts(client, "/props")
    found = {"model": props.get("model_path"), "version": props.get("build_info")}
    return {name: value for name, value in found.items() if value is not None}


def _facts(client: PageClient, path: str) -> dict[str, Any]:
    """Return the JSON object at ``path``; nothing where there is none, for every fact may be unknown."""
    try:
        found = client.facts(path)
    except ServerError:
        return {}
    return found if isinstance(found, dict) else {}


def _entries(listing: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = listing.get("data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value or value.casefold() in ("none", "auto"):
        return None
    return printable(value.removeprefix("torch."), _LONGEST_NAME)


def _whole(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < 1 << 31 else None
