"""One kernel to measure: its kind, its shape, and how it is launched.

Invariant: a shape is validated when it is made and carries exactly the fields of its kind; equal shapes on
one kind of GPU have one ``run_id`` on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from llmco2.errors import InputError, explain, nearest_names
from llmco2.records.run import RUN_SCHEMA_VERSION

GEMM: Final = "gemm"
PREFILL_ATTENTION: Final = "prefill_attention"
DECODE_ATTENTION: Final = "decode_attention"
MOE: Final = "moe"
RMS_NORM: Final = "rms_norm"
LAYER_NORM: Final = "layer_norm"
GATED_ACTIVATION: Final = "gated_activation"
EMBEDDING: Final = "embedding"
COPY: Final = "copy"

_ATTENTION: Final = ("batch_size", "context_tokens", "n_heads", "n_kv_heads", "head_dim")
_ROWS: Final = ("m", "n")
FIELDS_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    GEMM: ("m", "n", "k"),
    PREFILL_ATTENTION: _ATTENTION,
    DECODE_ATTENTION: _ATTENTION,
    MOE: ("m", "n", "k", "n_experts", "experts_per_token"),
    RMS_NORM: _ROWS,
    LAYER_NORM: _ROWS,
    GATED_ACTIVATION: _ROWS,
    EMBEDDING: ("m", "n", "k"),
    COPY: _ROWS,
}
_SHORT: Final = {
    "batch_size": "b",
    "context_tokens": "c",
    "n_heads": "h",
    "n_kv_heads": "kv",
    "head_dim": "d",
    "n_experts": "e",
    "experts_per_token": "top",
}
ELEMENT_BYTES: Final[Mapping[str, int]] = {"bf16": 2, "fp16": 2, "fp32": 4}
MAX_SIZE: Final = 2**31 - 1  # of one dimension: what kernels index with


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelShape:
    """What to launch. Dimensions are whole numbers; those of other kinds are ``None``.

    - ``gemm``: (m × k) by (k × n), the weights stored n × k as linear layers have them.
    - ``prefill_attention``: causal, ``batch_size`` sequences of ``context_tokens`` new tokens.
    - ``decode_attention``: one new token a sequence against ``context_tokens`` keys, its own included.
    - ``moe``: m tokens through gated experts of width k → n → k, spread as evenly as can be.
    - ``rms_norm``, ``layer_norm``, ``gated_activation`` (silu(gate) · up), ``copy``: m rows of n elements.
    - ``embedding``: m rows of n elements looked up in a table of k rows.
    """

    kind: str
    precision: str = "bf16"
    m: int | None = None
    n: int | None = None
    k: int | None = None
    batch_size: int | None = None
    context_tokens: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    n_experts: int | None = None
    experts_per_token: int | None = None
    cold_cache: bool = True  # rotate operands through more memory than the last cache holds
    seed: int = 0  # of the operands

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, tuple(FIELDS_OF_KIND))
        _one_of("precision", self.precision, tuple(ELEMENT_BYTES))
        if not isinstance(self.cold_cache, bool):
            raise InputError(explain("cold_cache has the wrong type", got=repr(self.cold_cache)))
        _whole("seed", self.seed, low=0)
        own = FIELDS_OF_KIND[self.kind]
        for name in SIZES:
            value = getattr(self, name)
            if name in own and value is None:
                raise InputError(explain(f"{self.kind}: {name} is missing", expected=", ".join(own)))
            if name not in own and value is not None:
                raise InputError(
                    explain(f"{self.kind}: {name} means nothing", got=value, expected=", ".join(own))
                )
            if value is not None:
                _whole(name, value, low=1)
        self._check_heads()
        self._check_experts()

    def size(self, name: str) -> int:
        """Return a dimension that this kind has."""
        value = getattr(self, name)
        if value is None:
            raise InputError(explain(f"{self.kind} has no {name}"))
        return int(value)

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of operands and result."""
        return ELEMENT_BYTES[self.precision]

    @property
    def experts_in_use(self) -> int:
        """Experts that see a token when m tokens are spread evenly."""
        return min(self.size("n_experts"), self.size("m") * self.size("experts_per_token"))

    @property
    def rows_per_expert(self) -> int:
        """Tokens that each expert in use sees."""
        return self.size("m") * self.size("experts_per_token") // self.experts_in_use

    @property
    def tensor_parallel(self) -> int:
        """GPUs: a kernel runs on one."""
        return 1

    @property
    def label(self) -> str:
        """A short name for a progress line."""
        sizes = " ".join(f"{_SHORT.get(n, n)}{getattr(self, n)}" for n in FIELDS_OF_KIND[self.kind])
        return f"{self.kind} {self.precision} {sizes}" + ("" if self.cold_cache else " warm")

    def run_id(self, *, gpu: str, simulated: bool) -> str:
        """Return the identity of this shape on that kind of GPU, 16 hexadecimal digits."""
        content = {
            "schema_version": RUN_SCHEMA_VERSION,
            "gpu": gpu,
            "simulated": simulated,
            "kernel": asdict(self),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _check_heads(self) -> None:
        if self.n_heads is not None and self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise InputError(
                explain("n_heads is no multiple of n_kv_heads", got=f"{self.n_heads} and {self.n_kv_heads}")
            )

    def _check_experts(self) -> None:
        if self.kind != MOE:
            return
        if self.size("experts_per_token") > self.size("n_experts"):
            got = f"{self.experts_per_token} of {self.n_experts}"
            raise InputError(explain("experts_per_token exceeds n_experts", got=got))
        rows = self.size("m") * self.size("experts_per_token")
        if rows % self.experts_in_use:
            raise InputError(
                explain(
                    "tokens cannot be spread evenly over the experts",
                    got=f"{rows} rows over {self.experts_in_use} experts",
                    remedy="choose m so that m × experts_per_token is a multiple of n_experts, or less",
                )
            )


SIZES: Final = (
    "m",
    "n",
    "k",
    "batch_size",
    "context_tokens",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "n_experts",
    "experts_per_token",
)
SHAPE_KEYS: Final = tuple(field.name for field in fields(KernelShape))


def shape_from(values: Mapping[str, Any], where: str = "kernel") -> KernelShape:
    """Return the shape that ``values`` describes.

    Raises:
        InputError: an unknown key (with the nearest known one), a field missing, too many or out of range;
            the message begins with ``where``.
    """
    for key in values:
        if key not in SHAPE_KEYS:
            near = ", ".join(nearest_names(str(key), SHAPE_KEYS))
            remedy = f"did you mean {near}?" if near else f"known: {', '.join(SHAPE_KEYS)}"
            raise InputError(explain(f"{where}: unknown key", got=repr(key), remedy=remedy))
    if "kind" not in values:
        raise InputError(explain(f"{where}: kind is missing", expected=", ".join(FIELDS_OF_KIND)))
    try:
        return KernelShape(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _whole(name: str, value: object, *, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_SIZE:
        expected = f"a whole number from {low} to {MAX_SIZE:,}"
        raise InputError(explain(f"{name} is out of range", got=repr(value), expected=expected))


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        near = nearest_names(str(value), known)
        remedy = f"did you mean {near[0]}?" if near else ""
        raise InputError(
            explain(f"unknown {name}", got=repr(value), expected=", ".join(known), remedy=remedy)
        )
