"""The kernel model without a host: measured kernels composed over the layers of each step, nothing fitted to a run.

Source: the composition of measured kernels over the layer graph, as NVIDIA's AIConfigurator does it
(https://github.com/ai-dynamo/aiconfigurator, Apache-2.0)::

    time = Σ over the kernels of each step of their learnt latency

It is the product answering with a checkpoint whose host constants and board factors are taken out, so the difference to
the product is what the host brings.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from llmco2.resources import checkpoint_dir

_FITTED_TO_RUNS: Final = ("hosts", "boards")


def checkpoint_without_hosts(checkpoint: str | None, folder: Path) -> Path | None:
    """Write a checkpoint without what was fitted to runs into ``folder`` and return it; None where it has no hosts.

    Args:
        checkpoint: the ``.json`` of a checkpoint; None is the one that ships.
        folder: where the copy goes.
    """
    source = checkpoint_dir() / "default.json" if checkpoint is None else Path(checkpoint)
    metadata = json.loads(source.read_text(encoding="utf-8"))
    if not metadata.get("hosts"):
        return None
    copy = folder / "kernels_alone.json"
    shutil.copyfile(source.with_suffix(".npz"), copy.with_suffix(".npz"))
    copy.write_text(json.dumps(metadata | {name: {} for name in _FITTED_TO_RUNS}), encoding="utf-8")
    return copy
