"""Measured kernels as training rows: features and targets of one kind, drawn by stratum and error.

Invariant: a test group (whole shapes) is chosen by a hash of the shape, never by the order of rows, so it is the same
in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from llmco2.catalog.gpus import resolve_gpu
from llmco2.errors import FileFormatError, InputError, explain, shortened
from llmco2.kernel_model.device import KernelDevice, kernel_device
from llmco2.kernel_model.features import CONTEXT, KINDS, LAUNCH_S, SIZES, KernelInputs

# The sizes that make a shape: rows of one shape are all trained on or all held out.
SHAPE_OF: Final = {
    "gemm": ("n", "k"),
    "decode_attention": ("n_heads", "n_kv_heads", "head_dim", "window"),
    "prefill_attention": ("n_heads", "n_kv_heads", "head_dim", "window"),
    "mla_decode": ("n_heads", "batch_size", "context_tokens"),
    "mla_prefill": ("n_heads", "batch_size", "tokens"),
    "mla_absorb": ("tokens", "n_heads"),
    "experts": ("hidden_dim", "ffn_dim", "top_k", "n_experts"),
    "collective": ("n_gpus", "message_bytes"),
    "delta_net": ("n_key_heads", "n_value_heads", "hidden_dim"),
}
STRATA: Final = (
    "stack",
    "gpu",
    "library",
    "format",
    "kv_bytes",
    "narrow",
    "operation",
    "decode",
    "convolution",
)
_CHUNK: Final = 8192  # drawn rows turned into Python integers at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBatch:
    """Rows of one kind.

    ``features`` is ``(n, n_features)``; ``target`` the log of latency over (roofline + launch), ``(n,)``; ``row`` the
    places in the data set, ``(n,)``.
    """

    features: Tensor
    target: Tensor
    row: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device | str) -> KernelBatch:
        """Return the batch on ``device``; trainers move whatever has this method."""
        return KernelBatch(
            features=self.features.to(device), target=self.target.to(device), row=self.row.to(device)
        )


class KernelRows(Dataset[KernelBatch]):
    """Measured kernels of one kind.

    ``features`` is ``(n_rows, n_features)``; ``bound_s`` roofline and launch in seconds, ``(n_rows,)``; ``target`` the
    log of latency over it, ``(n_rows,)``; ``stratum`` each row's stratum (stack, board, library, format).
    """

    def __init__(self, kind: str, frame: pd.DataFrame) -> None:
        inputs = kernel_inputs(kind, frame)
        self.kind = kind
        self.bound_s: NDArray[np.float64] = inputs.roofline_s + LAUNCH_S
        self.features = torch.from_numpy(inputs.features)
        target = np.log(frame["latency_s"].to_numpy(dtype=np.float64) / self.bound_s)
        self.target = torch.from_numpy(target.astype(np.float32))
        strata = [name for name in STRATA if name in frame]
        self.stratum = frame.groupby(strata, sort=False).ngroup().to_numpy().astype(np.intp)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> KernelBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> KernelBatch:
        """Return several rows at once, which a DataLoader asks for."""
        index = torch.as_tensor(rows)
        return KernelBatch(features=self.features[index], target=self.target[index], row=index)


class FocusedSampler(Sampler[int]):
    """Rows drawn with replacement, every stratum's share growing with the error of its rows.

    The share of a stratum is (number of its rows)^``density`` × (mean error)^``focus``, and never less than
    ``floor`` of an equal share. Errors come from :meth:`update`; before any, all are equal.

    Args:
        stratum: of each row, ``(n_rows,)``; every number from 0 to the largest occurs.
        n_draws: rows an epoch.
        density: 1 draws strata as often as they have rows, 0 alike.
        focus: 0 leaves errors aside.
        floor: least share of a stratum, in equal shares; 0 to 1.
        seed: of the draws.
    """

    def __init__(
        self, stratum: NDArray[np.intp], n_draws: int, *, density: float = 0.5, focus: float = 0.5,
        floor: float = 0.2, seed: int = 0,
    ) -> None:  # fmt: skip
        self.stratum, self.n_draws = stratum, n_draws
        self.density, self.focus, self.floor = density, focus, floor
        self._random = np.random.default_rng(seed)
        self._counts = np.bincount(stratum).astype(np.float64)
        self._order = np.argsort(stratum, kind="stable")
        self._start = np.concatenate([[0.0], np.cumsum(self._counts)[:-1]])
        self._error = np.ones(len(self._counts))

    def __len__(self) -> int:
        return self.n_draws

    def totals(self, row: NDArray[np.intp], error: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the summed errors and the number of rows of each stratum, ``(2, n_strata)``."""
        stratum, n = self.stratum[row], len(self._counts)
        return np.stack([np.bincount(stratum, error, minlength=n), np.bincount(stratum, minlength=n)])

    def update(self, totals: NDArray[np.float64]) -> None:
        """Take each stratum's mean error from :meth:`totals`; one without rows keeps what was known."""
        total, count = totals
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        self._error = np.where(np.isfinite(mean), mean, self._error)

    def shares(self) -> NDArray[np.float64]:
        """Return each stratum's share of the draws, ``(n_strata,)``."""
        relative = self._error / max(self._error.mean(), 1e-12)
        weight = self._counts**self.density * np.maximum(relative, 1e-12) ** self.focus
        weight = weight / weight.sum()
        equal = 1.0 / len(weight)
        shares: NDArray[np.float64] = self.floor * equal + (1.0 - self.floor) * weight
        return shares

    def state_dict(self) -> dict[str, Any]:
        """Return the errors and the state of the random draws, to resume from; numbers only."""
        return {"error": self._error.tolist(), "random": self._random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of :meth:`state_dict`.

        Raises InputError where it belongs to other strata.
        """
        if len(state["error"]) != len(self._error):
            raise InputError(
                explain("cannot resume on other rows", got=f"{len(self._error)} strata",
                        expected=str(len(state["error"])), remedy="resume with the same tables and limits")
            )  # fmt: skip
        self._error = np.array(state["error"])
        self._random.bit_generator.state = state["random"]

    def __iter__(self) -> Iterator[int]:
        drawn = self._random.choice(len(self._counts), self.n_draws, p=self.shares())
        place = self._start[drawn] + np.floor(self._random.random(self.n_draws) * self._counts[drawn])
        rows = self._order[place.astype(np.intp)]
        for first in range(0, len(rows), _CHUNK):
            yield from rows[first : first + _CHUNK].tolist()


def kernel_inputs(kind: str, frame: pd.DataFrame) -> KernelInputs:
    """Return the features of a table of kernels with the columns SIZES, stack, library and gpu."""
    names = frame["gpu"].astype("category")
    boards = kernel_device([resolve_gpu(str(name)) for name in names.cat.categories])
    device: KernelDevice = boards.take(names.cat.codes.to_numpy().astype(np.intp))
    sizes = {name: frame[name].to_numpy(dtype=np.float64) for name in (*SIZES[kind], *CONTEXT)}
    return KINDS[kind](sizes, device)


def held_out(kind: str, frame: pd.DataFrame, share: float) -> NDArray[np.bool_]:
    """Return which rows belong to held-out shapes: those whose hash falls into the first ``share``."""
    shape = frame[list(SHAPE_OF[kind])].astype(np.float64)
    hashes = pd.util.hash_pandas_object(shape, index=False).to_numpy()
    return hashes % np.uint64(10_000) < np.uint64(round(share * 10_000))


def read_kernel_rows(path: Path, limit: int, seed: int = 0) -> pd.DataFrame:
    """Return about ``limit`` rows of ``KIND.parquet`` at most, strata capped alike so that none is lost.

    Raises FileFormatError where it is no such table.
    """
    frame = _checked(path)
    if len(frame) <= limit:
        return frame
    strata = [name for name in STRATA if name in frame]
    order = np.random.default_rng(seed).permutation(len(frame))
    shuffled = frame.iloc[order]
    group = shuffled.groupby(strata, sort=False)
    rank = group.cumcount().to_numpy()
    cap = _cap(group.size().to_numpy().astype(np.int64), limit)
    return shuffled[rank < cap].reset_index(drop=True)


def _checked(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileFormatError(
            explain(f"cannot read the {path.stem} kernels", got=shortened(first), expected=f"a Parquet file {path}")
        ) from error  # fmt: skip
    needed = (*SIZES[path.stem], *CONTEXT, "gpu", "latency_s")
    absent = [name for name in needed if name not in frame]
    if absent or frame.empty:
        got = f"no {', '.join(absent)}" if absent else "no rows"
        raise FileFormatError(
            explain(f"{path} is no table of {path.stem}", got=got, expected=", ".join(needed))
        )
    numbers = frame[[name for name in needed if name != "gpu"]].to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers).all(axis=1) | ~(frame["latency_s"].to_numpy() > 0.0)
    if wrong.any():
        raise FileFormatError(
            explain(f"{path} has kernels without a time or a size", got=f"row {int(wrong.argmax())}",
                    expected="finite numbers, latency_s above 0")
        )  # fmt: skip
    return frame


def _cap(counts: NDArray[np.int64], limit: int) -> int:
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= limit:
            low = middle
        else:
            high = middle - 1
    return low
