"""Seconds from the options of ``llmco2.choose`` to a choice among 10,000 candidates, with a rate and without.

Starting Python and importing are not in the time; reading the checkpoint is not either, after a first small choice.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import llmco2

GPUS = ("A100-SXM4-80GB", "H100", "H200", "B200", "L40S")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=50.0)
    args = parser.parse_args()
    deployments = len(GPUS) * 4 * 2 * 2
    batches = np.unique(np.geomspace(1, 1024, args.candidates // deployments))
    asked: dict[str, Any] = {
        "model": "meta-llama/Llama-3.3-70B-Instruct",
        "gpu": GPUS,
        "precision": ("bf16", "fp8"),
        "engine": ("vllm", "sglang"),
        "max_tpot_s": 0.05,
    }
    llmco2.choose(**asked, batch_size=1)
    for rate in (None, args.rate):
        start, cpu = time.perf_counter(), time.process_time()
        choice = llmco2.choose(**asked, batch_size=batches, requests_per_s=rate)
        spent, busy = time.perf_counter() - start, time.process_time() - cpu
        title = "without a rate" if rate is None else f"at {rate:g} requests/s"
        print(
            f"{title}: {deployments * len(batches):,} candidates, {len(choice.frame):,} options, "
            f"{spent:.1f} s by the clock, {busy:.1f} s of CPU"
        )


if __name__ == "__main__":
    main()
