"""The measured run and the measured kernel: one configuration, what was measured of it, how, and by what.

Invariant: the schema is flat and versioned; a value that was not measured is ``None``, never zero. Energies are
gross (idle included) joules of all GPUs in use for the whole batch; ``energy_includes`` says where not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from llmco2.records.request import UNKNOWN, InferenceRequest

RUN_SCHEMA_VERSION: Final = 1
REFERENCE_KERNELS: Final = "reference_kernels"  # flag: plain torch stood in for kernels of a missing package


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One row of ``MeasuredRun`` data: a request, its labels, and their provenance."""

    schema_version: int = RUN_SCHEMA_VERSION
    run_id: str  # stable identity of the configuration inside its source
    source: str  # campaign, dataset or importer
    simulated: bool = False  # True for anything that no real GPU drew
    status: str = "ok"  # ok | failed
    failure_reason: str | None = None
    flags: str = (
        ""  # semicolon-separated warnings: parts_disagree; counter_disagrees; shared_gpu; throttled …
    )

    # the request
    model: str
    gpu: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    engine: str = UNKNOWN
    engine_version: str | None = None
    precision: str = UNKNOWN
    kv_precision: str = UNKNOWN
    batch_size: float = 1.0
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    serving: str = "static"
    shape_mix: str | None = (
        None  # JSON [[batch_size, prompt_tokens, output_tokens], …] where batches differed
    )

    # labels; energy in J for the whole batch over all GPUs, time in s
    prefill_energy_j: float | None = None
    prefill_energy_std_j: float | None = None
    decode_energy_j: float | None = None
    decode_energy_std_j: float | None = None
    energy_j: float | None = None  # prefill and decode together, as one enclosing window saw them
    energy_std_j: float | None = None
    energy_per_output_token_j: float | None = None  # at a steady batch
    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None
    average_power_w: float | None = None  # all GPUs
    host_energy_j: float | None = None  # CPU packages
    dram_energy_j: float | None = None
    repeats: int = 1
    window_s: float | None = None  # length of the measured window, repeats included

    # how
    energy_method: str = UNKNOWN  # counter_slope | counter_window | integrated_power | published
    energy_includes: str = "gpu_gross"
    counter_period_s: float | None = None
    integrated_energy_j: float | None = None  # the other way of measuring, where both were possible
    idle_power_w: float | None = None  # one GPU, bare
    context_idle_power_w: float | None = None  # one GPU, CUDA context loaded
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    gpu_utilization_percent: float | None = None
    throttle_reasons: str | None = None
    attention_backend: str | None = None
    cuda_graphs: bool | None = None
    step_time_batch1_s: float | None = None
    driver_version: str | None = None
    device_name: str | None = None
    measured_at: str | None = None  # ISO 8601, UTC
    weight: float = 1.0  # how far the source is trusted, 0 to 1
    notes: str = ""

    @property
    def n_gpus(self) -> int:
        """GPUs in use."""
        return max(self.tensor_parallel, self.expert_parallel) * self.pipeline_parallel * self.data_parallel

    def request(self) -> InferenceRequest:
        """Return the request that was measured.

        Raises RequestError where the run does not know its prompt or output tokens.
        """
        return InferenceRequest(
            model=self.model,
            gpu=self.gpu,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            expert_parallel=self.expert_parallel,
            engine=self.engine,
            precision=self.precision,
            kv_precision=self.kv_precision,
            batch_size=self.batch_size,
            prompt_tokens=self.prompt_tokens or 0,
            output_tokens=self.output_tokens or 0,
            serving=self.serving,
        )


RUN_COLUMNS: Final = tuple(field.name for field in fields(MeasuredRun))


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMeasurement:
    """One measured kernel: its kind, its shape, its latency and, where known, its power and energy.

    Labels are of one launch: means over windows, and the standard deviation between them.
    """

    schema_version: int = RUN_SCHEMA_VERSION
    run_id: str | None = None  # stable identity of the shape inside its source, where it was measured by us
    source: str
    simulated: bool = False
    status: str = "ok"  # ok | failed
    failure_reason: str | None = None
    flags: str = ""  # semicolon-separated warnings: warm_cache; launched_eagerly; unsettled; throttled …
    gpu: str
    kind: str  # gemm | prefill_attention | decode_attention | moe | all_reduce | rms_norm | copy …
    precision: str
    m: float | None = None  # tokens
    n: float | None = None
    k: float | None = None
    batch_size: float | None = None
    context_tokens: float | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    n_experts: int | None = None
    experts_per_token: int | None = None
    n_gpus: int = 1
    message_bytes: float | None = None
    latency_s: float | None = None  # None: the kernel failed
    latency_std_s: float | None = None
    power_w: float | None = None  # mean of one GPU while the kernel was launched again and again
    energy_j: float | None = None
    energy_std_j: float | None = None
    repeats: int = 1  # launches inside all windows
    window_s: float | None = None  # length of all windows together
    flops: float | None = None  # of one launch; a multiply-add counts as 2
    bytes_moved: float | None = (
        None  # of one launch at least: each operand read once, the result written once
    )

    # what else decides a kernel's time, where the source says it
    kv_precision: str | None = None
    window_tokens: float | None = None  # sliding attention; None or 0: full
    expert_tensor_parallel: int | None = None  # moe: shards of each expert; n is already the shard's width
    expert_parallel: int | None = None  # moe: GPUs that the experts are spread over
    load_balance: str | None = (
        None  # moe: balanced | power_law_1.01 | power_law_1.2 (how tokens choose experts)
    )
    implementation: str | None = None  # the library's kernel, e.g. "vllm_flash_attn_fa3"
    engine_version: str | None = None
    power_limit_w: float | None = None

    # how it was measured, where that was us
    cold_cache: bool | None = None  # operands rotated through more memory than the last cache holds
    cuda_graphs: bool | None = None  # launches came from a captured graph: no host between them
    energy_method: str | None = None  # counter_slope | counter_window | integrated_power
    counter_period_s: float | None = None
    integrated_energy_j: float | None = None  # the other way of measuring, where both were possible
    idle_power_w: float | None = None  # one GPU, bare
    context_idle_power_w: float | None = None  # one GPU, CUDA context loaded
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    gpu_utilization_percent: float | None = None
    throttle_reasons: str | None = None
    driver_version: str | None = None
    device_name: str | None = None
    measured_at: str | None = None  # ISO 8601, UTC
    notes: str = ""


KERNEL_COLUMNS: Final = tuple(field.name for field in fields(KernelMeasurement))
