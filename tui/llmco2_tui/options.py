"""What the screen is told when it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from llmco2.catalog.grids import GridZone
from llmco2.records.request import InferenceRequest
from llmco2_tui.campaign import CampaignFollower
from llmco2_tui.glyphs import GlyphFilter
from llmco2_tui.grid import GridAccount
from llmco2_tui.sampling_thread import Recorder
from llmco2_tui.sources import Source
from llmco2_tui.views import Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the screen is to look and what it watches besides its source."""

    rate_hz: float = 1.0
    zone: str | None = None
    request: InferenceRequest | None = None  # typed in on the command line
    campaign: CampaignFollower | None = None
    record: Callable[[Source], Recorder] | None = None
    glyphs: GlyphFilter | None = None
    light: bool = False
    export_dir: Path = field(default_factory=Path)
    names: Names = field(default_factory=Names)
    zones: Callable[[], Sequence[GridZone]] = tuple
    account: Callable[[str | None], GridAccount] = lambda zone: GridAccount(zone, today=date.today())
