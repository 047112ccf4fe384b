"""A metrics page as a look at the engine that wrote it.

Invariant: ranks are kept apart until they are summed, shards of one rank count once, and series of another model,
engine or meaning never enter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from llmco2.errors import explain
from llmco2.serving.engines import ENGINES, Engine, SeriesName, wanted
from llmco2.serving.errors import AMBIGUOUS, FOREIGN, ServerError
from llmco2.serving.exposition import Page, Series, parse_page, printable
from llmco2.serving.sample import Histogram, Reading, ServerSample, histogram_of


def read_sample(content: bytes, t_s: float, *, model: str | None = None) -> ServerSample:
    """Return what a page says of ``model`` at ``t_s``; without a name, of the only model on it.

    Raises :class:`ServerError`: ``too_large`` or ``damaged`` for what is no whole page, ``foreign`` for a page of
    no known engine, ``ambiguous`` where it serves several models and none was named.
    """
    page = parse_page(content, wanted)
    engine = engine_of(page)
    served = models_of(page, engine)
    if model is not None and served and model not in served:
        raise ServerError(
            AMBIGUOUS,
            explain("the server does not serve this model", got=repr(model), expected=_listed(served)),
        )
    if model is None and len(served) > 1:
        raise ServerError(
            AMBIGUOUS, explain("the server serves several models", got=_listed(served), remedy="name one")
        )
    return _PageReader(page, engine, model or (served[0] if served else None)).sample(t_s)


def engine_of(page: Page) -> Engine:
    """Return the engine that wrote a page, or raise :class:`ServerError` (``foreign``)."""
    for engine in ENGINES.values():
        stems = {engine.stem(name) for name in page.series} - {None}
        named = {item.name for items in _all_names(engine) for item in items}
        if stems & (named | {f"{name}_count" for name in named}):
            return engine
    raise ServerError(
        FOREIGN,
        explain(
            "no serving engine wrote this metrics page",
            expected=", ".join(engine.title for engine in ENGINES.values()),
            remedy="SGLang, LMDeploy and TensorRT-LLM publish metrics only where they are told to",
        ),
    )


def models_of(page: Page, engine: Engine) -> tuple[str, ...]:
    """Return the models that a page names, each once."""
    found = {
        series.labels[label]: None
        for name, every in page.series.items()
        if engine.stem(name) is not None
        for series in every
        for label in engine.model_labels
        if series.labels.get(label)
    }
    return tuple(found)


def _all_names(engine: Engine) -> Iterable[Sequence[SeriesName]]:
    return (*engine.counters.values(), *engine.gauges.values(), *engine.histograms.values())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names[:8]) + (" …" if len(names) > 8 else "")


class _PageReader:
    """Reads one page of one engine for one model."""

    def __init__(self, page: Page, engine: Engine, model: str | None) -> None:
        self._page, self._engine, self._model = page, engine, model
        self._notes = dict.fromkeys(page.notes)

    def sample(self, t_s: float) -> ServerSample:
        engine = self._engine
        counters = self._readings(engine.counters, counter=True)
        gauges = self._readings(engine.gauges, counter=False)
        histograms = {
            quantity: found
            for quantity, names in engine.histograms.items()
            if (found := self._histogram(names)) is not None
        }
        every = {**counters, **gauges, **histograms}
        asked = (*engine.counters, *engine.gauges, *engine.histograms)
        return ServerSample(
            t_s=t_s,
            engine=engine.name,
            model=self._model,
            counters=counters,
            gauges=gauges,
            histograms=histograms,
            config=self._config(),
            missing=tuple(quantity for quantity in asked if quantity not in every),
            notes=tuple(self._notes),
        )

    def _readings(self, table: Mapping[str, tuple[SeriesName, ...]], *, counter: bool) -> dict[str, Reading]:
        found = {}
        for quantity, names in table.items():
            reading = self._reading(names, counter=counter)
            if reading is not None:
                found[quantity] = reading
        return found

    def _reading(self, names: Sequence[SeriesName], *, counter: bool) -> Reading | None:
        for wanted_name in names:
            for prefix in self._engine.prefixes:
                name = prefix + wanted_name.name
                series = [s for s in self._mine(name) if _matches(s, wanted_name.where)]
                by_rank = self._by_rank(series) if self._is_plain(name) else {}
                if by_rank and (not counter or self._counts(name, by_rank)):
                    return Reading(series=name, by_rank=by_rank)
        return None

    def _is_plain(self, name: str) -> bool:
        """Whether a name is not that of a histogram, as some whose names end in ``_total`` are."""
        return f"{name}_count" not in self._page.series

    def _counts(self, name: str, by_rank: Mapping[str, float]) -> bool:
        """Whether values can be those of a counter: finite and from zero."""
        if all(math.isfinite(value) and value >= 0 for value in by_rank.values()):
            return True
        self._notes.setdefault(f"{name} is no count: negative or infinite")
        return False

    def _mine(self, name: str) -> list[Series]:
        """Return the series of ``name`` that are of the model, or name none."""
        labels = self._engine.model_labels
        return [
            series
            for series in self._page.values(name)
            if all(series.labels.get(label) in (None, "", self._model) for label in labels)
        ]

    def _by_rank(self, every: Sequence[Series]) -> dict[str, float]:
        """Return the sum of each rank over what is neither rank nor shard; of a rank's shards, the highest."""
        engine = self._engine
        parts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for series in every:
            rank = "/".join(series.labels[label] for label in engine.rank_labels if label in series.labels)
            rest = tuple(
                item
                for item in sorted(series.labels.items())
                if item[0] not in engine.rank_labels and item[0] not in engine.shard_labels
            )
            parts[rank, rest] = max(series.value, parts.get((rank, rest), -math.inf))
        by_rank: dict[str, float] = {}
        for (rank, _), value in parts.items():
            by_rank[rank] = by_rank.get(rank, 0.0) + value
        return by_rank

    def _histogram(self, names: Sequence[SeriesName]) -> Histogram | None:
        for wanted_name in names:
            for prefix in self._engine.prefixes:
                name = prefix + wanted_name.name
                count, total = (self._sum(f"{name}_{part}") for part in ("count", "sum"))
                if count is None or total is None:
                    continue
                histogram = histogram_of(name, total, count, self._buckets(f"{name}_bucket"))
                if not histogram.buckets:
                    self._notes.setdefault(f"the buckets of {name} do not add up")
                return histogram
        return None

    def _sum(self, name: str) -> float | None:
        by_rank = self._by_rank(self._mine(name))
        return math.fsum(by_rank.values()) if by_rank and self._counts(name, by_rank) else None

    def _buckets(self, name: str) -> list[tuple[float, float]]:
        by_bound: dict[str, list[Series]] = {}
        for series in self._mine(name):
            rest = {label: value for label, value in series.labels.items() if label != "le"}
            by_bound.setdefault(series.labels.get("le", ""), []).append(
                Series(labels=rest, value=series.value)
            )
        found: dict[float, float] = {}
        for text, every in by_bound.items():
            try:
                bound = float(text)
            except ValueError:
                return []
            found[bound] = found.get(bound, 0.0) + math.fsum(self._by_rank(every).values())
        return list(found.items())

    def _config(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for fact, (stem, label) in self._engine.config.items():
            for prefix in self._engine.prefixes:
                for series in self._mine(prefix + stem):
                    if series.labels.get(label):
                        found.setdefault(fact, series.labels[label])
        return found


def _matches(series: Series, where: Mapping[str, str]) -> bool:
    return all(series.labels.get(label) == value for label, value in where.items())
