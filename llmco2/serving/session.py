"""One server under watch: looks at its page and its GPUs, and what follows from them.

Invariant: a step costs one look; intervals that were handed out are summed in ``totals``, so predicted and measured
joules of the sums are of the same seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import LLMCO2Error
from llmco2.measurement.meters.meter import Sample
from llmco2.serving.client import Limits
from llmco2.serving.comparing import Predict, ServerComparison, compare_interval
from llmco2.serving.deployment import GIVEN, Found, Given, find_deployment
from llmco2.serving.errors import ServerError
from llmco2.serving.interval import Interval
from llmco2.serving.memory import Memory
from llmco2.serving.server import WatchedServer
from llmco2.serving.workload import workload

LEAST_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnGpus:
    """The GPUs of a server that can be read here; none where it runs elsewhere."""

    indices: tuple[int, ...]
    device: str | None = None  # their name; None where there are none
    origin: str = ""  # given, by process, or why they are assumed


@dataclass(slots=True)
class Totals:
    """Sums over the intervals handed out."""

    seconds: float = 0.0
    output_tokens: float = 0.0
    prompt_tokens: float = 0.0
    measured_j: float = 0.0  # of all of them
    compared_s: float = 0.0  # of those with both sides
    compared_measured_j: float = 0.0
    compared_predicted_j: float = 0.0
    compared_low_j: float = 0.0
    compared_high_j: float = 0.0

    def add(self, found: ServerComparison) -> None:
        """Count one interval in."""
        self.seconds += found.interval.duration_s
        self.output_tokens += found.output_tokens or 0.0
        self.prompt_tokens += found.interval.prompt_tokens or 0.0
        self.measured_j += found.measured_j or 0.0
        if found.predicted is not None and found.measured_j is not None:
            self.compared_s += found.interval.duration_s
            self.compared_measured_j += found.measured_j
            self.compared_predicted_j += found.predicted.energy_j
            self.compared_low_j += found.predicted.low_j
            self.compared_high_j += found.predicted.high_j


class ServerSession:
    """Watches one server."""

    def __init__(
        self,
        url: str,
        *,
        predict: Predict,
        gpus: OwnGpus,
        now_s: Callable[[], float],
        given: Given | None = None,
        served_model: str | None = None,
        factors: Callable[[str], CarbonFactors | None] = lambda _: None,
        limits: Limits | None = None,
        memory: Memory | None = None,
    ) -> None:
        """``now_s`` is the clock of the meter that reads ``gpus``; ``factors`` answers for a GPU's name.

        ``memory`` keeps what is ``given``, and tells what was given before.
        """
        self._server = WatchedServer(url, served_model=served_model, limits=limits, now_s=now_s)
        self._predict, self._factors = predict, factors
        self.gpus = gpus
        self.given = given or Given()
        self._given_by: dict[str, str] = {}
        self._memory = memory
        self.totals = Totals()
        self.found: Found | str = "the server was not read yet"
        self.last: ServerComparison | None = None

    @property
    def server(self) -> WatchedServer:
        """What was read of the server."""
        return self._server

    @property
    def url(self) -> str:
        """Where it is."""
        return self._server.url

    @property
    def trouble(self) -> ServerError | None:
        """Why the last look failed."""
        return self._server.trouble

    def look(self, read_gpus: Callable[[], Sequence[Sample]] | None) -> None:
        """Read the server, and its GPUs right after, once; raises ``ServerError`` where the server cannot be read."""
        sample = self._server.look(lambda: None if read_gpus is None else self.joules(read_gpus()))
        identity = self._server.identity
        if identity is not None:
            self._remember(sample.model)
            self.found = find_deployment(
                self.url,
                identity,
                sample,
                self.given,
                device=self.gpus.device,
                n_gpus=len(self.gpus.indices) or None,
                given_by=self._given_by,
            )

    def _remember(self, served_model: str | None) -> None:
        """Keep what was said of the server, and take what was said before of the same served model; once."""
        memory, self._memory = self._memory, None
        if memory is None:
            return
        before = memory.recall(self.url)
        gpus = self.gpus.indices if self.gpus.origin == GIVEN else None
        if self.given.said or gpus is not None:
            memory.keep(self.url, given=self.given, gpus=gpus, served_model=served_model)
        if before is not None and before.served_model in (None, served_model):
            self._given_by = {
                name: f"remembered of {before.said_on}"
                for name in before.given.said
                if name not in self.given.said
            }
            self.given = replace(before.given, **self.given.said)  # type: ignore[arg-type]

    def joules(self, samples: Sequence[Sample]) -> float | None:
        """Return the counted joules of the server's own GPUs; ``None`` where one of them has none now."""
        own = [sample for sample in samples if sample.gpu_index in self.gpus.indices]
        if not own or len(own) < len(self.gpus.indices):
            return None
        counted = [sample.energy_counter_j for sample in own if sample.stale_since_s is None]
        known = [joules for joules in counted if joules is not None]
        return sum(known) if len(known) == len(own) else None

    def step(self, least_s: float = LEAST_INTERVAL_S) -> ServerComparison | None:
        """Return predicted beside measured since the last step that gave some, once that is ``least_s`` ago."""
        short = self._server.watch.take(least_s)
        if short is None:
            return None
        self.last = self.compare(short)
        self.totals.add(self.last)
        return self.last

    def compare(self, short: Interval) -> ServerComparison:
        """Return predicted beside measured for an interval."""
        newest = self._server.watch.newest
        assert newest is not None  # an interval lies between looks
        if isinstance(self.found, str):
            return compare_interval(
                short, self.found, self._predict, n_gpus=self.n_gpus, idle_power_w=None, factors=self._grams()
            )
        deployment = self.found.deployment
        work = workload(short, self._server.watch.lengths() or short, newest.sample, deployment)
        return compare_interval(
            short,
            work,
            self._predict,
            n_gpus=self.n_gpus,
            idle_power_w=deployment.idle_power_w,
            factors=self._grams(),
        )

    @property
    def n_gpus(self) -> int:
        """GPUs whose host's energy the grams hold."""
        if self.gpus.indices:
            return len(self.gpus.indices)
        return 1 if isinstance(self.found, str) else self.found.deployment.n_gpus

    def _grams(self) -> CarbonFactors | None:
        gpu = self.gpus.device if isinstance(self.found, str) else self.found.deployment.gpu
        try:
            return None if gpu is None else self._factors(gpu)
        except LLMCO2Error:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._server.close()
