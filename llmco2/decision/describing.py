"""What a choice says, in sentences.

Invariant: no winner is named without how much it wins by, its interval and how many options are as good.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from llmco2.decision.ranking import Objective, objective_interval
from llmco2.decision.targets import VERDICTS, Missed
from llmco2.units import KILOGRAMS_PER_TONNE, KWH_PER_MWH

if TYPE_CHECKING:
    from llmco2.decision.choice import Choice

HEADINGS: Final = {
    "gpu": "GPU",
    "tensor_parallel": "TP",
    "pipeline_parallel": "PP",
    "expert_parallel": "EP",
    "kv_precision": "KV",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "output tokens",
}
_UNITS: Final = {
    Objective.ENERGY: "Wh per million output tokens",
    Objective.CARBON: "gCO2e per million output tokens",
    Objective.LATENCY: "s to the last token",
    Objective.GPUS: "GPUs",
}
_LEAST: Final = {
    Objective.ENERGY: "Least energy",
    Objective.CARBON: "Least carbon",
    Objective.LATENCY: "Lowest latency",
    Objective.GPUS: "Fewest GPUs",
}
_TARGETS: Final = {
    "max_ttft_s": ("a time to first token", " s", "--max-ttft"),
    "max_tpot_s": ("a time per output token", " s", "--max-tpot"),
    "max_latency_s": ("a latency", " s", "--max-latency"),
    "max_gpus": ("a number of GPUs", "", "--max-gpus"),
}


def verdict_lines(choice: Choice) -> list[str]:
    """Return which option leads and by how much, or what keeps every option from the targets."""
    if choice.shortfall is not None:
        return [*_shortfall_lines(choice), f"Closest: {option_text(choice.closest, choice)}."]
    lines = [f"{_LEAST[choice.objective]}: {option_text(choice.closest, choice)}.", _margin(choice)]
    if not bool(choice.closest["surely_meets"]):
        lines.append(
            "It meets the targets by the middle of its prediction, not at the slow end of its 90% interval."
        )
    return lines


def option_text(option: pd.Series[Any], choice: Choice) -> str:
    """Return an option in words: what distinguishes it from the others, and how it is loaded."""
    parts = []
    for name in choice.varied:
        if name == "batch_size":  # said as running requests
            continue
        named = name in HEADINGS and name != "gpu"
        parts.append(f"{HEADINGS[name]} {option[name]}" if named else str(option[name]))
    if choice.requests_per_s is None:
        return ", ".join([*parts, _requests(option["running_requests"])])
    replicas = f"{option['replicas']:,.0f} replica{'s' if option['replicas'] > 1 else ''}"
    most = f"at most {_requests(option['most_running_requests'])}"
    return ", ".join([*parts, most, replicas])


def _requests(number: float) -> str:
    return f"{number:g} request{'' if number == 1 else 's'} running"


def load_line(choice: Choice) -> str:
    """Return how the first option carries the rate: replicas, requests in each, and where it saturates."""
    first = choice.closest
    return (
        f"{choice.requests_per_s:,g} requests/s: {first['replicas']:,.0f} x {_figure(first['requests_per_s_each'])}/s, "
        f"{_figure(first['running_requests'])} requests running in each "
        f"(rate x latency of {_figure(first['latency_s'])} s); one replica saturates at "
        f"{_figure(first['saturation_requests_per_s'])} requests/s, so each is at {100 * first['load_share']:.0f}%."
    )


def year_line(choice: Choice) -> str:
    """Return the year of the first option as a sum that can be checked."""
    first = choice.closest
    parts = ("request", "idle", "host", "facility")
    work, idle, host, facility = (
        _figure(first[f"{name}_energy_per_year_kwh"] / KWH_PER_MWH, 4) for name in parts
    )
    operational, embodied = (
        first[f"{name}_per_year_kgco2e"] / KILOGRAMS_PER_TONNE for name in ("operational", "embodied")
    )
    intensity = _figure(first["carbon_intensity_gco2e_per_kwh"], 4)  # g/kWh is kg/MWh
    return (
        f"A year: ({work} MWh requests + {idle} idle + {host} host) x PUE {first['pue']:g} = {facility} MWh; "
        f"x {intensity} kg/MWh = {_figure(operational, 4)} t CO2e, + {_figure(embodied, 4)} t embodied = "
        f"{_figure(operational + embodied, 4)} t."
    )


def _margin(choice: Choice) -> str:
    met = choice.frame[choice.frame["verdict"] == VERDICTS[0]]
    middle, low, high = objective_interval(met, choice.objective)
    digits = 0 if choice.objective is Objective.GPUS else 3
    own = f"{_figure(middle[0], digits)} {_UNITS[choice.objective]}"
    if high[0] > low[0]:
        own += f" (90% interval {_figure(low[0], digits)} – {_figure(high[0], digits)})"
    if len(met) == 1:
        return f"{own}; no other option meets the targets."
    equal = met["equal_to_best"].to_numpy()
    text = f"{own}; the next option takes {_more(middle[1], middle[0])}"
    others = int(equal.sum()) - 1
    if not equal[1]:
        text += ", outside the error band"
    if others:
        text += f". {others:,} other option{'s are' if others > 1 else ' is'} equal: within the error band"
    if others and not equal.all():
        first = int((~equal).argmax())
        text += f". The first outside it takes {_more(middle[first], middle[0])}"
    return text + "."


def _figure(value: float, digits: int = 3) -> str:
    """Return a figure with ``digits`` significant digits, or all of a whole number (0), without an exponent."""
    return f"{float(f'{value:.{digits}g}') if digits else round(value):,.10g}"


def _more(other: float, least: float) -> str:
    percent = 100.0 * (other / least - 1.0)
    return (
        "as much"
        if percent == 0.0
        else f"{percent:.2g}% more"
        if percent < 100.0
        else f"{other / least:.3g} times that"
    )


def _shortfall_lines(choice: Choice) -> list[str]:
    found = choice.shortfall
    if found is None:
        return []
    lines = ["No option meets the targets."]
    for missed in found.binding:
        what, unit, option = _TARGETS[missed.target]
        way = "is needed with the others" if not found.alone else "would do"
        way += " alone" if found.alone and len(found.binding) > 1 else ""
        lines.append(
            f"{option} {missed.asked:g} binds: {what} of {rounded_up(missed):g}{unit} can be met, which {way}."
        )
    return lines


def rounded_up(missed: Missed) -> float:
    """Return the nearest value that can be met with three digits, rounded up so that it can be asked for."""
    if missed.nearest >= 1e3 or missed.nearest == int(missed.nearest):
        return float(math.ceil(missed.nearest))
    step = 10.0 ** (math.floor(math.log10(missed.nearest)) - 2)
    value = math.ceil(missed.nearest / step) * step
    text = float(f"{value:.3g}")
    return text if text >= missed.nearest else float(f"{value + step:.3g}")
