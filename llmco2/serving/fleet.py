"""Many hosts, as a Prometheus that scrapes them knows them.

GPUs come from ``llmco2 export``, dcgm-exporter, nvitop-exporter and all-smi; engines from their own pages; predictions
from ``llmco2 export``.

Invariant: a GPU counts once, by its UUID, whoever publishes it and however many MIG slices or pods repeat its board's
power; what no exporter publishes is ``None`` and no zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from llmco2.carbon.factors import CarbonFactors
from llmco2.serving import export_names as names
from llmco2.serving import sample as q
from llmco2.serving.comparing import operational_gco2e, per
from llmco2.serving.engines import ENGINES
from llmco2.serving.errors import ServerError
from llmco2.serving.exposition import printable
from llmco2.serving.prometheus_api import Value
from llmco2.units import JOULES_PER_MILLIJOULE

WINDOW: Final = "5m"
WINDOW_S: Final = 300.0
Query = Callable[[str], list[Value]]

DCGM_POWER: Final = "DCGM_FI_DEV_POWER_USAGE"
DCGM_ENERGY: Final = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"  # mJ since the driver was loaded
POWER_SERIES: Final = (
    names.GPU_POWER.name,  # first: where two exporters publish a GPU, ours is taken
    DCGM_POWER,
    "gpu_power_usage_W",
    "all_smi_gpu_power_consumption_watts",
)
_INDEX_LABELS: Final = ("gpu", "gpu_index", "index")
_NAME_LABELS: Final = ("gpu_name", "modelName", "devicename")
_UUID_LABELS: Final = ("uuid", "UUID", "gpu_uuid")
_HOST_LABELS: Final = ("Hostname", "hostname", "host", "node", "kubernetes_node")
_MODEL_LABELS: Final = ("model_name", "model")
_HOUR_S: Final = 3600.0


@dataclass(slots=True, kw_only=True)
class FleetGpu:
    """One GPU; ``energy_j`` is of the last five minutes."""

    index: str
    uuid: str | None
    name: str | None
    power_w: float
    source: str  # the series that its power is from
    energy_j: float | None = None


@dataclass(slots=True, kw_only=True)
class FleetEngine:
    """One serving engine; rates are of the last five minutes."""

    instance: str
    engine: str | None  # None: its page names none that is known
    model: str | None
    output_tokens_per_s: float | None = None
    running: float | None = None


@dataclass(slots=True, kw_only=True)
class FleetHost:
    """One host with what is known of it."""

    name: str
    gpus: dict[str, FleetGpu] = field(default_factory=dict)  # by UUID, or by index where none is published
    engines: dict[tuple[str, str], FleetEngine] = field(default_factory=dict)  # by instance and model
    down: list[str] = field(default_factory=list)  # scraped targets that do not answer
    predicted_w: float | None = None  # of intervals with both sides, by llmco2 export
    compared_w: float | None = None  # measured, of the same
    gco2e_per_hour: float | None = None

    @property
    def power_w(self) -> float | None:
        """Instant power of its GPUs."""
        return math.fsum(gpu.power_w for gpu in self.gpus.values()) if self.gpus else None

    @property
    def energy_j(self) -> float | None:
        """Energy of its GPUs in the last five minutes; ``None`` where one has no counter."""
        known = [gpu.energy_j for gpu in self.gpus.values() if gpu.energy_j is not None]
        return math.fsum(known) if known and len(known) == len(self.gpus) else None

    @property
    def output_tokens_per_s(self) -> float | None:
        """Tokens that its engines generate."""
        known = [e.output_tokens_per_s for e in self.engines.values() if e.output_tokens_per_s is not None]
        return math.fsum(known) if known else None

    @property
    def joules_per_output_token(self) -> float | None:
        """GPU energy of the last five minutes over the tokens of the same; ``None`` for an idle host."""
        rate, energy_j = self.output_tokens_per_s, self.energy_j
        return per(energy_j, None if rate is None else rate * WINDOW_S)

    @property
    def error_percent(self) -> float | None:
        """Predicted over measured, in percent above; of what llmco2 export compared there."""
        if self.predicted_w is None or not self.compared_w:
            return None
        return 100.0 * (self.predicted_w - self.compared_w) / self.compared_w


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All hosts, by name, and what could not be asked."""

    hosts: tuple[FleetHost, ...]
    troubles: tuple[str, ...] = ()

    @property
    def n_gpus(self) -> int:
        """GPUs of all hosts."""
        return sum(len(host.gpus) for host in self.hosts)

    @property
    def power_w(self) -> float | None:
        """Instant power of all GPUs that are published."""
        return _sum(host.power_w for host in self.hosts)

    @property
    def gco2e_per_hour(self) -> float | None:
        """Operational grams of an hour at this power, of the hosts whose GPUs have factors."""
        return _sum(host.gco2e_per_hour for host in self.hosts)

    @property
    def output_tokens_per_s(self) -> float | None:
        """Tokens of all engines."""
        return _sum(host.output_tokens_per_s for host in self.hosts)


def read_fleet(query: Query, factors: Callable[[str], CarbonFactors | None]) -> Fleet:
    """Return the fleet as a Prometheus knows it; a query that fails leaves its figures out and its reason.

    Raises:
        ServerError: the first query, of GPU power, fails: then nothing is known.
    """
    reader = _FleetReader(query)
    reader.read()
    for host in reader.hosts.values():
        host.gco2e_per_hour = _grams_per_hour(host, factors)
    ordered = sorted(reader.hosts.values(), key=lambda host: host.name)
    return Fleet(hosts=tuple(ordered), troubles=tuple(reader.troubles))


class _FleetReader:
    """Asks, and sorts the answers by host."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.hosts: dict[str, FleetHost] = {}
        self.troubles: list[str] = []
        self._name_of_address: dict[str, str] = {}

    def read(self) -> None:
        asked = "|".join(POWER_SERIES)
        answer = self._query(f'{{__name__=~"{asked}"}}')
        powers = [value for value in answer if value.labels.get("__name__") in POWER_SERIES]
        self._learn_names(powers)
        for value in sorted(powers, key=lambda one: POWER_SERIES.index(one.labels["__name__"])):
            self._power(value)
        for series, factor in ((names.GPU_ENERGY.name, 1.0), (DCGM_ENERGY, JOULES_PER_MILLIJOULE)):
            for value in self._asked(f"increase({series}[{WINDOW}])"):
                self._energy(value, factor)
        for value in self._asked(f"rate({{__name__=~{_any_series(q.GENERATION_TOKENS)}}}[{WINDOW}])"):
            engine = self._engine(value)
            engine.output_tokens_per_s = (engine.output_tokens_per_s or 0.0) + value.value
        for value in self._asked(f"{{__name__=~{_any_series(q.RUNNING)}}}"):
            engine = self._engine(value)
            engine.running = (engine.running or 0.0) + value.value
            engine.engine = _engine_title(value.labels.get("__name__", ""))
        for metric, part in (
            (names.COMPARED_PREDICTED, "predicted_w"),
            (names.COMPARED_MEASURED, "compared_w"),
        ):
            for value in self._asked(f"sum by (instance) (rate({metric.name}[{WINDOW}]))"):
                host = self._host(value.labels)
                setattr(host, part, (getattr(host, part) or 0.0) + value.value)
        for value in self._asked("up == 0"):
            self._host(value.labels).down.append(printable(value.labels.get("instance", "?")))

    def _asked(self, expression: str) -> list[Value]:
        try:
            return self._query(expression)
        except ServerError as error:
            self.troubles.append(str(error))
            return []

    def _learn_names(self, values: Sequence[Value]) -> None:
        """Keep the names that exporters give to their addresses, so that what is scraped beside them joins them."""
        for value in values:
            named = _first(value.labels, _HOST_LABELS)
            if named:
                self._name_of_address[_address(value.labels)] = named

    def _host(self, labels: Mapping[str, str]) -> FleetHost:
        """Return the host of a series: as its exporter names it, else as another at its address, else the address."""
        address = _address(labels)
        name = printable(_first(labels, _HOST_LABELS) or self._name_of_address.get(address, address) or "?")
        return self.hosts.setdefault(name, FleetHost(name=name))

    def _power(self, value: Value) -> None:
        labels, host = value.labels, self._host(value.labels)
        uuid, index = _first(labels, _UUID_LABELS), _first(labels, _INDEX_LABELS) or "?"
        known = host.gpus.get(uuid or "") or next((g for g in host.gpus.values() if g.index == index), None)
        series = labels["__name__"]
        if known is None:
            host.gpus[uuid or index] = FleetGpu(
                index=printable(index),
                uuid=uuid,
                name=_first(labels, _NAME_LABELS),
                power_w=value.value,
                source=series,
            )
        elif known.source == series:  # a MIG slice or a pod, which repeats the board's power
            known.power_w = max(known.power_w, value.value)

    def _energy(self, value: Value, factor: float) -> None:
        host = self._host(value.labels)
        uuid, index = _first(value.labels, _UUID_LABELS), _first(value.labels, _INDEX_LABELS)
        gpu = host.gpus.get(uuid or "") or next((g for g in host.gpus.values() if g.index == index), None)
        if gpu is not None and gpu.energy_j is None:
            gpu.energy_j = factor * value.value

    def _engine(self, value: Value) -> FleetEngine:
        host = self._host(value.labels)
        instance = value.labels.get("instance", "?")
        model = _first(value.labels, _MODEL_LABELS)
        key = (instance, model or "")
        if key not in host.engines:
            host.engines[key] = FleetEngine(
                instance=printable(instance), engine=None, model=None if model is None else printable(model)
            )
        return host.engines[key]


def _grams_per_hour(host: FleetHost, factors: Callable[[str], CarbonFactors | None]) -> float | None:
    """Return operational grams of an hour at the host's power; ``None`` where a GPU has no factors."""
    total_g = 0.0
    for gpu in host.gpus.values():
        found = None if gpu.name is None else factors(gpu.name)
        if found is None:
            return None
        total_g += operational_gco2e(gpu.power_w * _HOUR_S, _HOUR_S, 1, found)
    return total_g if host.gpus else None


def _any_series(quantity: str) -> str:
    """Return a regular expression, in quotes, of every name under which engines publish a quantity."""
    found = []
    for engine in ENGINES.values():
        table = engine.counters if quantity in engine.counters else engine.gauges
        for item in table.get(quantity, ()):
            if not item.where:
                found += [prefix + item.name for prefix in engine.prefixes]
    return '"' + "|".join(dict.fromkeys(found)) + '"'


def _engine_title(series: str) -> str | None:
    return next((engine.title for engine in ENGINES.values() if engine.stem(series) is not None), None)


def _address(labels: Mapping[str, str]) -> str:
    instance = labels.get("instance", "")
    host, colon, port = instance.rpartition(":")
    return host.strip("[]") if colon and port.isdigit() else instance


def _first(labels: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((labels[label] for label in wanted if labels.get(label)), None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
