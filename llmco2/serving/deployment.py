"""What a server runs, in the words of the predictor: from what it says, what a person said, and its GPUs.

Invariant: what a person gave wins; what neither gave nor the server said stays unknown, which the predictor knows how
to answer, or is the reason why nothing is predicted. Every fact has its origin in ``origins``.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.precisions import resolve_precision
from llmco2.errors import InputError
from llmco2.records.engines import resolve_engine
from llmco2.records.request import UNKNOWN
from llmco2.serving import sample as q
from llmco2.serving.exposition import printable
from llmco2.serving.identity import Identity
from llmco2.serving.idle_power import idle_power_w
from llmco2.serving.sample import ServerSample
from llmco2.serving.workload import Deployment

_HUB_FOLDER: Final = re.compile(r"models--([^/]+)--([^/]+)")
_PREDICTED_ENGINE: Final[Mapping[str, str]] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tgi": "tgi",
    "trtllm": "tensorrt-llm",
    "triton": "tensorrt-llm",
    "llamacpp": "llama.cpp",
}
GIVEN: Final = "given"
SAID: Final = "the server says so"
COUNTED: Final = "counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a person said about a server; ``None`` is nothing."""

    model: str | None = None
    gpu: str | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    engine: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    output_tokens: float | None = None

    @property
    def said(self) -> dict[str, str | int | float]:
        """What was said, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A deployment and where each of its facts comes from."""

    deployment: Deployment
    origins: Mapping[str, str]


def find_deployment(
    url: str,
    identity: Identity,
    sample: ServerSample,
    given: Given,
    *,
    device: str | None,
    n_gpus: int | None,
    given_by: Mapping[str, str] = MappingProxyType({}),
) -> Found | str:
    """Return what the server runs, or one line on what is missing and which option gives it.

    ``device`` is the name of its GPUs as their driver gives it, ``n_gpus`` how many are its own; ``None`` where they
    cannot be seen from here. ``given_by`` says how a fact of ``given`` came about where it was not said just now.
    """
    model = given.model or _model(url, identity)
    if model is None:
        named = printable(identity.model or identity.served_model or "no name")
        return (
            f"the catalog does not know the served model ({named}): name it, or the path of its config.json"
        )
    gpu = given.gpu or identity_gpu(sample) or device
    if gpu is None:
        return "the server's GPU is not known: name it with --gpu"
    try:
        card = resolve_gpu(gpu)
    except InputError as error:
        return str(error)
    parallel = _parallel(given, identity, sample, n_gpus)
    precision, precision_from = _precision(given.precision, identity)
    kv_precision = given.kv_precision or _known_precision(identity.kv_dtype) or UNKNOWN
    engine, engine_from = _engine(given, identity, sample)
    idle_w, idle_from = idle_power_w(gpu)
    deployment = Deployment(
        model=model,
        gpu=card.gpu_id,
        tensor_parallel=parallel[0],
        pipeline_parallel=parallel[1],
        engine=engine,
        precision=precision,
        kv_precision=kv_precision,
        replicas=sample.n_ranks,
        idle_power_w=idle_w,
        output_tokens=given.output_tokens,
    )
    origins = {
        "model": GIVEN if given.model else SAID,
        "gpu": GIVEN if given.gpu else SAID if identity_gpu(sample) else "its driver says so",
        "tensor_parallel": parallel[2],
        "engine": engine_from,
        "precision": precision_from,
        "idle_power_w": idle_from,
    }
    told = {
        name: given_by.get(name, origin) if origin == GIVEN else origin for name, origin in origins.items()
    }
    return Found(deployment=deployment, origins=told)


def identity_gpu(sample: ServerSample) -> str | None:
    """Return the GPU that a page names, as TensorRT-LLM's does."""
    return sample.config.get("gpu")


def _model(url: str, identity: Identity) -> str | None:
    """Return the first name behind the served one that the catalog knows.

    A path is opened only where the server is on this machine: elsewhere it means another file.
    """
    for name in _candidates(identity):
        if name.startswith(("/", ".", "~")) and not is_here(url):
            continue
        try:
            resolve_model(name)
        except (InputError, OSError):
            continue
        return name
    return None


def _candidates(identity: Identity) -> Iterator[str]:
    for name in (identity.model, identity.served_model):
        if not name:
            continue
        yield name
        folder = _HUB_FOLDER.search(name)
        if folder is not None:
            yield f"{folder[1]}/{folder[2]}"
        parts = [part for part in PurePosixPath(name).parts if part != "/"]
        if len(parts) > 1:
            yield "/".join(parts[-2:])
            yield parts[-1].removesuffix(".gguf")


def is_here(url: str) -> bool:
    """Whether a URL's host is this machine: loopback, or an address that a socket can be bound to here."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_own(family, str(address[0])) for family, _, _, _, address in found)


def _is_own(family: int, address: str) -> bool:
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _parallel(
    given: Given, identity: Identity, sample: ServerSample, n_gpus: int | None
) -> tuple[int, int, str]:
    pipeline = given.pipeline_parallel or identity.pipeline_parallel or 1
    if given.tensor_parallel is not None:
        return given.tensor_parallel, pipeline, GIVEN
    if identity.tensor_parallel is not None:
        return identity.tensor_parallel, pipeline, SAID
    if n_gpus is not None:
        each = n_gpus // (sample.n_ranks * pipeline)
        return max(1, each), pipeline, f"{COUNTED}: {n_gpus} GPUs, {sample.n_ranks} replicas"
    return 1, pipeline, "assumed: the server does not say, and its GPUs cannot be seen"


def _precision(given: str | None, identity: Identity) -> tuple[str, str]:
    if given:
        return given, GIVEN
    for said in (identity.quantization, identity.dtype):
        known = _known_precision(said)
        if known is not None:
            return known, SAID
    return UNKNOWN, "the checkpoint's own: the server does not say"


def _known_precision(name: str | None) -> str | None:
    if not name:
        return None
    try:
        return resolve_precision(name).name
    except InputError:
        return None


def _engine(given: Given, identity: Identity, sample: ServerSample) -> tuple[str, str]:
    if given.engine:
        return resolve_engine(given.engine), GIVEN
    name = _PREDICTED_ENGINE.get(sample.engine, UNKNOWN)
    if name != "vllm":
        return name, SAID
    if identity.version:
        try:
            return resolve_engine(f"vllm {identity.version}"), SAID
        except InputError:
            return name, f"its version is unreadable: {printable(identity.version)}"
    kv_use = sample.gauges.get(q.KV_USE)
    is_new = kv_use is not None and kv_use.series.endswith("kv_cache_usage_perc")
    return ("vllm-0.11" if is_new else name), "guessed from its series: it does not give its version"
