"""From what a window saw to the record that is handed out, with its warnings.

Invariant: whatever makes a label less than it seems is a warning with a code, so that a row can carry it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmco2.measurement.meters import meter as codes
from llmco2.measurement.meters.meter import Device, GpuEnergy, MeterWarning
from llmco2.measurement.meters.phase_window import (
    MAX_POWER_GAP_S,
    MAX_TICK_UNCERTAINTY,
    RECOMMENDED_TICKS,
    GpuWindow,
    choose_energy,
    disagreement,
    disagrees,
)
from llmco2.measurement.meters.reading import HARMFUL_THROTTLING

_MIN_POWER_READINGS = 5


def gpu_energy(window: GpuWindow, duration_s: float) -> GpuEnergy:
    """Return the record of one GPU's part in a closed window of ``duration_s``."""
    choice = choose_energy(window, duration_s)
    states = window.states
    positive = choice.energy_j is not None and duration_s > 0
    return GpuEnergy(
        gpu_index=window.gpu_index,
        energy_j=choice.energy_j,
        method=choice.method,
        reason=choice.reason,
        counter_period_s=window.counter_period_s,
        n_ticks=window.ticks.n_ticks,
        counter_window_energy_j=window.counter_delta_j if window.has_counter else None,
        integrated_energy_j=window.power.over(duration_s),
        n_power_readings=window.power.n_readings,
        average_power_w=choice.energy_j / duration_s if positive and choice.energy_j is not None else None,
        sm_clock_mhz=states.mean("sm_clock_mhz"),
        memory_clock_mhz=states.mean("memory_clock_mhz"),
        temperature_c=states.highest("temperature_c"),
        utilization_percent=states.mean("utilization_percent"),
        throttle_reasons=states.throttle_reasons(),
        power_limit_w=states.mean("power_limit_w"),
    )


def window_warnings(window: GpuWindow, energy: GpuEnergy) -> list[MeterWarning]:
    """Return what a reader of this GPU's energy must know."""
    texts = [
        *_counter_warnings(window, energy),
        *_power_warnings(window, energy),
        *_state_warnings(window, energy),
    ]
    return [MeterWarning(code=code, text=text, gpu_index=window.gpu_index) for code, text in texts]


def shared_warnings(devices: Sequence[Device]) -> tuple[MeterWarning, ...]:
    """Return one warning for each GPU that other processes use too."""
    return tuple(
        MeterWarning(
            code=codes.SHARED_GPU,
            text=f"GPU {device.nvml_index} was shared with other processes: its energy is theirs too",
            gpu_index=device.index,
        )
        for device in devices
        if device.shared
    )


def _counter_warnings(window: GpuWindow, energy: GpuEnergy) -> Iterator[tuple[str, str]]:
    if not window.has_counter:
        how = "integrated power" if energy.method == codes.INTEGRATED_POWER else "nothing"
        yield codes.NO_COUNTER, f"GPU {window.gpu_index} has no energy counter: its energy is {how}"
        return
    if window.trouble is None and window.ticks.n_ticks < RECOMMENDED_TICKS:
        ticks = f"{window.ticks.n_ticks} ticks of the counter"
        yield (
            codes.SHORT_WINDOW,
            f"the window spans {ticks}: repeat the phase until it spans {RECOMMENDED_TICKS}",
        )
    if energy.method == codes.COUNTER_SLOPE and window.ticks.relative_uncertainty > MAX_TICK_UNCERTAINTY:
        share = 100 * window.ticks.relative_uncertainty
        yield (
            codes.COARSE_TICKS,
            f"ticks were seen late (busy machine): the energy may be off by {share:.1f} %",
        )


def _power_warnings(window: GpuWindow, energy: GpuEnergy) -> Iterator[tuple[str, str]]:
    sparse = window.power.longest_gap_s > MAX_POWER_GAP_S or window.power.n_readings < _MIN_POWER_READINGS
    if energy.method == codes.INTEGRATED_POWER and sparse:
        gap = f"{window.power.n_readings} readings, {window.power.longest_gap_s:.2f} s apart at worst"
        yield codes.SPARSE_POWER, f"power was read too seldom for its integral: {gap}"
    counter_j = energy.energy_j if energy.method == codes.COUNTER_SLOPE else None
    share = disagreement(counter_j, energy.integrated_energy_j)
    # A power sensor lags by up to its own period at each edge: in a window too short for the counter the two
    # ways differ for that alone, and the window is flagged as short instead.
    long_enough = window.ticks.n_ticks >= RECOMMENDED_TICKS
    if long_enough and not sparse and share is not None and disagrees(counter_j, energy.integrated_energy_j):
        both = f"counter {counter_j:.1f} J, integrated power {energy.integrated_energy_j:.1f} J"
        yield codes.COUNTER_DISAGREES, f"counter and integrated power differ by {100 * share:.1f} %: {both}"


def _state_warnings(window: GpuWindow, energy: GpuEnergy) -> Iterator[tuple[str, str]]:
    if window.trouble is not None:
        yield codes.GPU_LOST, window.trouble
    held_back = HARMFUL_THROTTLING.intersection(energy.throttle_reasons or ())
    if held_back:
        yield codes.THROTTLED, f"GPU {window.gpu_index} was held back: {', '.join(sorted(held_back))}"
