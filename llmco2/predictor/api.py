"""The front door: one request in, a footprint out; or a table in, a table out.

Invariant: both go through :mod:`llmco2.predictor.answer`, so a table of one request answers as the single
call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmco2.carbon import footprint_carbon
from llmco2.deployment.resolving import request_deployment
from llmco2.errors import DoesNotFitError
from llmco2.operators.columns import Column
from llmco2.physics.breakdown import ENERGY_PARTS, TIME_PARTS, Breakdown
from llmco2.predictor.answer import Answer, PhaseAnswer, answer_requests, deployment_factors
from llmco2.predictor.calibration import load_calibration
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.predictor.columns import SizeColumns
from llmco2.predictor.named_gpus import counted_remark, named_degree
from llmco2.predictor.resolved import kv_name, precision_by_part
from llmco2.records.footprint import Footprint, Interval, PhaseEnergy, PhaseParts
from llmco2.records.request import (
    DEFAULT_OUTPUT_TOKENS,
    DEFAULT_PROMPT_TOKENS,
    UNKNOWN,
    InferenceRequest,
)

if TYPE_CHECKING:
    import pandas as pd


def predict(
    *,
    model: str,
    gpu: str,
    tensor_parallel: int | None = None,
    pipeline_parallel: int = 1,
    expert_parallel: int = 1,
    engine: str = UNKNOWN,
    precision: str = UNKNOWN,
    kv_precision: str = UNKNOWN,
    batch_size: float = 1,
    prompt_tokens: float = DEFAULT_PROMPT_TOKENS,
    output_tokens: float = DEFAULT_OUTPUT_TOKENS,
    serving: str = "static",
    zone: str | None = None,
    carbon_intensity_gco2e_per_kwh: float | None = None,
    pue: float | None = None,
    lifetime_years: float | None = None,
    utilization: float | None = None,
    calibration: str | None = None,
    checkpoint: str | None = None,
) -> Footprint:
    """Return the energy, time and carbon of one batch of requests, before it runs.

    Args:
        model: a catalog name, an alias, or the path of a Hugging Face ``config.json`` or its folder.
        gpu: a catalog name, an alias, an NVML device name, the path of a JSON datasheet, or a name of several GPUs
            (a cloud instance "p5.48xlarge", Slurm's "gpu:h100:4", "8xH100").
        tensor_parallel: GPUs that share each layer; None is one, or all that ``gpu`` names where it names several.
        pipeline_parallel: stages of layers.
        expert_parallel: GPUs over which whole experts are spread.
        engine: serving engine; unknown widens the interval.
        precision: of weights and activations; unknown is the checkpoint's own where the GPU has it.
        kv_precision: of the KV cache; unknown is that of the activations.
        batch_size: requests in the batch.
        prompt_tokens: prompt tokens of one request.
        output_tokens: output tokens of one request; the first comes out of prefill.
        serving: ``static`` (the batch starts and ends together) or ``continuous`` (a steady number running).
        zone: country or cloud region; none is the world's average.
        carbon_intensity_gco2e_per_kwh: in place of the zone's.
        pue: power usage effectiveness, at least 1.
        lifetime_years: years over which hardware is written off.
        utilization: share of its life in which hardware works, 0 to 1.
        calibration: file that ``llmco2 calibrate`` wrote.
        checkpoint: ``.json`` of a checkpoint in place of the one that ships.

    Energies are joules of the whole batch over all its GPUs; times are seconds, masses gCO2e. ``prefill``,
    ``decode`` and ``total`` of the footprint hold ``energy_j``, its 90 % interval and physical bounds;
    ``carbon`` holds grams with every factor; ``notes`` says what lies outside the training domain.

    Raises:
        InputError: a name, number, combination or file that cannot be (CheckpointError where it is the checkpoint);
            its text is one line with the remedy.
        InstallationError: the checkpoint that ships is damaged.
    """
    if tensor_parallel is None:
        tensor_parallel = named_degree(gpu, pipeline_parallel)
    batch_size, prompt_tokens, output_tokens = map(_plain, (batch_size, prompt_tokens, output_tokens))
    tensor_parallel, pipeline_parallel, expert_parallel = map(
        _plain, (tensor_parallel, pipeline_parallel, expert_parallel)
    )
    request = InferenceRequest(
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        engine=engine,
        precision=precision,
        kv_precision=kv_precision,
        batch_size=batch_size,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        serving=serving,
    )
    deployment = request_deployment(request)
    numbers = load_checkpoint(checkpoint)
    fitted = load_calibration(calibration, deployment.gpu_id, deployment.engine, numbers)
    one = np.ones(1)
    sizes = SizeColumns(
        deployment=np.zeros(1, dtype=np.intp),
        batch_size=batch_size * one,
        prompt_tokens=prompt_tokens * one,
        output_tokens=output_tokens * one,
        continuous=float(serving == "continuous") * one,
    )
    answer = answer_requests(
        numbers,
        [deployment],
        sizes,
        scales=fitted.scales,
        width_scale=fitted.width_scale,
    )
    if answer.errors[0]:
        raise DoesNotFitError(answer.errors[0])
    factors = deployment_factors(
        deployment,
        zone=zone,
        carbon_intensity=carbon_intensity_gco2e_per_kwh,
        pue=pue,
        lifetime_years=lifetime_years,
        utilization=utilization,
    )
    total = _phase_energy(answer.total)
    carbon = footprint_carbon(
        total.energy_j,
        total.time_s,
        request.n_gpus,
        factors,
        total.energy_interval_j.low,
        total.energy_interval_j.high,
    )
    tokens_out = batch_size * output_tokens
    kv_cache = kv_name(kv_precision, deployment)
    resolved = InferenceRequest(
        model=deployment.architecture.name,
        gpu=deployment.gpu_id,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        engine=deployment.engine,
        precision=deployment.precision.name,
        kv_precision=kv_cache,
        batch_size=batch_size,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        serving=serving,
    )
    return Footprint(
        request=resolved,
        n_gpus=request.n_gpus,
        prefill=_phase_energy(answer.prefill),
        decode=_phase_energy(answer.decode),
        total=total,
        ttft_s=float(answer.ttft_s[0]),
        tpot_s=float(answer.tpot_s[0]),
        latency_s=total.time_s,
        ttft_interval_s=_time_interval(answer, answer.ttft_s),
        tpot_interval_s=_time_interval(answer, answer.tpot_s),
        latency_interval_s=_time_interval(answer, answer.total.time_s),
        prefill_parts=_parts(answer.prediction.prefill.breakdown),
        decode_parts=_parts(answer.prediction.decode.breakdown),
        measured_kernel_share=float(answer.prediction.measured_share[0]),
        energy_per_output_token_j=total.energy_j / tokens_out,
        energy_per_total_token_j=total.energy_j / (tokens_out + batch_size * prompt_tokens),
        carbon=carbon,
        memory_needed_bytes=float(answer.prediction.memory.total_bytes[0]),
        memory_available_bytes=float(answer.prediction.memory_available_bytes[0]),
        in_domain=bool(answer.in_domain[0]),
        notes=(*answer.notes[0], *counted_remark(gpu, request.n_gpus), *fitted.notes),
        predictor=numbers.name,
        precision_by_part=precision_by_part(deployment, kv_cache),
    )


def predict_frame(
    requests: pd.DataFrame,
    *,
    zone: str | None = None,
    carbon_intensity_gco2e_per_kwh: float | None = None,
    pue: float | None = None,
    lifetime_years: float | None = None,
    utilization: float | None = None,
    calibration: str | None = None,
    checkpoint: str | None = None,
) -> pd.DataFrame:
    """Return ``requests`` with the answer's columns added, one row a request, in their order.

    Only the columns ``model`` and ``gpu`` are required; the others are the arguments of :func:`predict` from
    ``tensor_parallel`` to ``serving``, and ``zone``. An empty cell takes the default, for ``zone`` the argument.
    A row that cannot be answered carries its ``error`` and no numbers; the others are answered.

    Added are, for the whole batch over all its GPUs, in this order:

    - ``prefill_energy_j, decode_energy_j, energy_j``: joules; ``energy_low_j, energy_high_j``: the 90 %
      interval of the total; ``energy_lower_bound_j, energy_upper_bound_j``: its physical bounds
    - ``energy_per_output_token_j, energy_per_total_token_j``: joules; total: prompt and output tokens
    - ``ttft_s, tpot_s, latency_s``: seconds to the first token, between later ones, to the last; ``ttft_low_s,
      ttft_high_s`` and so on: their 90 % intervals
    - ``average_power_w``: watts
    - ``operational_gco2e, embodied_gco2e``: grams
    - ``in_domain``: like what the predictor was trained on; ``notes``: what is not, and what else to know;
      ``error``: why there is no answer, one line, else empty
    - ``resolved_model, resolved_gpu, resolved_n_gpus, resolved_engine, resolved_precision, resolved_kv_precision``:
      what the names were taken to mean; ``precision_by_part``: the number format of each part of the model

    The index, the rows' order and columns of your own stay as they are. The same table gives the same answer,
    to the bit, and calls from several threads are safe. Arguments and errors otherwise as in :func:`predict`.

    Raises:
        InputError: no DataFrame, a column that lacks, is twice or misspelt; a bad argument.
        InstallationError: the checkpoint that ships is damaged.
    """
    from llmco2.predictor.frame import answer_frame  # noqa: PLC0415 - pandas, which one request does without

    return answer_frame(
        requests,
        zone=zone,
        carbon_intensity=carbon_intensity_gco2e_per_kwh,
        pue=pue,
        lifetime_years=lifetime_years,
        utilization=utilization,
        calibration=calibration,
        checkpoint=checkpoint,
    )


def _time_interval(answer: Answer, seconds: Column) -> Interval:
    low, high = answer.time_ends.low, answer.time_ends.high
    return Interval(low=float(seconds[0] * np.exp(low[0])), high=float(seconds[0] * np.exp(high[0])))


def _parts(breakdown: Breakdown) -> PhaseParts:
    return PhaseParts(
        time_s=dict(zip(TIME_PARTS, breakdown.time_s[0].tolist(), strict=True)),
        energy_j=dict(zip(ENERGY_PARTS, breakdown.energy_j[0].tolist(), strict=True)),
    )


def _plain(value: Any) -> Any:
    """Return Python's own number for one of numpy's, as rows of tables and arrays hold them."""
    return value.item() if isinstance(value, np.generic) else value


def _phase_energy(phase: PhaseAnswer) -> PhaseEnergy:
    energy, time = float(phase.energy_j[0]), float(phase.time_s[0])
    return PhaseEnergy(
        energy_j=energy,
        energy_interval_j=Interval(low=float(phase.low_j[0]), high=float(phase.high_j[0])),
        energy_bounds_j=Interval(
            low=float(phase.lower_bound_j[0]), high=float(phase.upper_bound_j[0]), coverage=1.0
        ),
        time_s=time,
        average_power_w=energy / time if time > 0.0 else 0.0,
    )
