"""Made-up kernels that say so, for trying out training where no measurement is at hand.

The rule, on purpose simple: a kernel takes its roofline time over a fixed efficiency of its kind plus a launch, with
3 % of log-normal noise.

Invariant: every row has ``simulated = True``, and nothing here is evidence of anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from llmco2.data.kernel_rows import kernel_inputs
from llmco2.kernel_model.features import LIBRARIES, SIZES, STACKS
from llmco2.kernel_model.formats import FORMAT_INDEX

GPUS: Final = ("A100-SXM4-80GB", "L40S", "H100-SXM5-80GB", "B200-SXM-180GB")
LAUNCH_S: Final = 3e-6
NOISE: Final = 0.03
# share of the roofline's rate that kernels of a kind reach
EFFICIENCY: Final[Mapping[str, float]] = {
    "gemm": 0.75,
    "decode_attention": 0.7,
    "prefill_attention": 0.5,
    "mla_decode": 0.6,
    "mla_prefill": 0.45,
    "mla_absorb": 0.65,
    "experts": 0.55,
    "collective": 0.6,
    "delta_net": 0.4,
}
_TOKENS: Final = tuple(2.0**i for i in range(15))
_BATCHES: Final = tuple(2.0**i for i in range(9))
_WIDTHS: Final = (1024.0, 2048.0, 3072.0, 4096.0, 5120.0, 6144.0, 7168.0, 8192.0, 12288.0, 16384.0)
_FORMATS: Final = tuple(float(FORMAT_INDEX[name]) for name in ("16bit", "fp8"))
# The values that a size of a kind is drawn from.
_CHOICES: Final[Mapping[str, tuple[float, ...]]] = {
    "m": _TOKENS,
    "n": _WIDTHS,
    "k": _WIDTHS,
    "format": _FORMATS,
    "batch_size": _BATCHES,
    "n_heads": (16.0, 32.0, 64.0, 128.0),
    "n_kv_heads": (1.0, 2.0, 4.0, 8.0),
    "head_dim": (64.0, 128.0),
    "context_tokens": tuple(2.0**i for i in range(5, 17)),
    "tokens": tuple(2.0**i for i in range(4, 14)),
    "window": (0.0, 0.0, 1024.0),
    "kv_bytes": (1.0, 2.0),
    "narrow": (0.0, 1.0),
    "before": (0.0, 1.0),
    "hidden_dim": (2048.0, 4096.0, 7168.0),
    "ffn_dim": (768.0, 1536.0, 2048.0),
    "top_k": (4.0, 8.0),
    "n_experts": (64.0, 128.0, 256.0),
    "tp": (1.0, 2.0),
    "ep": (1.0, 2.0, 4.0),
    "skew": (0.0, 1.2),
    "matrices": (3.0,),
    "n_gpus": (2.0, 4.0, 8.0),
    "message_bytes": tuple(2.0**i for i in range(10, 29)),
    "operation": (0.0, 1.0, 2.0),
    "n_key_heads": (16.0,),
    "n_value_heads": (16.0, 32.0, 64.0),
    "convolution": (0.0, 1.0),
    "decode": (0.0, 1.0),
}


def simulate_kernels(kind: str, n_rows: int = 400, *, seed: int = 0) -> pd.DataFrame:
    """Return ``n_rows`` simulated kernels of a kind with the columns of a measured table; fixed by the seed."""
    random = np.random.default_rng([seed, list(SIZES).index(kind)])
    frame = pd.DataFrame({name: random.choice(_CHOICES[name], n_rows) for name in SIZES[kind]})
    frame["stack"] = random.integers(0, len(STACKS), n_rows)
    frame["library"] = random.integers(0, len(LIBRARIES), n_rows)
    frame["gpu"] = random.choice(GPUS, n_rows)
    if kind == "delta_net":
        frame["tokens"] = np.where(frame["decode"] > 0.0, 1.0, frame["tokens"])
    roofline_s = kernel_inputs(kind, frame).roofline_s
    noise = np.exp(random.normal(0.0, NOISE, n_rows))
    frame["latency_s"] = [float(f"{x:.4g}") for x in (roofline_s / EFFICIENCY[kind] + LAUNCH_S) * noise]
    return frame.assign(version="simulated", simulated=True)


def write_simulated_kernels(folder: Path, n_rows: int = 400) -> Path:
    """Write a table of every kind into ``folder``, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in SIZES:
        simulate_kernels(kind, n_rows).to_parquet(folder / f"{kind}.parquet", index=False, compression="zstd")
    return folder
