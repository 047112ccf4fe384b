"""Many requests at once: a file of them, or every combination of options that were given several values.

Invariant: one call answers them all, in the same columns. The rows of a file keep their order; those of a
comparison are sorted: first what fits its GPUs, then batches that would run in turns, and without an answer last.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from llmco2.carbon.yearly import batches_per_year, busy_replicas
from llmco2.cli import answers_file, requests_file
from llmco2.cli.output_file import check_output
from llmco2.decision.candidates import check_values, combinations
from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.predictor.calibration import calibration_mismatch
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.predictor.memory_check import IN_TURNS, NO_ROOM
from llmco2.records.columns import ANSWER_COLUMNS, FRAME_COLUMNS, YEARLY_COLUMNS, ZONE_COLUMN
from llmco2.units import GRAMS_PER_KILOGRAM, kwh_from_joules

if TYPE_CHECKING:
    from llmco2.cli.predict import Predictor

DEFAULT_ORDER: Final = "energy_per_output_token_j"
_TIE_BREAK: Final = "operational_gco2e"


def answer_file(
    given: Mapping[str, Any],
    request: Mapping[str, Any],
    overrides: Mapping[str, Any],
    predictor: Predictor,
) -> int:
    """Answer every row of the file ``given["requests"]``; return the exit code."""
    for name, value in request.items():
        raise InputError(
            explain(
                f"{name} is given beside --requests",
                got=repr(value),
                remedy=f"write it as the column {name!r} of {given['requests']}",
            )
        )
    if isinstance(overrides.get("zone"), tuple):
        raise InputError(
            explain(
                "several zones are given beside --requests",
                got=",".join(overrides["zone"]),
                remedy=f"write them as the column 'zone' of {given['requests']}",
            )
        )
    if "sort" in given:
        raise InputError(
            explain("--sort does not go with --requests", got=given["sort"], expected="rows keep their order")
        )
    source = Path(given["requests"])
    target = _target(given, [source])
    if given.get("format") == "table":
        raise _wrong_format(given)
    requests = requests_file.read_requests(source)
    answers = predictor.predict_frame(requests, **overrides)
    _write(_with_year(answers, given), given, source, target)
    _warn_of_other_checkpoint(overrides)
    return 0


def compare(
    given: Mapping[str, Any],
    request: Mapping[str, Any],
    overrides: Mapping[str, Any],
    predictor: Predictor,
) -> int:
    """Answer every combination of the options' values and print them sorted; return the exit code.

    Raises InputError where not one combination has an answer, with the reason of the first.
    """
    target = _target(given)
    order = _order(given)
    asked = dict(request)
    fixed = dict(overrides)
    if isinstance(fixed.get("zone"), tuple):
        asked["zone"] = fixed.pop("zone")
    table = combinations(asked)
    check_values(asked)
    answers = predictor.predict_frame(table, **fixed)
    if answers["energy_j"].isna().all():
        raise InputError(str(answers["error"].iloc[0]))
    _refuse_what_never_serves(answers, asked)
    answers = _with_year(answers, given)
    answers = _in_order(answers, order)
    if target is None and given.get("format", "table") == "table":
        from llmco2.report.comparison import Comparison, print_comparison  # noqa: PLC0415 - rich

        shown = Comparison(
            answers=answers,
            varied=_varied(answers, asked),
            order=order.column,
            descending=order.descending,
            zone=fixed.get("zone"),
            carbon_intensity_gco2e_per_kwh=fixed.get("carbon_intensity_gco2e_per_kwh"),
            requests_per_s=given.get("requests_per_s"),
        )
        print_comparison(shown, sys.stdout)
    else:
        _write(answers, given, None, target)
    _warn_of_other_checkpoint(overrides)
    return 0


@dataclass(frozen=True, slots=True)
class Order:
    """The column that sorts a comparison, and which way."""

    column: str
    descending: bool = False


def _order(given: Mapping[str, Any]) -> Order:
    """Return the order that was asked for; raise UnknownNameError for what is no column of the answer."""
    asked = given.get("sort", DEFAULT_ORDER)
    column, _, way = asked.partition(":")
    sortable = [*FRAME_COLUMNS, ZONE_COLUMN, *(YEARLY_COLUMNS if "requests_per_s" in given else ())]
    if column not in sortable or (column == ZONE_COLUMN and not isinstance(given.get("zone"), tuple)):
        figures = ", ".join(name for name in sortable if name in ANSWER_COLUMNS[:-3])
        raise UnknownNameError("column to sort by", column, sortable, remedy=f"figures are {figures}")
    if way not in {"", "asc", "desc"}:
        raise InputError(
            explain("unknown direction to sort in", got=repr(way), expected="COLUMN:asc or COLUMN:desc")
        )
    return Order(column, way == "desc" or bool(given.get("descending")))


def _in_order(answers: pd.DataFrame, order: Order) -> pd.DataFrame:
    """Return the rows sorted by ``order``; a batch that its GPUs cannot hold at once never leads."""
    places = pd.DataFrame(
        {
            "has_none": answers["energy_j"].isna(),
            "waits": answers["notes"].str.contains(IN_TURNS, regex=False),
            "order": answers[order.column],
            "tie_break": answers[_TIE_BREAK],
        }
    )
    ways = [True, True, not order.descending, True]
    sorted_places = places.sort_values([str(name) for name in places], ascending=ways, kind="stable")
    return answers.loc[sorted_places.index].reset_index(drop=True)


def _refuse_what_never_serves(answers: pd.DataFrame, asked: Mapping[str, Any]) -> None:
    """Raise InputError for a value of an option with which no combination can be served, however much memory it had."""
    errors = answers["error"].fillna("").astype(str)
    reasons = errors.where(~errors.str.contains(NO_ROOM, regex=False), "")
    for name, value in asked.items():
        for each in value if isinstance(value, tuple) else ():
            failed = reasons[answers[name] == each]
            if len(failed) and failed.ne("").all():
                raise InputError(f"no combination can use {name} {each}: {failed.iloc[0]}")


def _varied(answers: pd.DataFrame, asked: Mapping[str, Any]) -> list[str]:
    """Return the options of several values, and the parallelism where GPUs of a name differ in number."""
    varied = [name for name, value in asked.items() if isinstance(value, tuple)]
    named = "tensor_parallel"
    return varied + [named] * (named not in varied and answers[named].nunique() > 1)


def yearly_columns(answers: pd.DataFrame, requests_per_s: float) -> dict[str, Any]:
    """Return what a steady ``requests_per_s``, served as each row says, needs and causes: YEARLY_COLUMNS.

    GPUs are those of whole deployments; energy and carbon are of the requests alone, without the idle draw of
    GPUs that wait.
    """
    numbers = {
        name: pd.to_numeric(answers[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        for name in ("batch_size", "tensor_parallel", "expert_parallel", "pipeline_parallel")
    }
    numbers = {name: np.where(np.isnan(x), 1.0, x) for name, x in numbers.items()}  # empty: the default
    each = np.maximum(numbers["tensor_parallel"], numbers["expert_parallel"]) * numbers["pipeline_parallel"]
    figures = {
        name: answers[name].to_numpy(dtype=np.float64)
        for name in ("latency_s", "energy_j", "operational_gco2e", "embodied_gco2e")
    }
    replicas = np.ceil(busy_replicas(requests_per_s, numbers["batch_size"], figures["latency_s"]))
    batches = batches_per_year(requests_per_s, numbers["batch_size"])
    return {
        "gpus_needed": replicas * each,
        "energy_per_year_kwh": kwh_from_joules(1.0) * batches * figures["energy_j"],
        "operational_per_year_kgco2e": batches * figures["operational_gco2e"] / GRAMS_PER_KILOGRAM,
        "embodied_per_year_kgco2e": batches * figures["embodied_gco2e"] / GRAMS_PER_KILOGRAM,
    }


def _with_year(answers: pd.DataFrame, given: Mapping[str, Any]) -> pd.DataFrame:
    if "requests_per_s" not in given:
        return answers
    rate = given["requests_per_s"]
    if not 0.0 < rate < math.inf:
        raise InputError(
            explain("requests_per_s is out of range", got=f"{rate:g}", expected="a number above 0")
        )
    added = yearly_columns(answers, rate)
    return answers.assign(**{name: added[name] for name in YEARLY_COLUMNS})


def _target(given: Mapping[str, Any], inputs: Iterable[Path] = ()) -> Path | None:
    if "output" not in given:
        return None
    if "format" in given:
        raise _wrong_format(given)
    target = Path(given["output"])
    requests_file.check_suffix(target)
    check_output(target, force=bool(given.get("force")), inputs=inputs)
    return target


def _wrong_format(given: Mapping[str, Any]) -> InputError:
    return InputError(
        explain(
            "--format does not apply to a table of requests",
            got=given["format"],
            expected="csv, json or jsonl without --output; with it, the ending of the file decides",
        )
    )


def _write(answers: pd.DataFrame, given: Mapping[str, Any], source: Path | None, target: Path | None) -> None:
    if target is None:
        answers_file.print_answers(answers, sys.stdout, given.get("format", "csv"))
    else:
        answers_file.write_answers(answers, target)
    print(answers_file.summary(answers, source, target), file=sys.stderr)


def _warn_of_other_checkpoint(overrides: Mapping[str, Any]) -> None:
    """Say once of a table what a single answer says in its notes."""
    if "calibration" not in overrides:
        return
    warning = calibration_mismatch(overrides["calibration"], load_checkpoint(overrides.get("checkpoint")))
    if warning:
        print(f"llmco2: warning: {warning}", file=sys.stderr)
