"""Every metric that ``llmco2 export`` publishes: its name, meaning and labels.

Invariant: base units (joules, watts, grams), ``_total`` on counters alone, no colon: ``promtool check metrics`` finds
nothing to say. The dashboard that ships uses these names and no other of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
_GPU: Final = ("gpu", "uuid", "gpu_name")
_SERVER: Final = ("server", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric family."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name=name, kind=GAUGE, help=text, labels=labels)


GPU_ENERGY: Final = _counter(
    "llmco2_gpu_energy_joules_total", "Energy that a GPU drew while it was watched.", _GPU
)
GPU_CARBON: Final = _counter(
    "llmco2_gpu_operational_co2e_grams_total", "Operational gCO2e of a GPU and its share of the host.", _GPU
)
GPU_POWER: Final = _gauge("llmco2_gpu_power_watts", "Instant power of a GPU.", _GPU)
GPU_UP: Final = _gauge("llmco2_gpu_up", "Whether a GPU can be read: 1, or 0 where it is lost.", _GPU)
SERVER_UP: Final = _gauge("llmco2_server_up", "Whether a serving engine can be read.", ("server",))
SERVER_RESTARTS: Final = _counter(
    "llmco2_server_restarts_total", "Times that a serving engine began to count anew.", ("server",)
)
SERVER_GPUS: Final = _gauge("llmco2_server_gpus", "GPUs of a serving engine that are read here.", ("server",))
OUTPUT_TOKENS: Final = _counter("llmco2_server_output_tokens_total", "Tokens that were generated.", _SERVER)
PROMPT_TOKENS: Final = _counter("llmco2_server_prompt_tokens_total", "Prompt tokens, cached or not.", _SERVER)
MEASURED: Final = _counter(
    "llmco2_server_measured_energy_joules_total", "Energy that the GPUs of a serving engine drew.", _SERVER
)
PREDICTED: Final = _counter(
    "llmco2_server_predicted_energy_joules_total",
    "Energy that is predicted for what was served, by phase; idle is time in which nothing ran.",
    (*_SERVER, "phase"),
)
COMPARED_MEASURED: Final = _counter(
    "llmco2_server_compared_measured_energy_joules_total",
    "Measured energy of the intervals that were also predicted.",
    _SERVER,
)
COMPARED_PREDICTED: Final = _counter(
    "llmco2_server_compared_predicted_energy_joules_total",
    "Predicted energy of the intervals that were also measured.",
    _SERVER,
)
COMPARED_LOW: Final = _counter(
    "llmco2_server_compared_predicted_low_energy_joules_total",
    "Low end of the 90 % interval of the predicted energy of the intervals that were also measured.",
    _SERVER,
)
COMPARED_HIGH: Final = _counter(
    "llmco2_server_compared_predicted_high_energy_joules_total",
    "High end of the 90 % interval of the predicted energy of the intervals that were also measured.",
    _SERVER,
)
MEASURED_CARBON: Final = _counter(
    "llmco2_server_measured_operational_co2e_grams_total",
    "Operational gCO2e of what the GPUs of a serving engine drew, host and facility included.",
    _SERVER,
)
PREDICTED_CARBON: Final = _counter(
    "llmco2_server_predicted_operational_co2e_grams_total",
    "Operational gCO2e of what is predicted for what was served, host and facility included.",
    _SERVER,
)
ERROR: Final = _gauge(
    "llmco2_server_prediction_error_ratio",
    "Predicted over measured energy of the newest interval, minus one.",
    _SERVER,
)
INTENSITY: Final = _gauge(
    "llmco2_grid_carbon_intensity_grams_per_joule",
    "Carbon intensity of the grid; times 3.6e6 in g/kWh.",
    ("zone",),
)
PUE: Final = _gauge(
    "llmco2_facility_pue_ratio", "Power usage effectiveness that enters the grams.", ("gpu_name",)
)
INFO: Final = _gauge("llmco2_exporter_info", "Always 1; which llmco2 answers, and from which grid figure.",
                     ("version", "zone", "grid_source", "simulated"))  # fmt: skip
DROPPED: Final = _counter(
    "llmco2_exporter_folded_models_total", "Model names beyond the limit, counted under 'other'.", ("server",)
)

METRICS: Final = (
    GPU_ENERGY, GPU_CARBON, GPU_POWER, GPU_UP, SERVER_UP, SERVER_RESTARTS, SERVER_GPUS, OUTPUT_TOKENS, PROMPT_TOKENS,
    MEASURED, PREDICTED, COMPARED_MEASURED, COMPARED_PREDICTED, COMPARED_LOW, COMPARED_HIGH, MEASURED_CARBON,
    PREDICTED_CARBON, ERROR, INTENSITY, PUE, INFO, DROPPED,
)  # fmt: skip
