"""The library's predictor and its names, as the screen takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.grids import GridZone, all_zones
from llmco2.catalog.models import load_models
from llmco2.predictor.api import predict
from llmco2.records.footprint import Footprint
from llmco2.records.request import InferenceRequest
from llmco2_tui.views import Names

Predict = Callable[[InferenceRequest], Footprint]


def predictor(*, checkpoint: str | None = None, calibration: str | None = None) -> Predict:
    """Return what predicts one request; it raises ``LLMCO2Error`` where there is no answer."""

    def answer(request: InferenceRequest) -> Footprint:
        return predict(**asdict(request), checkpoint=checkpoint, calibration=calibration)

    return answer


def known_names() -> Names:
    """Return the names that the form completes."""
    return Names(
        models=tuple(load_models()),
        gpus=tuple(load_gpus()),
        zones=tuple(zone.zone_id for zone in all_zones()),
    )


def known_zones() -> Sequence[GridZone]:
    """Return every grid zone."""
    return all_zones()
