"""What a person may set about training data: which split, which order of rows, which kernels.

Invariant: options are frozen and checked when they are made (and have no slots, because the
command line reads defaults through ``vars``); a bad one is refused with the choices there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmco2.data.focused import NeighbourPlan
from llmco2.errors import InputError, explain

SplitKind = Literal["request", "deployment", "family", "gpu", "none"]
SamplerKind = Literal["uniform", "focused", "paper"]
Trace = Literal["all", "conv", "code"]


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which rows are held out.

    Attributes:
        kind: ``request`` (new request to a known deployment), ``deployment`` (unseen model, GPU and engine),
            ``family`` or ``gpu`` (leave ``held_out`` out whole), ``none`` (fit to everything).
        held_out: the family or GPU that is left out, with kinds ``family`` and ``gpu``.
        test_share: share of the groups on the test side, with kinds ``request`` and ``deployment``.
        validation_share: share of the remaining groups that validate.
        seed: of the split alone, so that a test set stays when the training seed changes.
    """

    kind: SplitKind = "request"
    held_out: str | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test_share", "validation_share"):
            share = getattr(self, name)
            if not 0.0 < share < 1.0:
                raise InputError(
                    explain(f"bad split.{name}", got=share, expected="between 0 and 1, both excluded")
                )
        if self.held_out is not None and self.kind not in ("family", "gpu"):
            raise InputError(
                explain(
                    "split.held_out means nothing here",
                    got=f"split.kind {self.kind}",
                    expected="family or gpu",
                )
            )


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """In what order, and how often, training rows are seen.

    Attributes:
        kind: ``uniform`` (each row once an epoch), ``focused`` (workload density × region error, with a
            floor of exploration), ``paper`` (Algorithm 1 of arXiv 2410.02950, the training rows its pool).
        trace: workload that ``focused`` weighs rows by.
        workload: a CSV of one's own requests in place of the trace (columns prompt_tokens, output_tokens).
        exploration: share of ``focused`` draws that is uniform; at least 0.001.
        refresh_every_n_epochs: how often errors are worked out anew (``focused`` and ``paper``).
        plan: A, B, C, ± and e of ``paper``.
    """

    kind: SamplerKind = "uniform"
    trace: Trace = "all"
    workload: str | None = None
    exploration: float = 0.1
    refresh_every_n_epochs: int = 10
    plan: NeighbourPlan = NeighbourPlan()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.refresh_every_n_epochs < 1:
            raise InputError(
                explain(
                    "bad sampler.refresh_every_n_epochs",
                    got=self.refresh_every_n_epochs,
                    expected="1 or more",
                )
            )


@dataclass(frozen=True, kw_only=True)
class KernelOptions:
    """Which measured kernels train the coefficients beside whole runs.

    Attributes:
        path: a table of kernel measurements.
        max_rows: kernels kept, spread evenly over (GPU, kind, precision).
        seed: of that choice.
        allow_simulated: accept kernels that no real GPU ran.
    """

    path: str | None = None
    max_rows: int = 4000
    seed: int = 0
    allow_simulated: bool = False

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise InputError(explain("bad kernels.max_rows", got=self.max_rows, expected="1 or more"))
