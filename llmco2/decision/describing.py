"""What a choice says, in sentences.

Invariant: no winner is named without how much it wins by, its interval and how many options are as good.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from llmco2.decision.ranking import Objective, objective_interval
from llmco2.decision.targets import Missed

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
    lines = [f"Least {choice.objective}: {option_text(choice.closest, choice)}.", _margin(choice)]
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
        f"{choice.requests_per_s:,g} requests/s: {first['replicas']:,.0f} x {first['requests_per_s_each']:.3g}/s, "
        f"{first['running_requests']:.3g} requests running in each "
        f"(rate x latency of {first['latency_s']:.3g} s); one replica saturates at "
        f"{first['saturation_requests_per_s']:.3g} requests/s, so each is at {100 * first['load_share']:.0f}%."
    )


def year_line(choice: Choice) -> str:
    """Return the year of the first option as a sum that can be checked."""
    first = choice.closest
    mwh = {
        name: first[f"{name}_energy_per_year_kwh"] / 1e3 for name in ("request", "idle", "host", "facility")
    }
    operational, embodied = (first[f"{name}_per_year_kgco2e"] / 1e3 for name in ("operational", "embodied"))
    return (
        f"A year: ({mwh['request']:.4g} MWh requests + {mwh['idle']:.4g} idle + {mwh['host']:.4g} host) x PUE "
        f"{first['pue']:g} = {mwh['facility']:.4g} MWh; x {first['carbon_intensity_gco2e_per_kwh']:.4g} kg/MWh = "
        f"{operational:.4g} t CO2e, + {embodied:.4g} t embodied = {operational + embodied:.4g} t."
    )


def _margin(choice: Choice) -> str:
    met = choice.frame[choice.frame["verdict"] == "meets"]
    middle, low, high = objective_interval(met, choice.objective)
    unit = _UNITS[choice.objective]
    own = f"{middle[0]:.3g} {unit}"
    if high[0] > low[0]:
        own += f" (90% interval {low[0]:.3g} – {high[0]:.3g})"
    if len(met) == 1:
        return f"{own}; no other option meets the targets."
    equal = met["equal_to_best"].to_numpy()
    text = f"{own}; the next option takes {_more(middle[1], middle[0])}."
    others = int(equal.sum()) - 1
    if others:
        text += f" {others:,} other option{'s are' if others > 1 else ' is'} equal: within the error band."
    if not equal.all():
        first = int((~equal).argmax())
        text += f" The first outside it takes {_more(middle[first], middle[0])}."
    return text


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
