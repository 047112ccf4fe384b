"""What a person may set about the network and how it is fitted.

Invariant: options are frozen and checked when they are made (and have no slots, because the
command line reads defaults through ``vars``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from llmco2.errors import InputError, explain


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network, and how large.

    Attributes:
        hidden_dim: width of the graph network; 0 leaves the formula alone.
        n_rounds: rounds of message passing; 0 pools over kernels only.
        correction_limit: largest score that the graph network may add (1 is about a factor of e).
    """

    hidden_dim: int = 24
    n_rounds: int = 2
    correction_limit: float = 0.7

    def __post_init__(self) -> None:
        _at_least("network.hidden_dim", self.hidden_dim, 0)
        _at_least("network.n_rounds", self.n_rounds, 0)
        if not self.correction_limit > 0.0:
            raise InputError(
                explain("bad network.correction_limit", got=self.correction_limit, expected="above 0")
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """AdamW with one cycle of the learning rate.

    Attributes:
        formula_lr: peak rate of the constants of the formula, which carry priors instead of decay.
        graph_lr: peak rate of graph network weights.
        weight_decay: of graph network weights.
        warmup_share: share of a stage's steps in which the rate rises.
        formula_share: share of the steps that fit the formula alone; the graph network then learns what is left with
            the formula held still, so that what the formula transfers does not depend on it. 0 fits both at once.
    """

    formula_lr: float = 0.06
    graph_lr: float = 0.01
    weight_decay: float = 0.3
    warmup_share: float = 0.1
    formula_share: float = 0.706

    def __post_init__(self) -> None:
        for name in ("formula_lr", "graph_lr"):
            if not getattr(self, name) > 0.0:
                raise InputError(
                    explain(f"bad optimizer.{name}", got=getattr(self, name), expected="above 0")
                )
        _at_least("optimizer.weight_decay", self.weight_decay, 0)
        _share("optimizer.warmup_share", self.warmup_share)
        _share("optimizer.formula_share", self.formula_share)


@dataclass(frozen=True, kw_only=True)
class UnknownShare:
    """Chance, per deployment and step, that a name is hidden, so that "unknown" is learnt too."""

    engine: float = 0.017
    gpu: float = 0.05
    family: float = 0.05
    precision: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _share(f"unknown_share.{field.name}", getattr(self, field.name))


@dataclass(frozen=True, kw_only=True)
class KernelTraining:
    """How measured kernels take part; it needs ``data.kernels.path``.

    Attributes:
        epochs: first epochs that see kernels alone.
        weight: of the kernel loss beside that of runs afterwards; 0 leaves it out.
    """

    epochs: int = 0
    weight: float = 0.0

    def __post_init__(self) -> None:
        _at_least("kernels.epochs", self.epochs, 0)
        _at_least("kernels.weight", self.weight, 0)

    @property
    def wanted(self) -> bool:
        """Whether kernels train at all."""
        return self.epochs > 0 or self.weight > 0.0


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise InputError(explain(f"bad {name}", got=value, expected=f"{low:g} or more"))


def _share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise InputError(explain(f"bad {name}", got=value, expected="0 to below 1"))
