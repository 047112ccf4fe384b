"""Quantities as the screen words them."""

from __future__ import annotations

from llmco2.records.request import UNKNOWN, InferenceRequest
from llmco2.units import BYTES_PER_GIB

NOTHING = "–"


def watts(power_w: float | None) -> str:
    """Return whole watts."""
    return NOTHING if power_w is None else f"{power_w:,.0f}"


def percent(value: float | None) -> str:
    """Return whole percent."""
    return NOTHING if value is None else f"{value:.0f} %"


def signed_percent(value: float | None) -> str:
    """Return a signed error; one decimal below ten."""
    if value is None:
        return NOTHING
    return f"{value:+.1f} %" if abs(value) < 10 else f"{value:+,.0f} %"


def gib(size_bytes: float | None) -> str:
    """Return GiB with one decimal below 100."""
    if size_bytes is None:
        return NOTHING
    value = size_bytes / BYTES_PER_GIB
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def clock_time(seconds: float) -> str:
    """Return h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def count(value: float) -> str:
    """Return a count: whole where it is whole enough."""
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 or value >= 100 else f"{value:,.1f}"


def request_text(request: InferenceRequest) -> str:
    """Return a request in one line."""
    parts = [
        request.model.rsplit("/", 1)[-1],
        request.gpu,
        f"TP {request.tensor_parallel}" if request.tensor_parallel > 1 else "",
        f"batch {request.batch_size:g}",
        f"{request.prompt_tokens:g}+{request.output_tokens:g} tokens",
        request.precision if request.precision != UNKNOWN else "",
        request.engine if request.engine != UNKNOWN else "",
    ]
    return " · ".join(part for part in parts if part)


def counted(number: int, noun: str) -> str:
    """Return ``1 batch``, ``2 batches``: a whole number of things."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "ch", "x")) else "s"
    return f"{number:,} {noun}{ending}"
