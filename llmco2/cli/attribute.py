"""``llmco2 attribute``: whose energy and carbon it was, from a log of requests and a meter.

Invariant: the rows and what belongs to no request add up to the meter; a summary on standard error says so.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmco2.cli.arguments import number, whole
from llmco2.cli.output_file import check_output
from llmco2.errors import InputError, explain

if TYPE_CHECKING:
    import pandas as pd

    from llmco2.records.request import InferenceRequest
    from llmco2.serving.attribution import Attribution, RequestLog

SUFFIXES: Final = (".csv", ".parquet", ".json", ".jsonl")
_NO_REQUEST: Final = "(no request)"
_EXAMPLES: Final = """the rule:
  idle power is shared in equal parts by the requests that are held; what is drawn above it is divided by
  what the predictor says prefill, the weights that a step reads once for all, and each request's own
  decoding cost. Joules of time in which nothing ran belong to no request. All parts add up to the meter.

examples:
  llmco2 attribute requests.csv --meter meter.csv --model Qwen/Qwen3-8B --gpu H100
  llmco2 attribute requests.csv --meter session.jsonl --model Qwen/Qwen3-8B --gpu H100 --by tenant
  llmco2 attribute requests.csv --meter meter.csv --model Qwen/Qwen3-8B --gpu H100 --output shares.parquet
"""


def add_parser(subparsers: Any) -> None:
    """Add ``attribute`` and its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "attribute",
        help="share a meter's energy and carbon out over requests, users or tenants",
        description="Share the energy of a meter, and its carbon, out over the requests of a log.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "log", type=Path, metavar="LOG",
        help="requests, CSV or Parquet: start, end, prompt_tokens, output_tokens; first_token or ttft_s, cached_tokens",
    )  # fmt: skip
    parser.add_argument(
        "--meter", type=Path, required=True, metavar="FILE",
        help="CSV with time and energy_j or power_w, or a recording of llmco2 monitor",
    )  # fmt: skip
    parser.add_argument("--gpus", metavar="I,J", help="GPUs of the recording that served (default: all)")
    parser.add_argument("--model", required=True, metavar="MODEL", help="what was served")
    parser.add_argument("--gpu", required=True, metavar="GPU", help="on which GPU")
    parser.add_argument(
        "--tensor-parallel", type=whole, default=1, metavar="N", help="GPUs that share the model"
    )
    parser.add_argument("--engine", default="unknown", metavar="NAME", help="serving engine")
    parser.add_argument("--precision", default="unknown", metavar="NAME", help="of weights and activations")
    parser.add_argument(
        "--idle-power-w", type=number, metavar="W", help="of all GPUs together (default: catalog)"
    )
    parser.add_argument("--zone", metavar="ZONE", help="grid zone (default: the world's average)")
    parser.add_argument("--by", metavar="COLUMN", help="sum over the values of a column of the log")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"{', '.join(SUFFIXES)} (default: CSV, printed)"
    )
    parser.add_argument("--force", action="store_true", help="replace the output file")


def run(args: argparse.Namespace) -> int:
    """Attribute, write the table, and return the exit code."""
    if args.output is not None:
        if args.output.suffix.lower() not in SUFFIXES:
            raise InputError(
                explain("--output knows no such format", got=str(args.output), expected=", ".join(SUFFIXES))
            )
        check_output(args.output, force=args.force, inputs=[args.log, args.meter])
    from llmco2.cli.answers_file import print_answers, write_answers  # noqa: PLC0415 - pandas
    from llmco2.serving.attribution import attribute  # noqa: PLC0415 - as above
    from llmco2.serving.opening import gpu_indices  # noqa: PLC0415 - as above
    from llmco2.serving.phase_costs import phase_costs  # noqa: PLC0415 - as above
    from llmco2.serving.request_log import read_meter_log, read_request_log  # noqa: PLC0415 - as above

    frame, log = read_request_log(args.log)
    if args.by is not None and args.by not in frame:
        got = ", ".join(map(str, frame.columns))
        raise InputError(explain(f"{args.log} has no column {args.by}", got=got))
    meter = read_meter_log(args.meter, None if args.gpus is None else gpu_indices(args.gpus))
    request = _request(args, log)
    idle_w, idle_from = _idle_power_w(args, request)
    found = attribute(log, meter, phase_costs(request, _predict), idle_w)
    seconds = float(meter.t_s[-1] - meter.t_s[0])
    table = _table(frame, found, _grams_per_joule(args, request, found.total_j, seconds), args.by)
    if args.output is None:
        print_answers(table, sys.stdout, "csv")
    else:
        write_answers(table, args.output)
    print(_summary(found, f"idle {idle_w:g} W, {idle_from}"), file=sys.stderr)
    return 0


def _predict(request: InferenceRequest) -> Any:
    import llmco2  # noqa: PLC0415 - numpy

    return llmco2.predict(**asdict(request))


def _request(args: argparse.Namespace, log: RequestLog) -> InferenceRequest:
    """Return the mean batch of the log: mean lengths, and as many requests at once as ran on average."""
    from llmco2.records.request import InferenceRequest  # noqa: PLC0415

    held_s = log.end_s - log.start_s
    span_s = float(log.end_s.max() - log.start_s.min())
    made = log.output_tokens[log.output_tokens > 0]
    asked = log.context_tokens[log.context_tokens > 0]
    if not len(made) or not len(asked):
        raise InputError(
            explain(f"{args.log} holds no tokens", expected="prompt_tokens and output_tokens above 0")
        )
    return InferenceRequest(
        model=args.model,
        gpu=args.gpu,
        tensor_parallel=args.tensor_parallel,
        engine=args.engine,
        precision=args.precision,
        batch_size=max(1.0, float(held_s.sum()) / span_s),
        prompt_tokens=max(1.0, float(asked.mean())),
        output_tokens=max(2.0, float(made.mean())),
        serving="continuous",
    )


def _idle_power_w(args: argparse.Namespace, request: InferenceRequest) -> tuple[float, str]:
    from llmco2.serving.idle_power import idle_power_w  # noqa: PLC0415

    if args.idle_power_w is not None:
        return float(args.idle_power_w), "given"
    each_w, origin = idle_power_w(args.gpu)
    return each_w * request.n_gpus, origin


def _grams_per_joule(
    args: argparse.Namespace, request: InferenceRequest, total_j: float, seconds: float
) -> float:
    """Return operational gCO2e for each joule of the meter, the host's energy over its span included."""
    from llmco2.carbon.factors import resolve_factors  # noqa: PLC0415
    from llmco2.catalog.gpus import resolve_gpu  # noqa: PLC0415
    from llmco2.serving.comparing import operational_gco2e  # noqa: PLC0415

    factors = resolve_factors(resolve_gpu(request.gpu).gpu_id, zone=args.zone)
    return operational_gco2e(total_j, seconds, request.n_gpus, factors) / total_j if total_j > 0 else 0.0


def _table(frame: pd.DataFrame, found: Attribution, grams_per_j: float, by: str | None) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - only where a table is made

    from llmco2.serving.attribution import PARTS  # noqa: PLC0415

    parts = {name: getattr(found, name) for name in PARTS}
    table = frame.drop(columns=[name for name in (*PARTS, "energy_j", "operational_gco2e") if name in frame])
    table = table.assign(**parts, energy_j=found.energy_j, operational_gco2e=grams_per_j * found.energy_j)
    figures = [*PARTS, "energy_j", "operational_gco2e"]
    if by is not None:
        keys = table[by].fillna("").astype(str)
        sums = table[figures].groupby(keys, sort=True).sum()
        table = sums.assign(requests=keys.value_counts()).reset_index(names=by)[[by, "requests", *figures]]
    unused_j = found.unused_idle_j + found.unused_active_j
    rest = {
        str(table.columns[0]): _NO_REQUEST,
        "idle_j": found.unused_idle_j,
        "energy_j": unused_j,
        "operational_gco2e": grams_per_j * unused_j,
    }
    if by is not None:
        rest["requests"] = 0
    return pd.concat([table, pd.DataFrame([rest])], ignore_index=True)


def _summary(found: Attribution, idle: str) -> str:
    given_j = float(found.energy_j.sum())
    unused_j = found.unused_idle_j + found.unused_active_j
    outside = f"; {found.n_outside:,} requests lie outside the meter's times" if found.n_outside else ""
    return (
        f"llmco2: {found.total_j:.6g} J metered = {given_j:.6g} J of requests + {unused_j:.6g} J of none "
        f"({found.unused_idle_j:.4g} J idle); {idle}{outside}"
    )
