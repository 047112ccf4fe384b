"""How well a method ranks deployments by energy per token where several were measured for the same work.

A choice is a board with its parallelism, engine and batch size. Choices are compared within one source, model,
precision and workload (task, or prompt and output tokens), because that is what a user decides between.

Invariant: two choices whose measured energies lie within the error band of each other are no pair: measurement does not
say which is better. They are counted apart and never as right or wrong.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
BAND: Final = 0.10  # of measured energy
_ENERGY: Final = ("energy_j", "energy_per_output_token_j")
_BOARD: Final = ["gpu", "tensor_parallel", "pipeline_parallel", "expert_parallel"]
_CHOICE: Final = [*_BOARD, "engine", "batch_size"]
_DECISION: Final = ["source", "model", "precision", "serving", "workload"]


def decisions(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each method and decision of scored labels.

    Columns: method, the decision; choices; top1 (1 where the method's best is measured best, or within the band of it);
    regret_percent (measured energy of its best over the least); pairs, right_pairs and tied_pairs of all choices;
    board_pairs and right_board_pairs of those that differ in board or parallelism; tau over the pairs that are no tie.
    """
    energy = table[table["label"].isin(_ENERGY)].copy()
    tokens = (energy["batch_size"] * energy["output_tokens"]).where(energy["label"] == "energy_j", 1.0)
    energy["measured"], energy["predicted"] = energy["measured"] / tokens, energy["predicted"] / tokens
    sizes = energy["prompt_tokens"].map(_two_digits) + "+" + energy["output_tokens"].map(_two_digits)
    energy["workload"] = energy["task"].where(energy["task"] != "", sizes)
    keys = ["method", *_DECISION]
    choices = energy.groupby([*keys, *_CHOICE], sort=True)[["measured", "predicted"]].median().reset_index()
    rows = []
    for key, group in choices.groupby(keys, sort=True):
        if len(group) > 1:
            rows.append(dict(zip(keys, key, strict=True)) | ranked(group))
    return pd.DataFrame(rows)


def ranked(group: pd.DataFrame, band: float = BAND) -> dict[str, float]:
    """Return the figures of one decision: ``measured`` and ``predicted`` energies of its choices."""
    measured, predicted = (group[name].to_numpy(dtype=np.float64) for name in ("measured", "predicted"))
    board = group.groupby(_BOARD, sort=False).ngroup().to_numpy()
    one, other = np.triu_indices(len(group), k=1)
    step = np.log(measured[one] / measured[other])
    tied = np.abs(step) <= np.log1p(band)
    right = (np.sign(step) == np.sign(predicted[one] - predicted[other])) & ~tied
    across = (board[one] != board[other]) & ~tied
    chosen, least = measured[np.argmin(predicted)], measured.min()
    decided = int((~tied).sum())
    return {
        "choices": len(group),
        "top1": float(chosen <= least * (1.0 + band)),
        "regret_percent": 100.0 * float(chosen / least - 1.0),
        "pairs": decided,
        "right_pairs": int(right.sum()),
        "tied_pairs": int(tied.sum()),
        "board_pairs": int(across.sum()),
        "right_board_pairs": int((right & across).sum()),
        "tau": 2.0 * float(right.sum()) / decided - 1.0 if decided else float("nan"),
    }


def ranking_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of each method and source over its decisions, and over all sources together."""
    rows = []
    parts = [*table.groupby(["method", "source"], sort=True)]
    parts += [((method, "all"), part) for method, part in table.groupby("method", sort=True)]
    for (method, source), part in parts:
        total = part[["pairs", "right_pairs", "tied_pairs", "board_pairs", "right_board_pairs"]].sum()
        rows.append(
            {
                "method": method,
                "source": source,
                "decisions": len(part),
                "top1_percent": 100.0 * part["top1"].mean(),
                "mean_regret_percent": part["regret_percent"].mean(),
                "kendall_tau": part["tau"].mean(),
                "pairs": int(total["pairs"]),
                "right_pairs_percent": _share(total["right_pairs"], total["pairs"]),
                "tied_pairs": int(total["tied_pairs"]),
                "board_pairs": int(total["board_pairs"]),
                "right_board_pairs_percent": _share(total["right_board_pairs"], total["board_pairs"]),
            }
        )
    return pd.DataFrame(rows)


def _share(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else float("nan")


def _two_digits(tokens: float) -> str:
    """Return a size to two digits, so that mean lengths of the same random draw are one workload."""
    return f"{float(f'{tokens:.2g}'):g}"
