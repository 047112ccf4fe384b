"""The model card, written from a checkpoint's own metadata: ``python -m benchmarks.release.card CHECKPOINT.json``.

Invariant: the card holds no figure that is not in the checkpoint's JSON.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

_INTRODUCTION = """# Model card: {name}

Coefficients of llmco2's physical readout: what engine, precision and hardware make of each kernel of prefill and
decode. A formula with fitted, shrunken constants answers everywhere; small levels of engine and board, family, model
and deployment are part of it where those were measured. A graph network over the kernels corrects it where the engine
was measured on the board, and is switched off elsewhere, where it did not earn its place. Energies are gross joules of
the GPUs alone, for the whole batch.

Written by {written_by} with `{command}`; seed {seed}, {formula_steps} steps for the formula, {graph_steps} for the
graph network, {wall_seconds} s on {jobs} cores in all, held-out fits included. The numbers are {kilobytes} kB.

## Data

{rows} runs ({rows_with_energy} with an energy), table SHA-256 `{data_sha256}`. The measurement files are public and are
not shipped; `benchmarks.public_runs` reads them where you have them.

| source | runs |
|---|---|
"""

_NOT_GOOD_AT = """
## What it is not good at

- **The phases apart.** No public source has measured prefill and decode energy apart on several datacentre GPUs. The
  split comes from the physics, from latencies per phase and from prefill-only runs; the phases' intervals are the
  total's, widened by an assumed factor of {phase_factor}.
- **Boards without runs.** Time transfers better than energy, because a board's power level is what is unknown.
  See the boards above for how far off that has been; a few runs of your own help most (`llmco2 calibrate`).
- **Host-bound serving.** The same engine on the same GPU was measured with step times several milliseconds apart. What
  decides it (CPU, CUDA graphs, attention backend) is not in a request.
- **What one family alone has**: mxfp4 weights, latent attention, recurrent layers, chunked attention.
- **Prompts of two serving sources are unknown** and were assumed by task; prefill is a small part of those runs.
- **Quantised weights outside vLLM**, whose kernels differ most in quality.

## What was looked at

These held-out groups are not a clean test set: choices were made while looking at their errors, so expect worse on
data never seen. The readout's terms were chosen so (heads expanded in memory, copied traffic charged in full, recurrent
state apart from activations, two ranges of coefficients), as were the prior on source offsets and the formula's
learning rate. The graph network's limit, decay and rate were picked among about eight settings by their errors on two
test splits of known requests and deployments. Reference powers by memory technology and process in place of shares of
TDP, the tight prior on the cache's inefficiency, the levels of groups and their width (two were tried), and 600 steps
in place of 250 were chosen in about twelve rounds over these very groups; the references themselves come from
technology, not from a fit. Reading these groups' errors then led to four mechanisms that counting had left out:
sampling from the whole vocabulary, FP8 with a scale per block, experts' results that are reduced like any others, and
launches from Python as what an eager framework's host does; and to a tight prior on sources' own offsets and a gate
that opens wherever the engine was measured on the board (each tried once). Tried and not kept: looser priors on engine
traits, tight priors on every constant, more hidden names (twice), an exact optimiser, output lengths that spread under
continuous serving, board traits from TDP per bandwidth, rate and SM, static power by technology (twice), traffic that
stalls without moving bytes, and a graph network fitted jointly and ungated. A last round read throughputs that stand
still while batches grow: a scheduler's time per sequence (tried once before with a start too small to be reached), the
shapes of runs of many batches, autocast as an engine of its own, the passes of an eager framework over its cache and
activations, and errors that count hardly more than linearly (three bends were tried). One seed throughout.
"""


def model_card(metadata: dict[str, Any], n_bytes: int) -> str:
    """Return the card of a released checkpoint; ``n_bytes`` is the size of its arrays."""
    recipe, data, metrics, intervals = (metadata[key] for key in ("recipe", "data", "metrics", "intervals"))
    head = _INTRODUCTION.format(
        name=metadata["name"],
        written_by=metadata["written_by"],
        rows=f"{data['rows']:,}",
        rows_with_energy=f"{data['rows_with_energy']:,}",
        data_sha256=data["sha256"][:16],
        wall_seconds=f"{metrics['wall_seconds']:,}",
        jobs=metrics["jobs"],
        kilobytes=round(n_bytes / 1000),
        **recipe,
    )
    sources = [f"| {name} | {count:,} |\n" for name, count in data["sources"].items()]
    rest = _NOT_GOOD_AT.format(phase_factor=intervals["phase_factor"])
    return head + "".join(sources) + _accuracy(metrics) + _intervals(intervals) + rest


def _accuracy(metrics: dict[str, Any]) -> str:
    lines = [
        "\n## Accuracy where nothing was fitted\n\n",
        "Each row is a fit of its own without the group. Energy errors, percent. Where the graph network is\n",
        "gated off, what ships is the formula.\n\n",
        "| left out | rows | MAPE | median | within 10 % | bias | formula MAPE |\n|---|---|---|---|---|---|---|\n",
    ]
    order = sorted(metrics["held_out"].items(), key=lambda item: item[0].startswith("new "))
    lines += [_row(name, figures) for name, figures in order]
    fitted = metrics["fitted_rows"]
    lines.append(
        f"\nOn the rows it was fitted to: MAPE {fitted['mape_percent']}, median {fitted['median_percent']}.\n"
    )
    return "".join(lines)


def _row(name: str, figures: dict[str, Any]) -> str:
    return (
        f"| {name} | {figures['rows']} | {figures['mape_percent']:.1f} | {figures['median_percent']:.1f} "
        f"| {figures['eba10_percent']:.0f} % | {figures['bias_percent']:+.0f} % "
        f"| {figures['formula']['mape_percent']:.1f} |\n"
    )


def _intervals(intervals: dict[str, Any]) -> str:
    lines = [
        "\n## Intervals\n\n",
        f"{intervals['coverage']:.0%} intervals of the total energy, from the held-out errors of each case.\n\n",
        "| what is new | low | high | from |\n|---|---|---|---|\n",
    ]
    for case, ends in intervals["cases"].items():
        low, high = (100.0 * (math.exp(ends[key]) - 1.0) for key in ("low", "high"))
        lines.append(
            f"| {case} | {low:+.0f} % | {high:+.0f} % | {ends['rows']} rows of {ends['folds']} groups |\n"
        )
    lines.append(
        "\nAn engine that is not told, or was never measured, makes the known case "
        f"{intervals['unknown_engine_factor']} times as wide, such a precision "
        f"{intervals['unknown_precision_factor']} times; in the other cases these errors are added in squares.\n"
    )
    return "".join(lines)


def write_card(checkpoint: Path) -> Path:
    """Write ``MODEL_CARD.md`` beside a released checkpoint's ``.json``; returns its path."""
    metadata = json.loads(checkpoint.read_text(encoding="utf-8"))
    path = checkpoint.with_name("MODEL_CARD.md")
    path.write_text(model_card(metadata, checkpoint.with_suffix(".npz").stat().st_size), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write_card(Path(sys.argv[1])))
