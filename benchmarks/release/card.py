"""The numbers of a model card, written from a checkpoint's metadata between two marks.

Invariant: what stands between the marks is what the checkpoint holds; text around them is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.accuracy.markdown import markdown_table
from llmco2.errors import InputError, explain

CARD_FILE: Final = "MODEL_CARD.md"
BEGIN: Final = "<!-- numbers of the checkpoint, written by python -m benchmarks.release -->"
END: Final = "<!-- end of the numbers -->"
# Column of the hosts' table → (constant of the checkpoint, what its value is multiplied by, its decimals).
_COLUMNS: Final = {
    "step, ms": ("step_s", 1e3, 2),
    "sequence, µs": ("sequence_s", 1e6, 1),
    "launch, µs": ("launch_s", 1e6, 0),
    "step with a prefill, ms": ("prefill_step_s", 1e3, 1),
    "expert layer, µs": ("expert_layer_s", 1e6, 0),
    "block-FP8 expert layer, µs": ("block_expert_layer_s", 1e6, 0),
    "latent layer, µs": ("latent_layer_s", 1e6, 0),
    "prefill ×": ("prefill_factor", 1.0, 2),
    "decode ×": ("kernel_factor", 1.0, 2),
    "cache passes": ("cache_passes", 1.0, 1),
    "busy ×": ("busy_factor", 1.0, 2),
}


def refreshed_card(text: str, metadata: Mapping[str, Any]) -> str:
    """Return a card with the numbers between its marks replaced by those of ``metadata`` (a checkpoint's JSON).

    Raises:
        InputError: the card does not have both marks, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(
            explain("the model card lacks its marks", expected=f"a line {BEGIN!r} and a later line {END!r}")
        )
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{card_numbers(metadata)}\n{END}{after}"


def card_numbers(metadata: Mapping[str, Any]) -> str:
    """Return the host constants, intervals, domain and hashes of a checkpoint as Markdown."""
    return "\n".join(
        (
            "### Host constants\n",
            _hosts(metadata),
            "### 90 % intervals, measured over predicted\n",
            _intervals(metadata["intervals"]),
            "### Domain\n",
            _domain(metadata["domain"]),
            "### Made from\n",
            _provenance(metadata),
        )
    )


def _hosts(metadata: Mapping[str, Any]) -> str:
    sources = metadata["provenance"]["hosts_fitted_to"]
    shown = {
        title: column
        for title, column in _COLUMNS.items()
        if any(column[0] in own for own in metadata["hosts"].values())
    }
    rows = [
        [f"`{engine}`", ", ".join(sources[engine]), *(_constant(own, *column) for column in shown.values())]
        for engine, own in metadata["hosts"].items()
    ]
    return markdown_table(["engine", "fitted to", *shown], rows, n_text=2)


def _constant(own: Mapping[str, float], name: str, unit: float, decimals: int) -> str:
    return f"{own[name] * unit:,.{decimals}f}" if name in own else "–"


def _intervals(intervals: Mapping[str, Any]) -> str:
    named = {
        **{f"`{engine}`": ends for engine, ends in intervals["engines"].items()},
        "others": intervals["pooled"],
    }
    rows = [
        [name, *(_percent(end) for quantity in ("energy", "time") for end in ends[quantity])]
        for name, ends in named.items()
    ]
    table = markdown_table(["engine", "energy, low", "high", "time, low", "high"], rows)
    added = markdown_table(
        ["not measured", "energy", "time"],
        [
            [name, *(f"{own[quantity]:g}" for quantity in ("energy", "time"))]
            for name, own in intervals["extra"].items()
        ],
    )
    return (
        f"{table}\nAdded in squares to the half-width in logs where the part was not measured:\n\n{added}\n"
        f"The ends of each phase by itself lie {intervals['phase_factor']:g} times as far out, in logs.\n"
    )


def _percent(log_ratio: float) -> str:
    return f"{np.expm1(log_ratio) * 100.0:+.0f} %"


def _domain(domain: Mapping[str, Any]) -> str:
    ranges = "".join(
        f"- {name}: {low:,.0f} to {high:,.0f}\n" for name, (low, high) in domain["ranges"].items()
    )
    return f"- boards whose power or energy was measured: {', '.join(domain['gpus'])}\n{ranges}"


def _provenance(metadata: Mapping[str, Any]) -> str:
    own = metadata["provenance"]
    hashes = "".join(f"- SHA-256 of {name}: `{digest}`\n" for name, digest in own["sha256"].items())
    recipe = ", then ".join(f"`{command}`" for command in own["recipe"])
    return f"- recipe: {recipe}\n- kernels: {own['kernels']}\n- SHA-256 of the arrays: `{metadata['sha256']}`\n{hashes}"
