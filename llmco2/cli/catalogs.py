"""``llmco2 models|gpus|zones|engines|precisions [TEXT]``: listings; ``llmco2 models|gpus show NAME``: one entry.

Invariant: a listing and an entry print the same facts as a table or, with ``--format json``, as an array of objects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from llmco2.errors import InputError, explain, nearest_names
from llmco2.report.quantities import memory_text, three_digits

Line = tuple[str, ...]
_HELP: Final = {
    "models": "list the known models, or show one",
    "gpus": "list the known GPUs, or show one",
    "zones": "list the known grid zones and cloud regions",
    "engines": "list the serving engines",
    "precisions": "list the number formats",
}
_SHOW: Final = "show"
_EPILOGS: Final = {
    "models": "llmco2 models show NAME prints what is understood of one model: layers by kind, parameters, the format\n"
    "of each part, bytes read per token. NAME may be a name, a folder with a config.json, or that file.",
    "gpus": "llmco2 gpus show NAME prints what is known of one GPU; NAME may be an id, an alias, what the\n"
    "driver calls it, a cloud instance (p5.48xlarge), Slurm's gpu:h100:4 or a JSON datasheet.",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the listings."""
    for name, text in _HELP.items():
        parser = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=_EPILOGS.get(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "pattern", metavar="TEXT", nargs="?", default="", help="show the entries that contain this text"
        )
        if name in _entries():
            parser.add_argument("name", metavar="NAME", nargs="?", help=f"with {_SHOW}: the entry to show")
        parser.add_argument(
            "--format",
            choices=("table", "json"),
            metavar="table|json",
            default="table",
            help="how (default: table)",
        )


def run(args: argparse.Namespace) -> int:
    """Print the entries that contain the pattern, or the one to show; raises InputError where there is none."""
    named = getattr(args, "name", None)
    if args.command in _entries() and args.pattern == _SHOW:
        if named is None:
            what = args.command.removesuffix("s")
            raise InputError(
                explain(f"the {what} to show is missing", expected=f"llmco2 {args.command} {_SHOW} NAME")
            )
        _print_entry(_entries()[args.command](named), args.format)
        return 0
    if named is not None:
        raise InputError(
            explain(
                "unexpected argument",
                got=repr(named),
                expected=f"llmco2 {args.command} TEXT, or {_SHOW} NAME",
            )
        )
    _print_listing(args.command, args.pattern, args.format)
    return 0


def _print_listing(command: str, asked: str, kind: str) -> None:
    header, *lines = _LISTINGS[command]()
    pattern = asked.casefold()
    shown = [line for line in lines if pattern in " ".join(line).casefold()]
    if pattern and command == "models":
        shown += _aliases(lines, pattern, {line[0] for line in shown})
    if not shown:
        near = nearest_names(asked, [line[0] for line in lines])
        remedy = f"did you mean {', '.join(near)}?" if near else f"llmco2 {command} lists them all"
        raise InputError(explain(f"no entry of {command} matches", got=repr(asked), remedy=remedy))
    if kind == "json":
        names = [name.replace(" ", "_") for name in header]
        _print_json([dict(zip(names, line, strict=True)) for line in shown])
    else:
        sys.stdout.writelines(_columns([header, *shown]))


def _print_entry(facts: Mapping[str, Any], kind: str) -> None:
    if kind == "json":
        _print_json([facts])
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, "", (), []):
            sys.stdout.write(f"{name.ljust(width)}  {_fact_text(value)}\n")


def _print_json(entries: list[Any]) -> None:
    import json  # noqa: PLC0415

    sys.stdout.write(json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _fact_text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,.12g}" if isinstance(value, float) else str(value)


def _entries() -> Mapping[str, Callable[[str], Mapping[str, Any]]]:
    """Return what makes the facts of one entry, by command."""
    return {"models": _model_facts, "gpus": _gpu_facts}


def _model_facts(name: str) -> Mapping[str, Any]:
    from llmco2.cli.model_facts import model_facts  # noqa: PLC0415

    return model_facts(name)


def _gpu_facts(name: str) -> Mapping[str, Any]:
    from llmco2.cli.gpu_facts import gpu_facts  # noqa: PLC0415

    return gpu_facts(name)


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


def _engines() -> list[Line]:
    from llmco2.records.engines import ENGINES  # noqa: PLC0415

    return [
        ("engine", "description", "also called"),
        *((engine.name, engine.description, ", ".join(engine.aliases)) for engine in ENGINES.values()),
    ]


def _precisions() -> list[Line]:
    from llmco2.catalog.precisions import PRECISIONS  # noqa: PLC0415

    return [
        ("precision", "weight bytes", "activation bytes", "quantised", "runs on", "also called"),
        *(
            (
                precision.name,
                f"{precision.weight_bytes_per_element:.4g}",
                f"{precision.activation_bytes_per_element:.4g}",
                str(precision.quantised),
                " ".join(precision.compute_peaks),
                ", ".join(precision.aliases),
            )
            for precision in PRECISIONS
        ),
    ]


_LISTINGS: Final[Mapping[str, Callable[[], list[Line]]]] = {
    "models": _models,
    "gpus": _gpus,
    "zones": _zones,
    "engines": _engines,
    "precisions": _precisions,
}
