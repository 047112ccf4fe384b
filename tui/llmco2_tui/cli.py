"""``llmco2 monitor``: the screen, or one reading without it.

Invariant: nothing of textual is imported before a screen is wanted, and what is typed wrong is one line before
anything is opened.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any, Final

from llmco2.cli.arguments import number, whole
from llmco2.errors import InputError, MeasurementError, explain
from llmco2.records.request import InferenceRequest

_SCENES: Final = ("one", "eight", "mig", "shared", "lost", "no-counter", "throttled")
_REQUEST: Final[dict[str, tuple[Any, str, str]]] = {
    "gpu": (str, "GPU", "GPU of the request (default: the one being watched)"),
    "tensor_parallel": (whole, "N", "GPUs that share the model"),
    "batch_size": (number, "N", "requests in the batch"),
    "prompt_tokens": (number, "N", "prompt tokens of one request"),
    "output_tokens": (number, "N", "output tokens of one request"),
    "engine": (str, "NAME", "serving engine"),
    "precision": (str, "NAME", "of weights and activations"),
}
_OF_THE_LOAD: Final = ("batch_size", "prompt_tokens", "output_tokens")  # which a server's own counters tell
_EXPORTS: Final = (".csv", ".json", ".svg")
_MIN_RATE_HZ: Final = 0.1
_MAX_RATE_HZ: Final = 10.0
_MAX_SPEED: Final = 1e6
_EXAMPLES: Final = """examples:
  llmco2 monitor                    the GPUs of this machine
  llmco2 monitor --replay           the recorded session that ships
  llmco2 monitor --simulate eight   eight simulated GPUs at work
  llmco2 monitor --campaign runs.jsonl --plan quick.yaml
  llmco2 monitor Qwen/Qwen3-8B --gpu H100 --batch-size 8 --record session.jsonl
  llmco2 monitor --json             one reading, for scripts
  llmco2 monitor --server http://127.0.0.1:8000
  llmco2 monitor --server http://127.0.0.1:8000 --server-gpus 0,1 --once --json
  llmco2 monitor --prometheus http://prometheus:9090
  llmco2 monitor --replay session.jsonl --export session.csv
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 monitor``."""
    parser = subparsers.add_parser(
        "monitor",
        help="watch GPU energy live, predicted and measured side by side",
        description="Watch what the GPUs draw, what the work has cost, and how far llmco2's\n"
        "prediction is off.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="predict for this request while watching")
    for name, (kind, metavar, text) in _REQUEST.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument("--zone", metavar="ZONE", help="grid zone (default: the world's average)")
    parser.add_argument(
        "--calibration", metavar="FILE", help="file that llmco2 calibrate wrote from runs of your own"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="checkpoint to predict from, its .json (default: the one that ships)",
    )
    source = parser.add_argument_group("what to watch (default: the GPUs of this machine)")
    source.add_argument(
        "--simulate", nargs="?", const="one", choices=_SCENES, metavar="MACHINE",
        help=f"simulated GPUs, marked as such: {', '.join(_SCENES)} (default: one)",
    )  # fmt: skip
    source.add_argument(
        "--replay", nargs="?", const="", metavar="FILE", help="a recording (default: the one that ships)"
    )
    source.add_argument(
        "--speed", type=number, metavar="X", help="of the replay, times real time (default: 1)"
    )
    source.add_argument(
        "--server", action="append", metavar="URL",
        help="a serving engine whose work is predicted and held against its GPUs (again for another)",
    )  # fmt: skip
    source.add_argument(
        "--server-gpus", action="append", metavar="I,J",
        help="GPUs of the server before it (default: those of its processes)",
    )  # fmt: skip
    source.add_argument("--served-model", metavar="NAME", help="which one, where a server serves several")
    source.add_argument("--prometheus", metavar="URL", help="the hosts that a Prometheus scrapes, as a table")
    source.add_argument("--campaign", type=Path, metavar="FILE", help="follow the output of llmco2 measure")
    source.add_argument("--plan", type=Path, metavar="FILE", help="the campaign's YAML, for its progress")
    parser.add_argument("--rate", type=number, default=1.0, metavar="HZ", help="readings a second, 0.1 to 10")
    out = parser.add_argument_group("output")
    out.add_argument("--record", type=Path, metavar="FILE", help="record the session to a new file")
    out.add_argument(
        "--once", action="store_true", help="print one reading (of a replay: its sums) and leave"
    )
    out.add_argument("--json", action="store_true", help="the same as JSON")
    out.add_argument("--export", type=Path, metavar="FILE", help="with --replay: write .csv, .json or .svg")
    out.add_argument("--ascii", action="store_true", help="plain ASCII, for consoles without Unicode")
    out.add_argument("--light", action="store_true", help="light colours (d changes them)")


def run(args: argparse.Namespace) -> int:
    """Show the screen, or print one reading; return the exit code."""
    if args.prometheus is not None:
        from llmco2_tui.fleet import run_fleet  # noqa: PLC0415 - for many hosts only

        return run_fleet(args)
    _check(args)
    request = _request(args)
    if args.once or args.json or args.export is not None:
        from llmco2_tui.headless import print_once  # noqa: PLC0415 - the screen needs none of it

        return print_once(args, request, sources(args))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            explain(
                "the screen needs a terminal",
                got="a pipe or a file",
                remedy="use --once or --json in scripts",
            )
        )
    return _screen(args, request)


def sources(args: argparse.Namespace) -> Any:
    """Return the sources that the options name."""
    from llmco2_tui.predicting import predictor  # noqa: PLC0415
    from llmco2_tui.sources import LIVE, REPLAY, SIMULATED, MachineSources  # noqa: PLC0415

    first = SIMULATED if args.simulate else REPLAY if args.replay is not None else LIVE
    return MachineSources(
        first=first,
        scene=args.simulate or "one",
        recording=Path(args.replay) if args.replay else None,
        speed=float(1.0 if args.speed is None else args.speed),
        servers=_servers(args),
        predict=predictor(checkpoint=args.checkpoint, calibration=args.calibration),
        zone=args.zone,
    )


def _servers(args: argparse.Namespace) -> Any:
    """Return the servers to watch, with what the options of the request say of them."""
    from llmco2.serving.deployment import Given  # noqa: PLC0415 - the screen alone needs none of it
    from llmco2.serving.opening import ServerOptions, gpu_indices  # noqa: PLC0415

    urls = tuple(args.server or ())
    said = {name: getattr(args, name) for name in _REQUEST if name not in _OF_THE_LOAD}
    return ServerOptions(
        urls=urls,
        gpus=tuple(gpu_indices(text) for text in args.server_gpus or ()),
        served_model=args.served_model,
        given=Given(model=args.model, output_tokens=args.output_tokens, **said) if urls else Given(),
    )


def _with_asked_gpus(found: Any) -> Any:
    """Return sources whose servers' GPUs are known, asking at the terminal for those that nothing tells."""
    from dataclasses import replace  # noqa: PLC0415

    from llmco2_tui.sources import LIVE  # noqa: PLC0415

    if not found.servers.urls or found.first != LIVE:
        return found
    from llmco2.measurement.meters.zeus_meter import open_meter  # noqa: PLC0415
    from llmco2.serving.memory import Memory  # noqa: PLC0415
    from llmco2.serving.opening import ask_for_gpus  # noqa: PLC0415

    try:
        with open_meter(windows=False) as meter:
            devices = meter.devices()
    except MeasurementError:
        return found  # the screen says why there is no GPU
    return replace(found, servers=ask_for_gpus(found.servers, devices, input, Memory()))


def _screen(args: argparse.Namespace, request: InferenceRequest | None) -> int:
    from llmco2_tui.app import MonitorApp  # noqa: PLC0415 - textual, for the screen only
    from llmco2_tui.glyphs import filter_for  # noqa: PLC0415
    from llmco2_tui.grid import GridAccount  # noqa: PLC0415
    from llmco2_tui.options import Options  # noqa: PLC0415
    from llmco2_tui.predicting import known_names, known_zones, predictor  # noqa: PLC0415
    from llmco2_tui.summary import session_text  # noqa: PLC0415
    from llmco2_tui.terminal import lasting_terminal  # noqa: PLC0415

    app = MonitorApp(
        _with_asked_gpus(sources(args)),
        predictor(checkpoint=args.checkpoint, calibration=args.calibration),
        Options(
            rate_hz=float(args.rate),
            zone=args.zone,
            request=request,
            campaign=_follower(args),
            record=_recorder(args),
            glyphs=filter_for(
                ascii_only=args.ascii,
                term=os.environ.get("TERM", ""),
                encoding=sys.stdout.encoding or "ascii",
            ),
            light=args.light,
            export_dir=Path.cwd(),
            names=known_names(),
            zones=known_zones,
            account=lambda zone: GridAccount(zone, today=date.today()),
        ),
    )
    with lasting_terminal():
        app.run()
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        recording = "" if args.record is None else str(args.record)
        print(session_text(app.monitor_state, recording=recording), flush=True)
    return app.return_code or 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be, before anything is opened."""
    if args.simulate and args.replay is not None:
        raise InputError(explain("--simulate and --replay", expected="one of them"))
    if not _MIN_RATE_HZ <= args.rate <= _MAX_RATE_HZ:
        raise InputError(explain("--rate is out of range", got=args.rate, expected="0.1 to 10 Hz"))
    if args.speed is not None and args.replay is None:
        raise InputError(explain("--speed without a replay", remedy="add --replay"))
    if args.speed is not None and not 0 < args.speed <= _MAX_SPEED:
        raise InputError(explain("--speed is out of range", got=args.speed, expected="above 0, to 1,000,000"))
    if args.plan is not None and args.campaign is None:
        raise InputError(explain("--plan without a campaign", remedy="add --campaign FILE"))
    _check_output(args)
    _check_servers(args)
    if args.zone is not None:
        from llmco2.catalog.grids import resolve_zone  # noqa: PLC0415

        resolve_zone(args.zone)
    if args.checkpoint is not None or args.calibration is not None:
        from llmco2.predictor.calibration import load_calibration  # noqa: PLC0415 - numpy
        from llmco2.predictor.checkpoint import load_checkpoint  # noqa: PLC0415

        load_calibration(args.calibration, gpu_id="", engine="", checkpoint=load_checkpoint(args.checkpoint))


def _check_servers(args: argparse.Namespace) -> None:
    """Refuse what does not go with servers, and servers that are no URL."""
    if args.server is None:
        name = "--server-gpus" if args.server_gpus else "--served-model" if args.served_model else None
        if name is not None:
            raise InputError(explain(f"{name} without a server", remedy="add --server URL"))
        return
    from llmco2.serving.client import checked_url  # noqa: PLC0415 - the screen alone needs none of it
    from llmco2.serving.opening import gpu_indices  # noqa: PLC0415 - as above

    for url in args.server:
        checked_url(url)
    for text in args.server_gpus or ():
        gpu_indices(text)
    if args.replay is not None:
        raise InputError(explain("--server and --replay", expected="one of them"))
    if args.server_gpus is not None and len(args.server_gpus) != len(args.server):
        raise InputError(
            explain(
                "--server-gpus",
                got=f"{len(args.server_gpus)} for {len(args.server)} servers",
                expected="one for each",
            )
        )
    for name in ("batch_size", "prompt_tokens"):
        if getattr(args, name) is not None:
            option = name.replace("_", "-")
            raise InputError(
                explain(f"--{option} with a server", remedy="leave it out: the server's counters tell it")
            )


def _check_output(args: argparse.Namespace) -> None:
    if args.record is not None:
        if args.replay is not None:
            raise InputError(explain("a recording cannot be recorded again", remedy="copy the file"))
        if args.once or args.json:
            raise InputError(explain("--record with one reading", remedy="leave out --once and --json"))
        if args.record.exists():
            raise InputError(explain(f"{args.record} exists", remedy="choose another name for --record"))
    if args.export is not None:
        if args.replay is None:
            raise InputError(explain("--export without a recording", remedy="add --replay FILE"))
        if args.export.suffix not in _EXPORTS:
            raise InputError(
                explain("--export knows no such format", got=str(args.export), expected=", ".join(_EXPORTS))
            )


def _request(args: argparse.Namespace) -> InferenceRequest | None:
    if args.server is not None:
        return None  # the server tells what runs; MODEL and its options say what it does not
    given = {name: getattr(args, name) for name in _REQUEST if getattr(args, name) is not None}
    if args.model is None:
        if given:
            name = next(iter(given)).replace("_", "-")
            raise InputError(explain(f"--{name} without a model", expected="MODEL --gpu GPU …"))
        return None
    if "gpu" not in given:
        given["gpu"] = _watched_gpu(args)
    return InferenceRequest(model=args.model, **given)


def _watched_gpu(args: argparse.Namespace) -> str:
    """Return the name of the first GPU that is watched; ``InputError`` where there is none to read."""
    if args.simulate is not None:
        from llmco2_tui.simulation import GPU  # noqa: PLC0415

        return GPU
    if args.replay is not None:
        from llmco2.measurement.meters.session_file import read_session  # noqa: PLC0415
        from llmco2_tui.sources import demo_session  # noqa: PLC0415

        devices = read_session(Path(args.replay) if args.replay else demo_session()).devices
        if devices:
            return devices[0].name
        raise InputError(explain("no GPU is named", got="a recording without any", remedy="add --gpu GPU"))
    from llmco2.measurement.meters.zeus_meter import open_meter  # noqa: PLC0415

    try:
        with open_meter(windows=False) as meter:
            return meter.devices()[0].name
    except MeasurementError as error:
        raise InputError(explain("no GPU is named", got=str(error), remedy="add --gpu GPU")) from error


def _follower(args: argparse.Namespace) -> Any:
    if args.campaign is None:
        return None
    from llmco2_tui.campaign import CampaignFollower  # noqa: PLC0415

    return CampaignFollower(args.campaign, plan=args.plan)


def _recorder(args: argparse.Namespace) -> Any:
    if args.record is None:
        return None
    from llmco2.measurement.meters.session_file import SessionRecorder  # noqa: PLC0415

    return lambda source: SessionRecorder(args.record, source.meter)
