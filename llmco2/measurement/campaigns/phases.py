"""From a workload and a meter to the label of each phase.

Invariant: a phase is repeated inside one window until it spans enough ticks of the energy counter, and what
leaves here is per run: the window's joules over its repeats. No time is spent on what was seen already: a
phase's repeats follow from the warm-up where they can, and a run that is long by itself needs fewer windows.
The whole (prefill and decode in one window) is
measured on its own, so that the parts can be checked against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

from llmco2.errors import MeasurementError, explain
from llmco2.measurement.campaigns.label_flags import label_flags
from llmco2.measurement.campaigns.plan import (
    MAX_REPEATS,
    MeasurePlan,
    blocks_of,
    least_time_s,
    repeats_to_span,
    span_needed_s,
)
from llmco2.measurement.campaigns.settle import Settling
from llmco2.measurement.meters.meter import EnergyMeter, WindowReading
from llmco2.measurement.workloads.workload import RequestTiming, Workload, WorkloadError

PREFILL: Final = "prefill"
DECODE: Final = "decode"
WHOLE: Final = "whole"
PARTS_DISAGREE: Final = "parts_disagree"
UNSETTLED: Final = "unsettled"
DECODE_BY_DIFFERENCE: Final = "decode_by_difference"
_GROWTH: Final = 1.2  # a repeat estimate comes from one run; a window that falls short is run longer by this
_SURE_GROWTH: Final = 1.05  # once a whole window told how long a run takes
_LONGER_TRIES: Final = 4
_SURE_SHARE: Final = 0.2  # of the whole: a smaller difference of two times is no time of decode


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLabel:
    """One phase per run: means over blocks, and the standard deviation between them."""

    energy_j: float
    energy_std_j: float | None  # None: a single block has no spread
    time_s: float
    time_std_s: float | None
    repeats: int  # runs inside windows, all blocks together
    window_s: float  # all windows together
    readings: tuple[WindowReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLabels:
    """What was measured of one configuration."""

    prefill: PhaseLabel
    decode: PhaseLabel | None  # None: one output token, which prefill makes
    whole: PhaseLabel
    prefill_timings: tuple[RequestTiming, ...]  # of streamed requests; empty in process
    timings: tuple[RequestTiming, ...]
    step_time_batch1_s: float | None
    flags: tuple[str, ...]


Report = Callable[[str, float], None]  # (stage, joules that the window took)


def _ignored(stage: str, energy_j: float) -> None:
    del stage, energy_j


def measure_phases(
    workload: Workload,
    meter: EnergyMeter,
    plan: MeasurePlan,
    *,
    output_tokens: int,
    report: Report = _ignored,
) -> PhaseLabels:
    """Warm up, then measure prefill, decode and the whole of a loaded workload.

    ``report(stage, energy_j)`` is called after each window with the joules that it took.

    Raises:
        MeasurementError: a window has no energy reading; the text gives the meter's reason.
        WorkloadError: a warm-up run shows that measuring would take longer than the plan allows.
    """
    report("warm-up", 0.0)
    warm = warm_up(_guarded(workload, meter, plan), meter, plan)
    flags = [] if warm.settled else [UNSETTLED]
    phases = (
        [PREFILL, WHOLE] if output_tokens == 1 or not workload.decodes_alone else [PREFILL, DECODE, WHOLE]
    )
    runners = {PREFILL: workload.prefill, DECODE: _without_timing(workload), WHOLE: workload.whole}
    blocks: dict[str, list[Block]] = {phase: [] for phase in phases}
    run_s = _run_times(runners, phases, warm.run_s, meter)
    span_s = span_needed_s(_counter_period_s(meter), plan)
    repeats = {phase: repeats_to_span(_GROWTH * span_s, run_s[phase]) for phase in phases}
    for number in range(int(plan.blocks)):  # phases alternate, so that a slow drift meets all of them alike
        for phase in phases:
            if number >= blocks_of(run_s[phase], span_s, plan):
                continue
            block = measure_block(phase, runners[phase], repeats[phase], meter, plan)
            repeats[phase] = next_repeats(block, meter, plan)
            blocks[phase].append(block)
            report(phase, block.energy_j)
    prefill, whole = label(blocks[PREFILL]), label(blocks[WHOLE])
    decode, by_difference = _decode_label(blocks, prefill, whole, output_tokens)
    flags += [DECODE_BY_DIFFERENCE] if by_difference else []
    timings = tuple(timing for block in blocks[WHOLE] for timing in block.timings)
    prefill_timings = tuple(timing for block in blocks[PREFILL] for timing in block.timings)
    if _disagree(
        prefill,
        decode,
        whole,
        prefill_timings=prefill_timings,
        timings=timings,
        by_difference=by_difference,
        tolerance=plan.parts_tolerance_percent / 100.0,
    ):
        flags.append(PARTS_DISAGREE)
    flags += [flag for phase in blocks.values() for flag in label_flags([b.reading for b in phase])]
    return PhaseLabels(
        prefill=prefill,
        decode=decode,
        whole=whole,
        prefill_timings=prefill_timings,
        timings=timings,
        step_time_batch1_s=workload.step_time_batch1_s(),
        flags=tuple(dict.fromkeys(flags)),
    )


def _guarded(workload: Workload, meter: EnergyMeter, plan: MeasurePlan) -> Runner:
    """Return the whole run, which raises once the time spent and the least still to come pass the limit.

    The first run under CUDA graphs compiles, so only the time that it took counts there.
    """
    began_s = meter.clock.now_s()
    span_s = span_needed_s(_counter_period_s(meter), plan)
    compiles = bool(workload.facts.cuda_graphs)

    def run(repeats: int) -> tuple[RequestTiming, ...]:
        nonlocal compiles
        start_s = meter.clock.now_s()
        timings = workload.whole(repeats)
        now_s = meter.clock.now_s()
        run_s = (now_s - start_s) / repeats
        total_s = now_s - began_s + (0.0 if compiles else least_time_s(run_s, span_s, plan))
        if total_s > plan.configuration_limit_s:
            raise WorkloadError(
                "too_slow",
                explain(
                    "measuring would take too long",
                    got=f"{run_s:.3g} s a run, {total_s:.0f} s in all at least",
                    expected=f"at most {plan.configuration_limit_s:.0f} s",
                    remedy="raise measure.configuration_limit_s, or ask for fewer tokens",
                ),
            )
        compiles = False
        return timings

    return run


def parts_disagree(prefill_j: float, decode_j: float, whole_j: float, tolerance: float) -> bool:
    """Return whether prefill + decode is off the enclosing window by more than the fraction ``tolerance``."""
    return abs(prefill_j + decode_j - whole_j) > tolerance * abs(whole_j)


Runner = Callable[[int], tuple[RequestTiming, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One window and what was run in it."""

    reading: WindowReading
    repeats: int
    energy_j: float
    timings: tuple[RequestTiming, ...]


def _without_timing(workload: Workload) -> Runner:
    def run(repeats: int) -> tuple[RequestTiming, ...]:
        workload.decode(repeats)
        return ()

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How a warm-up ended."""

    settled: bool
    run_s: float  # of its last run


def warm_up(run: Runner, meter: EnergyMeter, plan: MeasurePlan) -> WarmUp:
    """Call ``run(1)`` until it settles or the limit passes.

    Lazy loading, autotuning and compilation are no part of the steady state, so the first run does not count, unless
    it is so long that they are lost in it; should they not be, its latency does not hold against the second.
    """
    settling = Settling(
        latency_tolerance=plan.settle_tolerance_percent / 100.0,
        temperature_tolerance_c=plan.temperature_tolerance_c,
        temperature_span_s=plan.temperature_span_s,
    )
    started_s: float | None = None  # the end of the first run
    while True:
        began_s = meter.clock.now_s()
        run(1)
        ended_s = meter.clock.now_s()
        run_s = ended_s - began_s
        if started_s is not None or run_s >= plan.temperature_span_s > 0:
            settling.add(at_s=ended_s, latency_s=run_s, temperature_c=_hottest_c(meter))
        if started_s is None:
            started_s = ended_s
        elif settling.settled:
            return WarmUp(settled=True, run_s=run_s)
        elif ended_s - started_s >= plan.warm_up_limit_s:
            return WarmUp(settled=settling.holds_so_far, run_s=run_s)


def _hottest_c(meter: EnergyMeter) -> float | None:
    return max((s.temperature_c for s in meter.sample() if s.temperature_c is not None), default=None)


def _counter_period_s(meter: EnergyMeter) -> float | None:
    return max((d.counter_period_s for d in meter.devices() if d.counter_period_s is not None), default=None)


def _run_times(
    runners: dict[str, Runner], phases: Sequence[str], whole_s: float, meter: EnergyMeter
) -> dict[str, float]:
    """Return the seconds of one run of each phase; ``whole_s`` is known from the warm-up.

    Prefill is run once; so is decode, unless whole - prefill tells its time well enough.
    """
    run_s = {PREFILL: time_once(runners[PREFILL], meter), WHOLE: whole_s}
    if DECODE in phases:
        rest_s = whole_s - run_s[PREFILL]
        run_s[DECODE] = rest_s if rest_s >= _SURE_SHARE * whole_s else time_once(runners[DECODE], meter)
    return run_s


def time_once(run: Runner, meter: EnergyMeter) -> float:
    """Return the seconds of one run."""
    began_s = meter.clock.now_s()
    run(1)
    return meter.clock.now_s() - began_s


def first_guess(run: Runner, meter: EnergyMeter, plan: MeasurePlan) -> int:
    """Return how often to run in the first window, judged by one run."""
    return repeats_to_span(_GROWTH * span_needed_s(_counter_period_s(meter), plan), time_once(run, meter))


def measure_block(phase: str, run: Runner, repeats: int, meter: EnergyMeter, plan: MeasurePlan) -> Block:
    """Measure one window; a window that came out short is run again, longer."""
    for attempt in range(_LONGER_TRIES):
        reading, timings = _window(phase, run, repeats, meter)
        span_s = span_needed_s(reading.counter_period_s or _counter_period_s(meter), plan)
        if reading.duration_s >= span_s or repeats >= MAX_REPEATS or attempt == _LONGER_TRIES - 1:
            break
        repeats = repeats_to_span(_GROWTH * span_s, reading.duration_s / repeats)
    energy_j = reading.energy_j
    if energy_j is None:
        raise MeasurementError(explain(f"no energy reading of {phase}", got=_why(reading)))
    return Block(reading=reading, repeats=repeats, energy_j=energy_j, timings=timings)


def next_repeats(block: Block, meter: EnergyMeter, plan: MeasurePlan) -> int:
    """Return how often to run in the next window, as ``block`` tells; never more often than in it."""
    span_s = span_needed_s(block.reading.counter_period_s or _counter_period_s(meter), plan)
    return min(
        block.repeats, repeats_to_span(_SURE_GROWTH * span_s, block.reading.duration_s / block.repeats)
    )


def _window(
    phase: str, run: Runner, repeats: int, meter: EnergyMeter
) -> tuple[WindowReading, tuple[RequestTiming, ...]]:
    meter.begin_window(phase)
    try:
        timings = run(repeats)
    except BaseException:
        meter.cancel_window(phase)
        raise
    return meter.end_window(phase), timings


def _why(reading: WindowReading) -> str:
    reasons = [gpu.reason for gpu in reading.gpus if gpu.reason] + [m.reason for m in reading.missing]
    return "; ".join(dict.fromkeys(reasons)) or "no reason given"


def label(blocks: Sequence[Block]) -> PhaseLabel:
    """Return the label of one run from its windows."""
    energies = [block.energy_j / block.repeats for block in blocks]
    times = [block.reading.duration_s / block.repeats for block in blocks]
    return PhaseLabel(
        energy_j=fmean(energies),
        energy_std_j=stdev(energies) if len(energies) > 1 else None,
        time_s=fmean(times),
        time_std_s=stdev(times) if len(times) > 1 else None,
        repeats=sum(block.repeats for block in blocks),
        window_s=sum(block.reading.duration_s for block in blocks),
        readings=tuple(block.reading for block in blocks),
    )


def _decode_label(
    blocks: dict[str, list[Block]], prefill: PhaseLabel, whole: PhaseLabel, output_tokens: int
) -> tuple[PhaseLabel | None, bool]:
    """Return decode's label and whether it is a difference; spreads of a difference add in quadrature."""
    if DECODE in blocks:
        return label(blocks[DECODE]), False
    if output_tokens == 1:
        return None, False
    difference = PhaseLabel(
        energy_j=whole.energy_j - prefill.energy_j,
        energy_std_j=_spread(prefill.energy_std_j, whole.energy_std_j),
        time_s=whole.time_s - prefill.time_s,
        time_std_s=_spread(prefill.time_std_s, whole.time_std_s),
        repeats=whole.repeats,
        window_s=whole.window_s,
        readings=whole.readings,
    )
    if difference.energy_j <= 0:
        raise MeasurementError(
            explain(
                "the whole run took no more energy than its prompt",
                got=f"{whole.energy_j:.4g} J against {prefill.energy_j:.4g} J",
                remedy="is the server on the GPUs that are measured, and is nothing else on them?",
            )
        )
    return difference, True


def _spread(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else math.hypot(first, second)


def _disagree(
    prefill: PhaseLabel,
    decode: PhaseLabel | None,
    whole: PhaseLabel,
    *,
    prefill_timings: Sequence[RequestTiming],
    timings: Sequence[RequestTiming],
    by_difference: bool,
    tolerance: float,
) -> bool:
    """Check parts against the whole; a difference agrees by construction: there, compare the first tokens."""
    if not by_difference:
        return parts_disagree(prefill.energy_j, decode.energy_j if decode else 0.0, whole.energy_j, tolerance)
    if not timings or not prefill_timings:
        return False
    alone_s, inside_s = (fmean(t.ttft_s for t in group) for group in (prefill_timings, timings))
    return abs(alone_s - inside_s) > tolerance * whole.time_s
