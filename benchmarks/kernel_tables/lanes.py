"""Which library each stack runs, read off the tables: what a checkpoint carries as its lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from llmco2.catalog.gpus import resolve_gpu
from llmco2.kernel_model.device import family_of
from llmco2.kernel_model.features import LIBRARIES, STACKS
from llmco2.kernel_model.formats import FORMATS

# What of a kind decides its library beside stack and family.
VARIANT: Final = {
    "gemm": "format",
    "decode_attention": "kv_bytes",
    "prefill_attention": "narrow",
    "mla_decode": "kv_bytes",
    "mla_prefill": "kv_bytes",
    "mla_absorb": "narrow",
    "delta_net": "part",
}
# A library that a table measured where the stack's servers run another: vLLM's per-channel FP8 experts on Hopper were
# measured with FlashInfer's CUTLASS kernels, three times slower than the Triton ones that its servers report.
_SERVED_LIBRARY: Final = {("vllm", "sm90", "fp8"): "triton"}
_EXPERT_SHAPE: Final = ("hidden_dim", "ffn_dim", "n_experts", "top_k")


def variant_text(kind: str, value: float) -> str:
    """Return a variant as the lanes spell it: a format's name, or a number."""
    return FORMATS[int(value)].name if kind == "gemm" else f"{value:g}"


def lanes_of(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the lanes of all kinds: the library with most rows of each stack, family and variant."""
    kinds = {}
    for kind, column in VARIANT.items():
        frame = _named(frames[kind])
        if kind == "delta_net":
            frame["part"] = frame["convolution"] + 2.0 * frame["decode"]
        counts = frame.groupby(["stack_name", "family", column, "library_name"]).size()
        best = counts.groupby(level=[0, 1, 2]).idxmax()
        kinds[kind] = [
            [stack, family, variant_text(kind, value), library] for stack, family, value, library in best
        ]
    return {"kinds": kinds, "experts": _experts(_named(frames["experts"]))}


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = frame["gpu"].unique()
    families = {name: family_of(resolve_gpu(name)) for name in names}
    return frame.assign(
        family=frame["gpu"].map(families),
        stack_name=frame["stack"].map(lambda i: STACKS[i] if i >= 0 else ""),
        library_name=frame["library"].map(lambda i: LIBRARIES[i] if i >= 0 else ""),
    )


def _experts(frame: pd.DataFrame) -> list[list[Any]]:
    keys = ["stack_name", "family", "format", *_EXPERT_SHAPE]
    counts = frame.groupby([*keys, "library_name"]).size()
    best = counts.groupby(level=list(range(len(keys)))).idxmax()
    return [
        [
            stack,
            family,
            FORMATS[int(form)].name,
            [float(s) for s in shape],
            _SERVED_LIBRARY.get((stack, family, FORMATS[int(form)].name), library),
        ]
        for stack, family, form, *shape, library in best
    ]
