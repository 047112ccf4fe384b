"""From a source's own rows to ``MeasuredRun`` rows: precision names, trust, repeats, identities.

Invariant: repeats of one configuration become one row with the median of each label, the spread of each
energy and the number of repeats. Rows that differ in anything but labels stay apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import pandas as pd

from llmco2.data.schema import canonical_frame
from llmco2.errors import FileFormatError, explain
from llmco2.records.run import RUN_COLUMNS, MeasuredRun

# Rows with one of these are real but answer another question; they are left out unless asked for.
VISION_LANGUAGE: Final = "vision_language"  # image or video tokens in the prompt
EDGE_BOARD: Final = "edge_board"  # whole-board power of an embedded module
EMULATED_PRECISION: Final = "emulated_precision"  # a precision the chip has no units for
IMPOSSIBLE_TIME: Final = "impossible_time"  # less than the weights alone take to be read
EXCLUDED_BY_DEFAULT: Final = (VISION_LANGUAGE, EDGE_BOARD, EMULATED_PRECISION, IMPOSSIBLE_TIME)

LABELS: Final = (
    "prefill_energy_j",
    "decode_energy_j",
    "energy_j",
    "energy_per_output_token_j",
    "ttft_s",
    "tpot_s",
    "latency_s",
    "average_power_w",
    "host_energy_j",
    "dram_energy_j",
)
_SPREADS: Final = {
    "prefill_energy_j": "prefill_energy_std_j",
    "decode_energy_j": "decode_energy_std_j",
    "energy_j": "energy_std_j",
}
_NOT_IDENTITY: Final = frozenset((*LABELS, *_SPREADS.values(), "run_id", "repeats", "window_s"))
_IDENTITY: Final = tuple(name for name in RUN_COLUMNS if name not in _NOT_IDENTITY)

_PRECISIONS: Final[Mapping[str, str]] = {
    "fp16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "fp16/bf16": "fp16",
    "f16": "fp16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp32": "fp32",
    "float32": "fp32",
    "fp8": "fp8",
    "fp8_block": "fp8-block",
    "nvfp4": "fp4",
    "int8": "int8",
    "float16+int8": "int8",
    "8": "int8",
    "q8_0": "int8",
    "int4": "int4",
    "float16+nf4": "int4",
    "nf4": "int4",
    "nf4_double": "int4",
    "fp4": "int4",  # bitsandbytes' fp4 is 4-bit storage, computed in 16 bit
    "gptq": "int4",
    "awq": "int4",
    "4": "int4",
    "int4_wo": "int4",
    "mxfp4": "mxfp4",
    "w4a16_mxfp4": "mxfp4",
}


def precision_of(dtype: str) -> str:
    """Return the catalog's name of a source's dtype.

    Raises:
        FileFormatError: the source has a dtype this importer has never met.
    """
    key = str(dtype).strip().casefold()
    if key not in _PRECISIONS:
        raise FileFormatError(
            explain("unknown dtype in a public source", got=repr(dtype), expected=", ".join(_PRECISIONS))
        )
    return _PRECISIONS[key]


def weight_of_trust(trust: int) -> float:
    """Return the training weight of a source trusted 1 (least) to 5 (best): 0.2 to 1.0."""
    return trust / 5.0


def need_columns(raw: pd.DataFrame, names: Iterable[str], source: str) -> None:
    """Raise where a raw table lacks columns.

    Raises:
        FileFormatError: naming the first missing ones.
    """
    missing = [name for name in names if name not in raw.columns]
    if missing:
        raise FileFormatError(
            explain(f"not the table of the source {source!r}", got=f"no column {', '.join(missing[:5])}")
        )


def describe(raw: pd.DataFrame, columns: Mapping[str, str]) -> pd.Series:
    """Return one ``label=value; label=value`` text per row from raw columns, leaving out what is absent."""
    texts = pd.Series("", index=raw.index, dtype=object)
    for label, name in columns.items():
        value = raw[name]
        part = (label + "=" + value.astype(str)).where(value.notna(), "")
        texts = texts.where(part == "", texts.where(texts == "", texts + "; ") + part)
    return texts


def add_flag(flags: pd.Series, where: pd.Series | np.ndarray, flag: str) -> pd.Series:
    """Return ``flags`` with ``flag`` appended in the rows ``where``."""
    appended = flags.where(flags == "", flags + ";") + flag
    return appended.where(pd.Series(where, index=flags.index), flags)


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """Return canonical rows: repeats aggregated to medians, identities made, sorted by ``run_id``."""
    frame = canonical_frame(rows.assign(run_id="pending"), MeasuredRun)
    keys = pd.DataFrame(
        {name: frame[name].astype(object).where(frame[name].notna(), None) for name in _IDENTITY}
    )
    identity = (
        keys.apply(lambda row: _identity(row.tolist()), axis=1) if len(keys) else pd.Series(dtype=object)
    )
    grouped = frame.groupby(identity.to_numpy(), sort=True)
    merged = grouped.first()  # identity columns are constant within a group
    counts = grouped.size()
    for label in LABELS:
        merged[label] = grouped[label].median()
    for label, spread in _SPREADS.items():
        merged[spread] = grouped[label].std(ddof=1).where(counts > 1, grouped[spread].median())
    merged["repeats"] = grouped["repeats"].sum()
    merged["window_s"] = grouped["window_s"].sum(min_count=1)
    merged["run_id"] = merged["source"].astype(str) + "/" + merged.index.astype(str)
    return canonical_frame(merged.sort_values("run_id").reset_index(drop=True), MeasuredRun)


def _identity(values: list[object]) -> str:
    """Return 16 hex digits that stay the same as long as the configuration does."""
    text = "|".join(
        "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
        for value in values
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
