"""``llmco2 export``: the machine's energy and carbon, and its serving engines', for Prometheus.

Invariant: counts survive a restart through the state file; SIGTERM and SIGINT end the exporter with its counts saved.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmco2.cli.arguments import number, whole
from llmco2.errors import InputError, LLMCO2Error, explain

if TYPE_CHECKING:
    from llmco2.carbon.factors import CarbonFactors
    from llmco2.measurement.meters.meter import EnergyMeter
    from llmco2.serving.exporter import Exporter
    from llmco2.serving.opening import ServerOptions
    from llmco2.serving.session import ServerSession

DEFAULT_PORT: Final = 9877
_SAVE_S: Final = 15.0
_SIMULATED_POWER_W: Final = 300.0
_EXAMPLES: Final = """examples:
  llmco2 export --prometheus 127.0.0.1:9877
  llmco2 export --prometheus :9877 --server http://127.0.0.1:8000 --zone FRA --state counts.json
"""


def add_parser(subparsers: Any) -> None:
    """Add ``export`` and its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "export",
        help="publish energy and carbon, measured and predicted, for Prometheus",
        description="Publish the energy and carbon of this machine's GPUs and of its serving engines,\n"
        "measured and predicted, for Prometheus.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--prometheus", default=f"127.0.0.1:{DEFAULT_PORT}", metavar="HOST:PORT",
        help=f"where to listen; :PORT is every address (default: 127.0.0.1:{DEFAULT_PORT})",
    )  # fmt: skip
    parser.add_argument(
        "--otlp",
        metavar="URL",
        help="send them to an OpenTelemetry collector too, such as http://127.0.0.1:4318",
    )
    parser.add_argument(
        "--server", action="append", metavar="URL", help="a serving engine (again for another)"
    )
    parser.add_argument(
        "--server-gpus",
        action="append",
        metavar="I,J",
        help="GPUs of the server before it (default: its processes')",
    )
    parser.add_argument("--served-model", metavar="NAME", help="which one, where a server serves several")
    parser.add_argument(
        "--model", metavar="MODEL", help="what is served, where the catalog lacks its served name"
    )
    parser.add_argument("--tensor-parallel", type=whole, metavar="N", help="GPUs that share the model")
    parser.add_argument("--precision", metavar="NAME", help="of weights and activations")
    parser.add_argument("--zone", metavar="ZONE", help="grid zone (default: the world's average)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keeps the counts over restarts")
    parser.add_argument(
        "--interval", type=number, default=2.0, metavar="S", help="between looks (default: 2)"
    )
    parser.add_argument("--simulate", action="store_true", help="one simulated GPU at 300 W, marked as such")


def run(args: argparse.Namespace) -> int:
    """Publish until a signal comes; return the exit code."""
    host, port = listening_address(args.prometheus)
    if args.otlp is not None:
        from llmco2.serving.client import checked_url  # noqa: PLC0415 - only where something is exported

        checked_url(args.otlp)
    if not 0.5 <= args.interval <= 3600:
        raise InputError(explain("--interval is out of range", got=args.interval, expected="0.5 to 3600 s"))
    from llmco2.serving.tally import Tally  # noqa: PLC0415 - only where something is exported

    options = _servers(args)
    tally = Tally() if args.state is None else Tally.load(args.state)
    if args.state is not None:
        tally.save(args.state)  # a folder that cannot be written is said now, not after a day
    if args.zone is not None:
        from llmco2.catalog.grids import resolve_zone  # noqa: PLC0415 - as above

        resolve_zone(args.zone)
    factors = _factors(args.zone)
    stopping = threading.Event()
    with ExitStack() as stack, _signals(stopping):
        meter = stack.enter_context(_meter(simulate=args.simulate))
        sessions = _sessions(options, meter, factors)
        for session in sessions:
            stack.callback(session.close)
        exporter = _exporter(args, meter, sessions, factors, tally)
        stack.enter_context(serving_metrics(exporter, host, port))
        if args.otlp is not None:
            stack.callback(_start_otlp(exporter, args.otlp))
        print(f"llmco2: metrics at http://{host or 'localhost'}:{port}/metrics", file=sys.stderr, flush=True)
        look_until(exporter, stopping, interval_s=float(args.interval), state=args.state)
    return 0


def _start_otlp(exporter: Exporter, url: str) -> Callable[[], None]:
    import llmco2  # noqa: PLC0415 - numpy
    from llmco2.serving.otel import start_export  # noqa: PLC0415 - for a collector only

    return start_export(exporter, url, every_s=_SAVE_S, version=llmco2.__version__)


def listening_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``:PORT`` (every address) or ``PORT`` (loopback)."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or " " in host:
        raise InputError(
            explain("--prometheus is no address", got=repr(text), expected="HOST:PORT, such as :9877")
        )
    return host.strip("[]") or ("" if colon else "127.0.0.1"), int(port)


def look_until(
    exporter: Exporter, stopping: threading.Event, *, interval_s: float, state: Path | None
) -> None:
    """Look every ``interval_s`` until ``stopping`` is set; save the counts now and then, and at the end."""
    since_s = 0.0
    try:
        while not stopping.is_set():
            exporter.look()
            since_s += interval_s
            if state is not None and since_s >= _SAVE_S:
                since_s = 0.0
                _save(exporter, state)
            stopping.wait(interval_s)
    finally:
        if state is not None:
            _save(exporter, state)


def _save(exporter: Exporter, state: Path) -> None:
    try:
        exporter.tally.save(state)
    except InputError as error:  # a full disk costs counts over a restart, not the metrics
        print(f"llmco2: {error}", file=sys.stderr, flush=True)


@contextmanager
def serving_metrics(exporter: Exporter, host: str, port: int) -> Iterator[None]:
    """Answer scrapes at ``/metrics`` while the context lasts; ``InputError`` where the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - as above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    try:
        server, thread = start_http_server(port, addr=host or "0.0.0.0", registry=registry)
    except OSError as error:
        where = f"{host or 'every address'}, port {port}"
        raise InputError(explain(f"cannot listen on {where}", got=error.strerror or error)) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5.0)


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loop, and give the handlers back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for each in before:
        signal.signal(each, lambda *_: stopping.set())
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _meter(*, simulate: bool) -> Iterator[EnergyMeter]:
    from llmco2.measurement.meters.zeus_meter import ZeusMeter, open_meter  # noqa: PLC0415 - as above

    with ExitStack() as stack:
        if simulate:
            from llmco2.measurement.simulation.rig import SimulatedNvml  # noqa: PLC0415 - for a simulation only

            rig = stack.enter_context(SimulatedNvml(1, use_compiler=False))
            rig.set_power(0, _SIMULATED_POWER_W)
            yield stack.enter_context(ZeusMeter(clock=rig.clock, windows=False))
        else:
            yield stack.enter_context(open_meter(windows=False))


def _servers(args: argparse.Namespace) -> ServerOptions:
    from llmco2.serving.client import checked_url  # noqa: PLC0415 - as above
    from llmco2.serving.deployment import Given  # noqa: PLC0415 - as above
    from llmco2.serving.opening import ServerOptions, gpu_indices  # noqa: PLC0415 - as above

    urls = tuple(args.server or ())
    for url in urls:
        checked_url(url)
    said = tuple(gpu_indices(text) for text in args.server_gpus or ())
    if said and len(said) != len(urls):
        got = f"{len(said)} for {len(urls)} servers"
        raise InputError(explain("--server-gpus", got=got, expected="one for each"))
    given = Given(model=args.model, tensor_parallel=args.tensor_parallel, precision=args.precision)
    return ServerOptions(urls=urls, gpus=said, served_model=args.served_model, given=given)


def _sessions(
    options: ServerOptions, meter: EnergyMeter, factors: Callable[[str], CarbonFactors | None]
) -> list[ServerSession]:
    import llmco2  # noqa: PLC0415 - numpy
    from llmco2.serving.memory import Memory  # noqa: PLC0415 - as above
    from llmco2.serving.opening import open_sessions  # noqa: PLC0415 - as above

    memory = None if meter.simulated else Memory()
    return open_sessions(
        options, meter, meter.clock, lambda asked: llmco2.predict(**asdict(asked)), factors, memory
    )


def _factors(zone: str | None) -> Callable[[str], CarbonFactors | None]:
    from llmco2.carbon.factors import resolve_factors  # noqa: PLC0415 - as above
    from llmco2.catalog.gpus import resolve_gpu  # noqa: PLC0415 - as above

    known: dict[str, CarbonFactors | None] = {}

    def answer(gpu: str) -> CarbonFactors | None:
        if gpu not in known:
            try:
                known[gpu] = resolve_factors(resolve_gpu(gpu).gpu_id, zone=zone)
            except LLMCO2Error:
                known[gpu] = None
        return known[gpu]

    return answer


def _exporter(
    args: argparse.Namespace,
    meter: EnergyMeter,
    sessions: list[ServerSession],
    factors: Callable[[str], CarbonFactors | None],
    tally: Any,
) -> Exporter:
    import llmco2  # noqa: PLC0415 - numpy
    from llmco2.catalog.grids import WORLD_ZONE_ID, resolve_zone  # noqa: PLC0415 - as above
    from llmco2.serving.exporter import Exporter, GridFacts  # noqa: PLC0415 - as above

    zone = resolve_zone(args.zone or WORLD_ZONE_ID)
    grid = GridFacts(
        zone=zone.zone_id,
        source=zone.source,
        carbon_intensity_gco2e_per_kwh=zone.carbon_intensity_gco2e_per_kwh,
    )
    return Exporter(meter, sessions, factors=factors, grid=grid, version=llmco2.__version__, tally=tally)
