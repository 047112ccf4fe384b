"""One serving engine that is being watched.

Invariant: a look costs one page (TensorRT-LLM: and its energy); a failed look changes nothing but ``trouble``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from llmco2.serving.client import Limits, PageClient
from llmco2.serving.errors import ServerError
from llmco2.serving.identity import TRTLLM_ENERGY, Identity, energy_j, find_page, identify
from llmco2.serving.interval import Look
from llmco2.serving.reading import read_sample
from llmco2.serving.sample import ENERGY, Reading, ServerSample
from llmco2.serving.watch import ServerWatch


class WatchedServer:
    """Reads one engine over and over."""

    def __init__(
        self,
        url: str,
        *,
        served_model: str | None = None,
        limits: Limits | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now_s`` is the clock of the meter of the server's GPUs; ``url`` as :class:`PageClient` takes it."""
        self._client = PageClient(url, limits=limits)
        self.url = str(self._client.url)
        self.watch = ServerWatch()
        self.identity: Identity | None = None
        self.trouble: ServerError | None = None  # why the last look failed
        self._served_model = served_model
        self._now_s = now_s
        self._path: str | None = None
        self._seen_restarts = 0

    def look(self, measured_j: Callable[[], float | None] = lambda: None) -> ServerSample:
        """Read the page once and keep it; ``measured_j`` is asked for the joules of its GPUs right after.

        Raises:
            ServerError: the page could not be read; the looks before stay.
        """
        try:
            sample = self._read()
        except ServerError as error:
            self.trouble = error
            raise
        self.trouble = None
        joules = measured_j()
        own = sample.counters.get(ENERGY)
        if joules is None and own is not None:
            joules = own.total
        self.watch.add(Look(sample=sample, energy_j=joules))
        if self.identity is None or self.watch.restarts > self._seen_restarts:
            self._seen_restarts = self.watch.restarts
            self.identity = identify(self._client, sample)
        return sample

    def _read(self) -> ServerSample:
        if self._path is None:
            self._path = find_page(self._client)
        content = self._client.text(self._path)
        sample = read_sample(content, self._now_s(), model=self._served_model)
        if sample.engine != "trtllm":
            return sample
        joules = energy_j(self._client)
        if joules is None:
            return sample
        reading = Reading(series=TRTLLM_ENERGY, by_rank={"": joules})
        return replace(sample, counters={**sample.counters, ENERGY: reading})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
