"""All methods that are scored, by the names that tables show.

Invariant: a method sees requests, counted work and catalog facts; only the fitted ones see labels, and never those of
the (board, model) group they are scored on. What ships is scored as it is: see :data:`PRODUCT_NOTE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pandas as pd

from benchmarks.accuracy.answers import ENDS, label_predictions, product_answers
from benchmarks.accuracy.baselines import ecologits, kernels_alone, llmcarbon, nine_constants, roofline, trees
from benchmarks.accuracy.baselines.answers_file import read_answers
from benchmarks.accuracy.baselines.work import RequestWork, request_work
from benchmarks.accuracy.workload import Workload
from llmco2.errors import InputError, UnknownNameError, explain

PRODUCT: Final = "llmco2"
KERNELS_ALONE: Final = "kernels without a host"
PRODUCT_NOTE: Final = (
    "llmco2 answers with the checkpoint that ships: its kernels were learnt from measured kernels and from no run; the "
    "few constants of its hosts were fitted to runs of the same sources, so its figures on them are of a fit. Nine "
    "constants and trees are scored on (board, model) groups that were left out of their fit; the other methods "
    "fit nothing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What methods are asked with."""

    workload: Workload
    work: RequestWork
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method: its name in tables, one sentence about it, and its predictions of all labels, ``(n_labels,)``."""

    name: str
    about: str
    predict: Callable[[Question], pd.DataFrame | None]  # None: it cannot be asked here


def question(workload: Workload, checkpoint: str | None = None) -> Question:
    """Return the question of a workload, its work counted."""
    return Question(workload=workload, work=request_work(workload.requests), checkpoint=checkpoint)


def answers_of_file(name: str, path: Path) -> Method:
    """Return the method whose answers a file holds; see :mod:`benchmarks.accuracy.baselines.answers_file`."""

    def predict(asked: Question) -> pd.DataFrame:
        return label_predictions(asked.workload, read_answers(path, asked.workload))

    return Method(name=name, about="Answers read from a file.", predict=predict)


def chosen(text: str | None, among: Iterable[Method]) -> list[Method]:
    """Return the methods that a comma-separated text names, whatever their case; None names all.

    Raises:
        UnknownNameError: no such method.
        InputError: the text names nothing.
    """
    known = {method.name.casefold(): method for method in among}
    if text is None:
        return list(known.values())
    wanted = [part.strip().casefold() for part in text.split(",") if part.strip()]
    names = [method.name for method in known.values()]
    if not wanted:
        raise InputError(explain("--methods names nothing", got=repr(text), expected=", ".join(names)))
    for name in wanted:
        if name not in known:
            raise UnknownNameError("method", name, names, remedy=f"known: {', '.join(names)}")
    return [method for key, method in known.items() if key in wanted]


def _product(asked: Question) -> pd.DataFrame:
    return label_predictions(asked.workload, product_answers(asked.workload, asked.checkpoint))


def _kernels_alone(asked: Question) -> pd.DataFrame | None:
    with TemporaryDirectory() as folder:
        bare = kernels_alone.checkpoint_without_hosts(asked.checkpoint, Path(folder))
        if bare is None:
            return None
        found = label_predictions(asked.workload, product_answers(asked.workload, str(bare)))
    return found.assign(**dict.fromkeys(ENDS, float("nan")))


def _closed_form(
    answer: Callable[[pd.DataFrame, RequestWork], pd.DataFrame], asked: Question
) -> pd.DataFrame:
    return label_predictions(asked.workload, answer(asked.workload.requests, asked.work))


METHODS: Final = (
    Method(name=PRODUCT, about="The product, as it ships.", predict=_product),
    Method(name=KERNELS_ALONE, about="The product's kernels with no host around them; nothing fitted to runs.",
           predict=_kernels_alone),
    Method(name="boosted trees", about="Gradient-boosted trees on physical columns, groups left out.",
           predict=lambda asked: trees.left_out_predictions(asked.workload, asked.work)),
    Method(name="nine constants", about="A roofline with nine fitted constants, groups left out.",
           predict=lambda asked: nine_constants.left_out_predictions(asked.workload, asked.work)),
    Method(name="TDP × roofline", about="GPUs × rated power × roofline time (arXiv 1910.09700), nothing fitted.",
           predict=partial(_closed_form, roofline.rated_power)),
    Method(name="idle-to-TDP × roofline", about="Power linear in utilisation (ISCA 2007) × roofline, nothing fitted.",
           predict=partial(_closed_form, roofline.linear_power)),
    Method(name="EcoLogits", about="Energy per token from parameters and batch (EcoLogits 0.11.3), nothing fitted.",
           predict=partial(_closed_form, ecologits.answers)),
    Method(name="LLMCarbon", about="Parameters × tokens over achieved FLOP/s × TDP (arXiv 2309.14393), nothing fitted.",
           predict=partial(_closed_form, llmcarbon.answers)),
)  # fmt: skip
