"""What threads tell the screen.

Invariant: a message that may be replaced by a newer one of its kind carries cumulative state only; everything
else arrives, each and every one.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from llmco2.measurement.meters.meter import Sample
from llmco2.measurement.meters.processes import GpuProcess
from llmco2.measurement.meters.session_file import SessionEvent
from llmco2.records.request import InferenceRequest
from llmco2_tui.campaign import CampaignView
from llmco2_tui.comparison import Answer
from llmco2_tui.measured import MeasuredPhase
from llmco2_tui.sources import Source


@dataclass
class Readings(Message):
    """The newest sampling of all GPUs; a burst collapses to the last. Of a recording: some that were passed."""

    samplings: tuple[tuple[Sample, ...], ...]
    source: int  # which opening of a source it comes from

    def can_replace(self, message: Message) -> bool:
        """Replace an older reading of the same source, where neither is several of a recording."""
        if not isinstance(message, Readings) or message.source != self.source:
            return False
        return len(message.samplings) == len(self.samplings) == 1


@dataclass
class WorkloadMeasured(Message):
    """Entries of the workload in view; never replaced."""

    request: InferenceRequest | None
    entries: tuple[MeasuredPhase, ...]
    source: int


@dataclass
class Rewound(Message):
    """A recording is handed out again from its start."""

    source: int


@dataclass
class ProcessesSeen(Message):
    """Who computes on the GPUs now; ``None`` where the driver does not say. The newest counts."""

    processes: tuple[GpuProcess, ...] | None
    source: int

    def can_replace(self, message: Message) -> bool:
        """Replace an older look at the same source."""
        return isinstance(message, ProcessesSeen) and message.source == self.source


@dataclass
class Noted(Message):
    """What a person did in a recorded sitting; never replaced."""

    events: tuple[SessionEvent, ...]
    source: int


@dataclass
class SourceOpened(Message):
    """A source is ready."""

    source: Source


@dataclass
class SourceFailed(Message):
    """A source could not be opened."""

    reason: str


@dataclass
class RecordingFailed(Message):
    """The session is no longer recorded."""

    reason: str


@dataclass
class Answered(Message):
    """The predictor answered, or said why not."""

    request: InferenceRequest
    answer: Answer


@dataclass
class CampaignRead(Message):
    """The campaign's file, as far as it goes."""

    view: CampaignView

    def can_replace(self, message: Message) -> bool:
        """Replace an older look at the file: a look holds everything up to it."""
        return isinstance(message, CampaignRead)
