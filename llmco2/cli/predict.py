"""``llmco2 predict``: the footprint of one request, or of every row of a table of requests.

Invariant: an option that was not given is not passed on, so every default is the predictor's own. An option with
several values makes a comparison, one row a combination.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmco2.cli.arguments import listed, number, whole
from llmco2.errors import InputError, explain
from llmco2.records.request import DEFAULT_OUTPUT_TOKENS, DEFAULT_PROMPT_TOKENS

if TYPE_CHECKING:
    import pandas as pd

    from llmco2.records.footprint import Footprint


class Predictor(Protocol):
    """What answers: the module ``llmco2.predictor.api``, or anything with its two functions."""

    @property
    def predict(self) -> Callable[..., Footprint]:
        """Return the footprint of one request, given by keyword."""

    @property
    def predict_frame(self) -> Callable[..., pd.DataFrame]:
        """Return one row an input row, in their order, errors in the column ``error``."""


# option: (kind, metavar, help); an option's name is its keyword with dashes
REQUEST_OPTIONS: Final[Mapping[str, tuple[Any, str, str]]] = MappingProxyType(
    {
        "gpu": (str, "GPU", "name of the GPU (llmco2 gpus lists them), or the path of a JSON datasheet"),
        "tensor_parallel": (whole, "N", "tensor parallelism: GPUs that share each layer (default: 1)"),
        "pipeline_parallel": (whole, "N", "pipeline parallelism: stages of layers (default: 1)"),
        "expert_parallel": (
            whole,
            "N",
            "expert parallelism: GPUs over which experts are spread (default: 1)",
        ),
        "engine": (
            str,
            "NAME",
            "serving engine: vllm, sglang, tensorrt-llm, hf-eager … (default: unknown, which widens the interval)",
        ),
        "precision": (
            str,
            "NAME",
            "of weights and activations: bf16, fp8, int4 … (default: the model's own, where the GPU has it)",
        ),
        "kv_precision": (str, "NAME", "of the KV cache (default: that of the activations)"),
        "batch_size": (number, "N", "requests that run together (default: 1)"),
        "prompt_tokens": (number, "N", f"prompt tokens of one request (default: {DEFAULT_PROMPT_TOKENS})"),
        "output_tokens": (number, "N", f"output tokens of one request (default: {DEFAULT_OUTPUT_TOKENS})"),
        "serving": (
            str,
            "MODE",
            "static: the batch starts and ends together; continuous: a steady number of requests "
            "is running (default: static)",
        ),
    }
)
CARBON_OPTIONS: Final[Mapping[str, tuple[Any, str, str]]] = MappingProxyType(
    {
        "zone": (
            str,
            "ZONE",
            "country or cloud region (llmco2 zones lists them; default: the world's average)",
        ),
        "carbon_intensity_gco2e_per_kwh": (number, "G", "gCO2e per kWh of the grid, in place of the zone's"),
        "pue": (
            number,
            "PUE",
            "power usage effectiveness of the data centre, at least 1 (default: the cloud's or the industry's)",
        ),
        "lifetime_years": (
            number,
            "YEARS",
            "years of use that share the hardware's embodied carbon (default: 5)",
        ),
        "utilization": (
            number,
            "SHARE",
            "share of those years in which it works, above 0, up to 1 (default: 0.5)",
        ),
    }
)
PREDICTOR_OPTIONS: Final[Mapping[str, tuple[Any, str, str]]] = MappingProxyType(
    {
        "calibration": (str, "FILE", "file that llmco2 calibrate wrote from runs of your own"),
        "checkpoint": (str, "FILE", "checkpoint to answer from, its .json (default: the one that ships)"),
    }
)
SHORT_NAMES: Final = MappingProxyType({"carbon_intensity_gco2e_per_kwh": "--carbon-intensity"})
_FORMATS: Final = ("table", "json", "jsonl", "csv")
_EXAMPLES: Final = """examples:
  llmco2 predict meta-llama/Llama-3.1-8B-Instruct --gpu H100-SXM5-80GB \\
      --batch-size 8 --prompt-tokens 512 --output-tokens 256 --zone FRA
  llmco2 predict --requests requests.csv --output predictions.parquet
  llmco2 predict meta-llama/Llama-3.3-70B-Instruct --gpu H100,H200,B200 \\
      --engine vllm --tensor-parallel 1..8 --batch-size 1..256 --zone FRA,USA
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 predict``."""
    parser = subparsers.add_parser(
        "predict",
        help="predict energy and carbon of a request or a table of them",
        usage="llmco2 predict MODEL --gpu GPU [options]\n"
        "       llmco2 predict --requests FILE [--output FILE] [options]",
        description="Predict the energy and carbon of an LLM inference before it runs.\n\n"
        "MODEL, --zone and every option of the request take several values, as 1,2,8\n"
        "or, for numbers, as 1..8, which doubles: 1, 2, 4, 8. All combinations are then\n"
        "compared in one table, the least energy per output token first.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=listed(str),
        metavar="MODEL",
        help="name of the model (llmco2 models lists them), or the path of its config.json",
    )
    for title, options in (
        ("the request", REQUEST_OPTIONS),
        ("carbon", CARBON_OPTIONS),
        ("the predictor", PREDICTOR_OPTIONS),
    ):
        group = parser.add_argument_group(title)
        for name, (kind, metavar, text) in options.items():
            option = SHORT_NAMES.get(name, "--" + name.replace("_", "-"))
            several = name in (*REQUEST_OPTIONS, "zone")
            reader = listed(kind) if several else kind
            group.add_argument(option, dest=name, type=reader, metavar=metavar, help=text)
    _add_table_options(parser)


def _add_table_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tables and comparisons")
    group.add_argument(
        "--requests", metavar="FILE", help="requests, one per row: .csv, .parquet, .json or .jsonl"
    )
    group.add_argument(
        "--output",
        metavar="FILE",
        help="where the answers go: .csv, .parquet, .json or .jsonl (default: printed)",
    )
    group.add_argument(
        "--force", action="store_true", help="replace the file of --output where it exists (default: ask)"
    )
    group.add_argument(
        "--requests-per-s",
        type=number,
        metavar="RATE",
        help="add what this rate of requests needs and causes in a year: GPUs, kWh, kgCO2e",
    )
    group.add_argument(
        "--sort",
        metavar="COLUMN",
        help="column that orders a comparison, least first, or COLUMN:desc (default: energy_per_output_token_j)",
    )
    group.add_argument("--descending", action="store_true", help="sort the most first")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also say where the time and the energy go; json always has it (one request, as a table)",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        metavar="|".join(_FORMATS),
        help="how answers are printed: json is one array, jsonl an object a line (default: table; csv for --requests)",
    )


def run(args: argparse.Namespace, predictor: Predictor | None = None) -> int:
    """Answer from ``predictor``, by default the one that ships; return the exit code."""
    given = vars(args)
    request = {name: given[name] for name in ("model", *REQUEST_OPTIONS) if name in given}
    overrides = {name: given[name] for name in (*CARBON_OPTIONS, *PREDICTOR_OPTIONS) if name in given}
    if "requests" in given:
        from llmco2.cli.answer_tables import answer_file  # noqa: PLC0415 - pandas, which one request does without

        return answer_file(given, request, overrides, predictor or _shipped())
    for name, what in (("model", "MODEL"), ("gpu", "--gpu GPU")):
        if name not in request:
            raise InputError(
                explain(f"{what} is missing", expected="llmco2 predict MODEL --gpu GPU, or --requests FILE")
            )
    if "requests_per_s" in given or any(isinstance(value, tuple) for value in given.values()):
        from llmco2.cli.answer_tables import compare  # noqa: PLC0415

        return compare(given, request, overrides, predictor or _shipped())
    _refuse_table_options(given)
    footprint = (predictor or _shipped()).predict(**request, **overrides)
    kind = given.get("format", "table")
    _print(footprint, kind)
    if kind == "table" and "explain" in given:
        from llmco2.report.explain import explanation  # noqa: PLC0415
        from llmco2.report.table import print_fitting  # noqa: PLC0415

        sys.stdout.write("\n")
        print_fitting(lambda _: explanation(footprint), sys.stdout)
    return 0


def _refuse_table_options(given: Mapping[str, Any]) -> None:
    if "output" in given:
        raise InputError(
            explain(
                "--output goes with --requests or several values of an option",
                got=given["output"],
                remedy="to keep one answer, write: llmco2 predict … --format json > FILE",
            )
        )
    for option in ("sort", "descending"):
        if option in given:
            got = given[option] if option == "sort" else None
            raise InputError(explain(f"--{option} goes with several values of an option", got=got))
    if "force" in given:
        raise InputError(explain("--force goes with --output"))


def _shipped() -> Predictor:
    from llmco2.predictor import api  # noqa: PLC0415 - after the arguments are known to be well formed

    return api


def _print(footprint: Footprint, kind: str) -> None:
    if kind == "json":
        from llmco2.report.json_format import footprint_json  # noqa: PLC0415

        sys.stdout.write(footprint_json(footprint))
    elif kind == "jsonl":
        from llmco2.report.json_format import footprint_json_line  # noqa: PLC0415

        sys.stdout.write(footprint_json_line(footprint))
    elif kind == "csv":
        from llmco2.report.csv_format import footprint_csv  # noqa: PLC0415

        sys.stdout.write(footprint_csv(footprint))
    else:
        from llmco2.report.table import print_footprint  # noqa: PLC0415

        print_footprint(footprint, sys.stdout)
