"""What ``llmco2 export`` publishes: the machine's GPUs and its serving engines, as Prometheus metrics.

Invariant: a scrape reads memory and never a GPU or a server; what is not known has no series; a label takes a bounded
number of values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import MeasurementError
from llmco2.measurement.meters.meter import Device, EnergyMeter, Sample
from llmco2.serving import export_names as names
from llmco2.serving.comparing import ServerComparison, operational_gco2e
from llmco2.serving.errors import ServerError
from llmco2.serving.exposition import printable
from llmco2.serving.session import ServerSession
from llmco2.serving.tally import Tally
from llmco2.units import JOULES_PER_KWH

MOST_MODELS: Final = 20  # of one server; further names are counted together
OTHER: Final = "other"
_LONGEST_LABEL: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFacts:
    """The grid whose carbon is counted."""

    zone: str
    source: str
    carbon_intensity_gco2e_per_kwh: float


@dataclass(slots=True)
class _GpuState:
    """The newest reading of one GPU."""

    device: Device
    sample: Sample | None = None
    counted: Sample | None = None  # the newest one with a counter


@dataclass(slots=True)
class _ServerState:
    """What was last seen of one server."""

    session: ServerSession
    models: set[str] = field(default_factory=set)
    error_ratio: tuple[str, float] | None = None  # model, ratio
    restarts: int = 0


class Exporter(Collector):
    """Looks at GPUs and servers at every ``look``, and answers scrapes from what it saw."""

    def __init__(
        self,
        meter: EnergyMeter,
        sessions: Sequence[ServerSession],
        *,
        factors: Callable[[str], CarbonFactors | None],
        grid: GridFacts,
        version: str,
        tally: Tally | None = None,
    ) -> None:
        """``factors`` answers for the name of a GPU; ``tally`` holds the counts of earlier runs."""
        self._meter, self._factors = meter, factors
        self._grid, self._version = grid, version
        self.tally = tally or Tally()
        self._lock = threading.Lock()
        self._gpus = {device.index: _GpuState(device=device) for device in meter.devices()}
        self._servers = [_ServerState(session=session) for session in sessions]
        for state in self._servers:
            seen = (
                labels[1]
                for labels, _ in self.tally.values(names.OUTPUT_TOKENS.name)
                if labels[0] == state.session.url
            )
            state.models.update(list(seen)[:MOST_MODELS])

    def look(self) -> None:
        """Read every GPU and server once; what cannot be read is left as it was and marked down."""
        try:
            samples = self._meter.sample()
        except MeasurementError:
            samples = ()
        with self._lock:
            for sample in samples:
                self._count_gpu(sample)
        for state in self._servers:
            self._look_at(state)

    def _look_at(self, state: _ServerState) -> None:
        try:
            state.session.look(self._meter.sample)
        except (ServerError, MeasurementError):
            return
        found = state.session.step()
        with self._lock:
            self._count_restarts(state)
            if found is not None:
                self._count_interval(state, found)

    def _count_gpu(self, sample: Sample) -> None:
        state = self._gpus.get(sample.gpu_index)
        if state is None:
            return
        state.sample = sample
        if sample.stale_since_s is not None or sample.energy_counter_j is None:
            return
        before, state.counted = state.counted, sample
        if before is None or before.energy_counter_j is None:
            return
        drawn_j = sample.energy_counter_j - before.energy_counter_j
        seconds = sample.t_s - before.t_s
        if drawn_j < 0 or seconds <= 0:
            return  # a reloaded driver counts anew: what it drew meanwhile is not known
        labels = _gpu_labels(state.device)
        self.tally.add(names.GPU_ENERGY.name, labels, drawn_j)
        factors = self._factors(state.device.name)
        if factors is not None:
            self.tally.add(names.GPU_CARBON.name, labels, operational_gco2e(drawn_j, seconds, 1, factors))

    def _count_restarts(self, state: _ServerState) -> None:
        more = state.session.server.watch.restarts - state.restarts
        state.restarts += more
        self.tally.add(names.SERVER_RESTARTS.name, (state.session.url,), float(more))

    def _count_interval(self, state: _ServerState, found: ServerComparison) -> None:
        labels = (state.session.url, self._model(state))
        add = self.tally.add
        add(names.OUTPUT_TOKENS.name, labels, found.output_tokens)
        add(names.PROMPT_TOKENS.name, labels, found.interval.prompt_tokens)
        add(names.MEASURED.name, labels, found.measured_j)
        add(names.MEASURED_CARBON.name, labels, found.measured_gco2e)
        add(names.PREDICTED_CARBON.name, labels, found.predicted_gco2e)
        predicted = found.predicted
        if predicted is None:
            return
        for phase, joules in (
            ("prefill", predicted.prefill_j),
            ("decode", predicted.decode_j),
            ("idle", predicted.idle_j),
        ):
            add(names.PREDICTED.name, (*labels, phase), joules)
        if found.measured_j is None:
            return
        add(names.COMPARED_MEASURED.name, labels, found.measured_j)
        add(names.COMPARED_PREDICTED.name, labels, predicted.energy_j)
        add(names.COMPARED_LOW.name, labels, predicted.low_j)
        add(names.COMPARED_HIGH.name, labels, predicted.high_j)
        if found.error_percent is not None:
            state.error_ratio = (labels[1], found.error_percent / 100.0)

    def _model(self, state: _ServerState) -> str:
        """Return the label of what a server serves; beyond the limit, one for all others."""
        newest = state.session.server.watch.newest
        identity = state.session.server.identity
        name = (
            (newest.sample.model if newest else None)
            or (identity.served_model if identity else None)
            or "unknown"
        )
        shown = printable(name, _LONGEST_LABEL)
        if shown in state.models:
            return shown
        if len(state.models) >= MOST_MODELS:
            self.tally.add(names.DROPPED.name, (state.session.url,), 1.0)
            return OTHER
        state.models.add(shown)
        return shown

    def collect(self) -> Iterable[Family]:
        """Return every family of metrics as of the newest look."""
        with self._lock:
            families = {metric.name: _family(metric) for metric in names.METRICS}
            for metric in names.METRICS:
                if metric.kind == names.COUNTER:
                    for labels, count in self.tally.values(metric.name):
                        if len(labels) == len(metric.labels):
                            families[metric.name].add_metric(labels, count)
            self._gauges(families)
        return [family for family in families.values() if family.samples]

    def _gauges(self, families: dict[str, CounterMetricFamily | GaugeMetricFamily]) -> None:
        for state in self._gpus.values():
            labels, sample = _gpu_labels(state.device), state.sample
            is_up = sample is not None and sample.stale_since_s is None
            families[names.GPU_UP.name].add_metric(labels, float(is_up))
            if is_up and sample is not None and sample.power_w is not None:
                families[names.GPU_POWER.name].add_metric(labels, sample.power_w)
        for server in self._servers:
            session = server.session
            is_read = session.trouble is None and session.server.watch.newest is not None
            families[names.SERVER_UP.name].add_metric((session.url,), float(is_read))
            families[names.SERVER_GPUS.name].add_metric((session.url,), float(len(session.gpus.indices)))
            if server.error_ratio is not None and is_read:
                model, ratio = server.error_ratio
                families[names.ERROR.name].add_metric((session.url, model), ratio)
        self._factor_gauges(families)

    def _factor_gauges(self, families: dict[str, CounterMetricFamily | GaugeMetricFamily]) -> None:
        grid = self._grid
        intensity = grid.carbon_intensity_gco2e_per_kwh / JOULES_PER_KWH
        families[names.INTENSITY.name].add_metric((grid.zone,), intensity)
        for gpu_name in {state.device.name for state in self._gpus.values()}:
            factors = self._factors(gpu_name)
            if factors is not None:
                families[names.PUE.name].add_metric((printable(gpu_name),), factors.pue.value)
        simulated = "true" if self._meter.simulated else "false"
        facts = (self._version, grid.zone, printable(grid.source, _LONGEST_LABEL), simulated)
        families[names.INFO.name].add_metric(facts, 1.0)


def _gpu_labels(device: Device) -> tuple[str, str, str]:
    return (str(device.index), printable(device.uuid), printable(device.name))


def _family(metric: names.Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == names.COUNTER else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
