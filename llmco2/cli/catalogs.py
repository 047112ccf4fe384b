"""``llmco2 models|gpus|zones [PATTERN]``: what the catalogs know, one line an entry."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Final

from llmco2.errors import InputError, explain, nearest_names
from llmco2.report.quantities import memory_text, three_digits

Line = tuple[str, ...]
_HELP: Final = {
    "models": "list the known models",
    "gpus": "list the known GPUs",
    "zones": "list the known grid zones and cloud regions",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three listings."""
    for name, text in _HELP.items():
        parser = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument(
            "pattern", metavar="TEXT", nargs="?", default="", help="show the entries that contain this text"
        )


def run(args: argparse.Namespace) -> int:
    """Print the entries that contain the pattern, in columns; raises InputError where there is none."""
    header, *lines = {"models": _models, "gpus": _gpus, "zones": _zones}[args.command]()
    pattern = args.pattern.casefold()
    shown = [line for line in lines if pattern in " ".join(line).casefold()]
    if pattern and args.command == "models":
        shown += _aliases(lines, pattern, {line[0] for line in shown})
    if not shown:
        near = nearest_names(args.pattern, [line[0] for line in lines])
        remedy = f"did you mean {', '.join(near)}?" if near else f"llmco2 {args.command} lists them all"
        raise InputError(
            explain(f"no entry of {args.command} matches", got=repr(args.pattern), remedy=remedy)
        )
    sys.stdout.writelines(_columns([header, *shown]))
    return 0


def _columns(lines: list[Line]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"


def _models() -> list[Line]:
    from llmco2.catalog.models import load_models  # noqa: PLC0415

    return [
        ("model", "family", "layers", "hidden", "heads/KV", "experts", "weights"),
        *(
            (
                model.model_id,
                model.family,
                str(model.n_attention_layers + model.n_recurrent_layers),
                str(model.hidden_dim),
                f"{model.n_heads}/{model.n_kv_heads}" if model.n_heads else "-",
                f"{model.experts_per_token} of {model.n_experts}" if model.n_experts else "-",
                model.checkpoint_precision,
            )
            for model in load_models().values()
        ),
    ]


def _aliases(lines: list[Line], pattern: str, shown: set[str]) -> Iterable[Line]:
    """Yield models that are known by another name with ``pattern`` in it: same shape, so same answer."""
    from llmco2.catalog.models import load_aliases  # noqa: PLC0415

    by_id = {line[0]: line for line in lines}
    for alias, model_id, precision in load_aliases():
        if pattern in alias.casefold() and model_id not in shown:
            line = by_id[model_id]
            yield (alias, *line[1:-1], f"{precision or line[-1]}  shape of {model_id}")


def _gpus() -> list[Line]:
    from llmco2.catalog.gpus import load_gpus  # noqa: PLC0415

    return [
        ("gpu", "architecture", "memory", "power limit", "precisions"),
        *(
            (
                gpu.gpu_id,
                gpu.architecture,
                memory_text(gpu.memory_bytes),
                f"{gpu.tdp_w:g} W",
                " ".join(gpu.peak_flops_per_s),
            )
            for gpu in load_gpus().values()
        ),
    ]


def _zones() -> list[Line]:
    from llmco2.catalog.grids import all_zones  # noqa: PLC0415

    return [
        ("zone", "name", "gCO2e/kWh", "date"),
        *(
            (
                zone.zone_id,
                zone.name,
                three_digits(zone.carbon_intensity_gco2e_per_kwh, trim=True),
                zone.date,
            )
            for zone in all_zones()
        ),
    ]
