"""The protocol of every workload, and what it can say of itself.

Invariant: a call returns when the device has nothing left to do, so that a window may close right behind it.
Prefill is one pass over the prompt and yields the first output token; decode makes the remaining
``output_tokens - 1`` with one pass each. Nothing ever stops early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llmco2.errors import MeasurementError


class WorkloadError(MeasurementError):
    """A workload could not be run; ``kind`` is the first word of the row's failure reason."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """What decides the host's share of a run, as far as the workload knows it."""

    engine_version: str | None = None
    attention_backend: str | None = None
    cuda_graphs: bool | None = None
    prompt_tokens: float | None = None  # as counted by a server; None: as asked for
    output_tokens: float | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTiming:
    """One streamed request, as its client saw it."""

    ttft_s: float
    latency_s: float
    output_tokens: int


class Workload(Protocol):
    """One configuration, ready to be run phase by phase."""

    @property
    def decodes_alone(self) -> bool:
        """Whether decode can be repeated without its prefill; if not, decode is whole minus prefill."""
        ...

    @property
    def facts(self) -> WorkloadFacts:
        """What is known of the engine once :meth:`load` has returned."""
        ...

    def load(self) -> None:
        """Make ready: weights on the device, inputs made, server reached."""
        ...

    def prefill(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run the prompt ``repeats`` times; timings where requests were streamed, else ``()``."""
        ...

    def decode(self, repeats: int) -> None:
        """Run decode ``repeats`` times, each from the end of the same prompt."""
        ...

    def whole(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run prompt and decode ``repeats`` times."""
        ...

    def step_time_batch1_s(self) -> float | None:
        """Return the time of one decode step at batch size 1, or ``None`` where it cannot be had."""
        ...

    def close(self) -> None:
        """Let go of device memory and connections; also after a failure, and twice without harm."""
        ...
