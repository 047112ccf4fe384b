"""The exporter's metrics through the OpenTelemetry SDK, over OTLP.

GPU energy and power bear the names of the hardware conventions (``hw.energy``, ``hw.power``); models and kinds of token
bear the attributes of the GenAI conventions. Neither convention names the predicted energy or the carbon of an
inference: those keep names of llmco2's own.

Invariant: an export reads what the exporter saw at its newest look, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from llmco2.extras import imported
from llmco2.serving import export_names as names
from llmco2.serving.exporter import Exporter

_WHAT: Final = "llmco2 export --otlp"
_LABELS: Final = {
    "uuid": "hw.id",
    "gpu_name": "hw.name",
    "gpu": "llmco2.gpu.index",
    "model": "gen_ai.request.model",
    "phase": "llmco2.phase",
    "zone": "llmco2.grid.zone",
}
_GPU: Final = {"hw.type": "gpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One OpenTelemetry instrument and the metric that it reads; ``fixed`` are attributes of all its points."""

    name: str
    unit: str
    metric: names.Metric
    fixed: dict[str, str] = field(default_factory=dict)


def _energy(metric: names.Metric, kind: str) -> Instrument:
    return Instrument(name="llmco2.server.energy", unit="J", metric=metric, fixed={"llmco2.source": kind})


def _carbon(metric: names.Metric, kind: str) -> Instrument:
    return Instrument(
        name="llmco2.server.co2e.operational", unit="g", metric=metric, fixed={"llmco2.source": kind}
    )


def _tokens(metric: names.Metric, kind: str) -> Instrument:
    return Instrument(
        name="llmco2.server.token.usage", unit="{token}", metric=metric, fixed={"gen_ai.token.type": kind}
    )


INSTRUMENTS: Final = (
    Instrument(name="hw.energy", unit="J", metric=names.GPU_ENERGY, fixed=_GPU),
    Instrument(name="hw.power", unit="W", metric=names.GPU_POWER, fixed=_GPU),
    Instrument(name="llmco2.gpu.co2e.operational", unit="g", metric=names.GPU_CARBON, fixed=_GPU),
    _tokens(names.OUTPUT_TOKENS, "output"),
    _tokens(names.PROMPT_TOKENS, "input"),
    _energy(names.MEASURED, "measured"),
    _energy(names.PREDICTED, "predicted"),
    _carbon(names.MEASURED_CARBON, "measured"),
    _carbon(names.PREDICTED_CARBON, "predicted"),
    Instrument(name="llmco2.server.prediction_error", unit="1", metric=names.ERROR),
    Instrument(name="llmco2.server.restarts", unit="{restart}", metric=names.SERVER_RESTARTS),
)


def attributes_of(labels: dict[str, str], fixed: dict[str, str]) -> dict[str, str | int]:
    """Return a series' labels as attributes; a server's URL becomes its address and port."""
    found: dict[str, str | int] = {_LABELS[name]: value for name, value in labels.items() if name in _LABELS}
    if "server" in labels:
        parts = urlsplit(labels["server"])
        found["server.address"] = parts.hostname or labels["server"]
        found["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    return found | fixed


def start_export(exporter: Exporter, endpoint: str, *, every_s: float, version: str) -> Callable[[], None]:
    """Send the exporter's metrics to an OTLP collector every ``every_s``; return what ends that.

    Raises:
        MissingExtraError: the extra ``otel`` is not installed.
    """
    reader_module = imported("opentelemetry.sdk.metrics.export", _WHAT)
    otlp = imported("opentelemetry.exporter.otlp.proto.http.metric_exporter", _WHAT)
    url = endpoint if urlsplit(endpoint).path not in ("", "/") else endpoint.rstrip("/") + "/v1/metrics"
    sender = otlp.OTLPMetricExporter(endpoint=url)
    reader = reader_module.PeriodicExportingMetricReader(sender, export_interval_millis=1e3 * every_s)
    end: Callable[[], None] = observe(exporter, reader, version=version).shutdown
    return end


def observe(exporter: Exporter, reader: Any, *, version: str) -> Any:
    """Return a meter provider whose ``reader`` reads the exporter's metrics."""
    api = imported("opentelemetry.metrics", _WHAT)
    sdk = imported("opentelemetry.sdk.metrics", _WHAT)
    resources = imported("opentelemetry.sdk.resources", _WHAT)
    resource = resources.Resource.create({"service.name": "llmco2", "service.version": version})
    provider = sdk.MeterProvider(metric_readers=[reader], resource=resource)
    meter = provider.get_meter("llmco2", version)
    by_name: dict[str, list[Instrument]] = {}
    for instrument in INSTRUMENTS:
        by_name.setdefault(instrument.name, []).append(instrument)
    for name, together in by_name.items():
        counts = together[0].metric.kind == names.COUNTER
        create = meter.create_observable_counter if counts else meter.create_observable_gauge
        create(name, callbacks=[_callback(exporter, together, api.Observation)], unit=together[0].unit,
               description=together[0].metric.help)  # fmt: skip
    return provider


def _callback(
    exporter: Exporter, together: Iterable[Instrument], observation: Any
) -> Callable[[Any], Iterator[Any]]:
    def read(_options: Any) -> Iterator[Any]:
        families = {family.name: family for family in exporter.collect()}
        for instrument in together:
            family = families.get(instrument.metric.name.removesuffix("_total"))
            family = family or families.get(instrument.metric.name)
            for sample in family.samples if family is not None else ():
                yield observation(sample.value, attributes_of(dict(sample.labels), instrument.fixed))

    return read
