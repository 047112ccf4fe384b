"""``llmco2 choose``: which GPUs, parallelism, batch, precision and engine take least, within targets.

Invariant: an option that was not given is not passed on, so every default is the library's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from llmco2.cli.arguments import listed, number, whole
from llmco2.cli.predict import CARBON_OPTIONS, PREDICTOR_OPTIONS, REQUEST_OPTIONS, SHORT_NAMES
from llmco2.errors import InputError, explain

EXIT_UNMET: Final = 3
_OBJECTIVES: Final = ("energy", "carbon", "latency", "gpus")
_DEFAULT_TOP: Final = 10
_TARGET_OPTIONS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "max_ttft_s": ("--max-ttft", "S", "seconds to the first token at most, without a wait in a queue"),
        "max_tpot_s": ("--max-tpot", "S", "seconds between later tokens at most"),
        "max_latency_s": (
            "--max-latency",
            "S",
            "seconds to the last token at most, without a wait in a queue",
        ),
        "max_gpus": ("--max-gpus", "N", "GPUs of all replicas at most"),
        "requests_per_s": (
            "--rate",
            "R",
            "requests per second, all replicas together: adds how many are needed, the requests that run in each, "
            "where one saturates, and a year with the idle draw",
        ),
    }
)
_HELP: Final = {
    "tensor_parallel": "tensor parallelism: GPUs that share each layer (default: 1, 2, 4 and 8)",
    "batch_size": "requests that run at once in a replica, at most where --rate is given (default: 1..256)",
}
_EXAMPLES: Final = """examples:
  llmco2 choose meta-llama/Llama-3.3-70B-Instruct --gpu H100,H200,B200 \\
      --engine vllm --max-tpot 0.03 --max-gpus 8 --zone FRA
  llmco2 choose meta-llama/Llama-3.3-70B-Instruct --gpu H100,B200 --engine vllm \\
      --precision bf16,fp8 --rate 20 --max-latency 15 --objective carbon --format json

exit codes: 0 an option meets the targets, 3 none does (the closest and what binds are printed), 2 the input is wrong
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 choose``."""
    parser = subparsers.add_parser(
        "choose",
        help="choose GPUs, parallelism and batch for least energy within targets",
        usage="llmco2 choose MODEL --gpu GPU[,GPU…] [options]",
        description="Choose how to serve a model: the least energy, carbon, latency or GPUs within targets.\n\n"
        "MODEL, --zone and every option of the request take several values, as 1,2,8 or,\n"
        "for numbers, as 1..8, which doubles: 1, 2, 4, 8. All combinations are compared.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "model", type=listed(str), metavar="MODEL", help="name of the model, or its config.json"
    )
    request = {name: option for name, option in REQUEST_OPTIONS.items() if name != "serving"}
    for title, options in (
        ("the request", request),
        ("carbon", CARBON_OPTIONS),
        ("the predictor", PREDICTOR_OPTIONS),
    ):
        group = parser.add_argument_group(title)
        for name, (kind, metavar, text) in options.items():
            several = name in request or name == "zone"
            group.add_argument(
                SHORT_NAMES.get(name, "--" + name.replace("_", "-")),
                dest=name,
                type=listed(kind) if several else kind,
                metavar=metavar,
                help=_HELP.get(name, text),
            )
    _add_choice_options(parser)


def _add_choice_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the choice")
    for name, (option, metavar, text) in _TARGET_OPTIONS.items():
        group.add_argument(option, dest=name, type=number, metavar=metavar, help=text)
    group.add_argument(
        "--objective",
        choices=_OBJECTIVES,
        metavar="|".join(_OBJECTIVES),
        help="what is to be least: energy or carbon per output token, latency, GPUs (default: energy)",
    )
    group.add_argument("--top", type=whole, metavar="N", help=f"options to print (default: {_DEFAULT_TOP})")
    group.add_argument(
        "--format",
        choices=("table", "json"),
        metavar="table|json",
        help="how the answer is printed (default: table)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the choice; return 0, or EXIT_UNMET where no option meets the targets."""
    given: dict[str, Any] = {name: value for name, value in vars(args).items() if name != "command"}
    top, kind = given.pop("top", _DEFAULT_TOP), given.pop("format", "table")
    if "gpu" not in given:
        raise InputError(explain("--gpu is missing", expected="llmco2 choose MODEL --gpu GPU[,GPU…]"))
    if top < 1:
        raise InputError(explain("--top is out of range", got=top, expected="at least 1"))
    from llmco2.decision.choice import choose  # noqa: PLC0415 - pandas, after the arguments are known to be well formed
    from llmco2.report.choice import choice_json, print_choice  # noqa: PLC0415

    choice = choose(**given)
    if kind == "json":
        narrow = not (getattr(sys.stdout, "encoding", None) or "utf-8").casefold().startswith("utf")
        sys.stdout.write(choice_json(choice, top, ascii_only=narrow))
    else:
        print_choice(choice, top, sys.stdout)
    return EXIT_UNMET if choice.shortfall else 0
