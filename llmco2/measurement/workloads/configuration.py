"""One configuration to measure: a model, a workload, and how it is run.

Invariant: a configuration is validated when it is made, and equal configurations on one kind of GPU have one
``run_id`` on every machine and in every release that keeps the schema version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final
from urllib.parse import urlsplit

from llmco2.bounded import shown
from llmco2.errors import InputError, RequestError, explain, nearest_names
from llmco2.records.engines import resolve_engine
from llmco2.records.request import (
    MAX_BATCH_SIZE,
    MAX_PARALLEL,
    MAX_TOKENS,
    UNKNOWN,
    InferenceRequest,
)
from llmco2.records.run import RUN_SCHEMA_VERSION

TRANSFORMERS: Final = "transformers"
SERVER: Final = "server"
WORKLOADS: Final = (TRANSFORMERS, SERVER)
PRECISIONS: Final = ("bf16", "fp16", "fp32", "int8", "nf4")  # what the in-process workload can load
ATTENTION: Final = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_LIMITS: Final = {
    "batch_size": MAX_BATCH_SIZE,
    "prompt_tokens": MAX_TOKENS,
    "output_tokens": MAX_TOKENS,
    "tensor_parallel": MAX_PARALLEL,
}
_MAX_SEED: Final = 2**32 - 1  # that every random generator takes
WEIGHTS: Final = ("random", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfiguration:
    """What to measure. Every field but ``model`` has a default; tokens and batch sizes are whole numbers."""

    model: str  # catalog name, written to the row
    workload: str = TRANSFORMERS
    tensor_parallel: int = 1
    precision: str = "bf16"  # of a server: what it was started with
    kv_precision: str = UNKNOWN
    batch_size: int = 1  # sequences per forward pass; of a server: concurrent requests
    prompt_tokens: int = 128
    output_tokens: int = 32

    # in process
    model_path: str | None = (
        None  # folder or config.json; none: the name is looked up in the local model cache, then the catalog
    )
    weights: str = "random"
    attention: str = "sdpa"
    static_cache: bool = False
    compiled: bool = False  # torch.compile around the decode step; needs the static cache
    seed: int = 0  # of random weights and prompts

    # server
    server_url: str | None = None
    served_model: str | None = None  # the name the server knows; none: the first it lists
    engine: str = UNKNOWN

    def __post_init__(self) -> None:
        _check_types(self)
        _one_of("workload", self.workload, WORKLOADS)
        _one_of("weights", self.weights, WEIGHTS)
        if not self.model.strip():
            raise InputError(explain("model is empty", expected="a model name"))
        for name, limit in _LIMITS.items():
            self._check_count(name, limit)
        if not 0 <= self.seed <= _MAX_SEED:
            raise InputError(
                explain("seed is out of range", got=shown(self.seed), expected=f"0 to {_MAX_SEED}")
            )
        object.__setattr__(self, "engine", resolve_engine(self.engine))
        if self.workload == SERVER:
            self._check_server()
        else:
            self._check_in_process()

    def run_id(self, *, gpu: str, simulated: bool) -> str:
        """Return the identity of this configuration on that kind of GPU, 16 hexadecimal digits."""
        content = {
            "schema_version": RUN_SCHEMA_VERSION,
            "gpu": gpu,
            "simulated": simulated,
            "configuration": {key: value for key, value in asdict(self).items() if key != "server_url"},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A short name for a progress line."""
        name = self.model.rsplit("/", 1)[-1]
        return f"{name} {self.precision} b{self.batch_size} {self.prompt_tokens}+{self.output_tokens}"

    def request(self, gpu: str) -> InferenceRequest:
        """Return the request that this configuration answers."""
        return InferenceRequest(
            model=self.model,
            gpu=gpu,
            tensor_parallel=self.tensor_parallel,
            engine=self.engine_name,
            precision=self.precision,
            kv_precision=self.kv_precision,
            batch_size=self.batch_size,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
        )

    @property
    def engine_name(self) -> str:
        """The canonical engine: of an in-process run it follows from how the model is run."""
        if self.workload == SERVER or self.engine != UNKNOWN:
            return self.engine
        if self.precision in ("int8", "nf4"):
            return "hf-bitsandbytes"
        return "hf-compile" if self.compiled else "hf-eager"

    def _check_count(self, name: str, limit: int) -> None:
        value = getattr(self, name)
        if not 1 <= value <= limit:
            expected = f"a whole number from 1 to {limit:,}"
            raise InputError(explain(f"{name} is out of range", got=shown(value), expected=expected))

    def _check_server(self) -> None:
        url = self.server_url
        if not _is_address(url):
            expected = "http://HOST:PORT or https://…"
            raise InputError(explain("server_url is not an address", got=shown(url), expected=expected))

    def _check_in_process(self) -> None:
        if self.precision == "int4":  # the 4-bit format that transformers loads through bitsandbytes
            object.__setattr__(self, "precision", "nf4")
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("attention", self.attention, ATTENTION)
        if self.server_url is not None:
            raise InputError(
                explain("server_url is set", got=f"workload {self.workload}", remedy="write workload: server")
            )
        if self.compiled and not self.static_cache:
            raise InputError(
                explain(
                    "compiled needs a static cache", got="static_cache: false", remedy="static_cache: true"
                )
            )


CONFIGURATION_KEYS: Final = tuple(field.name for field in fields(RunConfiguration))
_KINDS: Final[dict[str, tuple[type, str]]] = {
    "str": (str, "text"),
    "str | None": (str, "text"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
}


def configuration_from(values: Mapping[str, Any], where: str = "configuration") -> RunConfiguration:
    """Return the configuration that ``values`` describes.

    Raises:
        InputError: an unknown key (with the nearest known one), a missing model, or a value out of range;
            the message begins with ``where``.
    """
    for key in values:
        if key not in CONFIGURATION_KEYS:
            near = ", ".join(nearest_names(str(key), CONFIGURATION_KEYS))
            remedy = f"did you mean {near}?" if near else f"known: {', '.join(CONFIGURATION_KEYS)}"
            raise InputError(explain(f"{where}: unknown key", got=shown(key), remedy=remedy))
    if "model" not in values:
        raise InputError(explain(f"{where}: model is missing", expected="a model name"))
    try:
        return RunConfiguration(**values)
    except (InputError, RequestError) as error:
        raise InputError(f"{where}: {error}") from error


def _is_address(url: str | None) -> bool:
    """Return whether ``url`` names a host to talk to, and a port that there can be."""
    try:
        parts = urlsplit(url or "")
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _check_types(configuration: RunConfiguration) -> None:
    for field in fields(RunConfiguration):
        kind, words = _KINDS[str(field.type)]
        value = getattr(configuration, field.name)
        if value is None and "None" in str(field.type):
            continue
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(explain(f"{field.name} has the wrong type", got=shown(value), expected=words))


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(explain(f"unknown {name}", got=shown(value), expected=", ".join(known)))
