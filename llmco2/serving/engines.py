"""The names under which serving engines publish what they do, newest first.

Sources: the engines' own code and documentation, by version: vLLM 0.6.6, 0.10.2, 0.11.2, 0.14.1 and 0.32.0; SGLang
0.5.23; TGI 3; TensorRT-LLM 1.x; Triton 24; llama.cpp b11434; LMDeploy 0.18; the Dynamo frontend 1. Names drift: vLLM
deprecates a series in one release, hides it in the next and removes it in the one after.

Invariant: a quantity is read from the first of its names that a page has, and from that one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from llmco2.serving import sample as q


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesName:
    """One series: its name after the engine's prefix, and the label values that choose among its series."""

    name: str
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How one engine writes its page; each quantity has alternatives, newest first."""

    name: str
    title: str
    prefixes: tuple[str, ...]
    counters: Mapping[str, tuple[SeriesName, ...]]
    gauges: Mapping[str, tuple[SeriesName, ...]]
    histograms: Mapping[str, tuple[SeriesName, ...]]
    model_labels: tuple[str, ...] = ("model_name",)
    rank_labels: tuple[str, ...] = ()  # replicas: their counts add up
    shard_labels: tuple[str, ...] = ()  # parts of one replica, each of which may repeat the same count
    significant_digits: int | None = None  # of a printed counter
    config: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # fact: its series and label
    paths: tuple[str, ...] = ("/metrics",)
    counts_when: str = "token"  # "request": tokens are counted when their request ends

    def stem(self, series: str) -> str | None:
        """Return a series' name after the engine's prefix, or ``None`` where it is not of this engine."""
        return next((series.removeprefix(p) for p in self.prefixes if series.startswith(p)), None)


def _names(*names: str | SeriesName) -> tuple[SeriesName, ...]:
    return tuple(SeriesName(name=name) if isinstance(name, str) else name for name in names)


VLLM: Final = Engine(
    name="vllm",
    title="vLLM",
    prefixes=("vllm:", "vllm_", "ray_vllm:", "ray_vllm_"),
    rank_labels=("engine", "WorkerId"),
    counters={
        q.PROMPT_TOKENS: _names("prompt_tokens_total"),
        q.COMPUTED_PROMPT_TOKENS: _names(
            SeriesName(name="prompt_tokens_by_source_total", where={"source": "local_compute"})
        ),
        q.CACHED_PROMPT_TOKENS: _names(
            "prompt_tokens_cached_total", "prefix_cache_hits_total", "gpu_prefix_cache_hits_total"
        ),
        q.GENERATION_TOKENS: _names("generation_tokens_total"),
        q.FINISHED_REQUESTS: _names("request_success_total"),
        q.DRAFT_TOKENS: _names("spec_decode_num_draft_tokens_total"),
        q.ACCEPTED_TOKENS: _names("spec_decode_num_accepted_tokens_total"),
        q.PREEMPTIONS: _names("num_preemptions_total"),
        q.FLOPS_PER_GPU: _names("estimated_flops_per_gpu_total"),
        q.READ_BYTES_PER_GPU: _names("estimated_read_bytes_per_gpu_total"),
        q.WRITTEN_BYTES_PER_GPU: _names("estimated_write_bytes_per_gpu_total"),
    },
    gauges={
        q.RUNNING: _names("num_requests_running"),
        q.WAITING: _names("num_requests_waiting"),
        q.KV_USE: _names("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    },
    histograms={
        q.TTFT: _names("time_to_first_token_seconds"),
        q.ITL: _names("inter_token_latency_seconds", "time_per_output_token_seconds"),
        q.TPOT: _names("request_time_per_output_token_seconds"),
        q.E2E: _names("e2e_request_latency_seconds"),
        q.PROMPT_LENGTH: _names("request_prompt_tokens"),
        q.OUTPUT_LENGTH: _names("request_generation_tokens"),
    },
)

SGLANG: Final = Engine(
    name="sglang",
    title="SGLang",
    prefixes=("sglang:", "sglang_"),
    rank_labels=("dp_rank",),
    shard_labels=("tp_rank", "pp_rank", "moe_ep_rank"),
    counters={
        q.PROMPT_TOKENS: _names("prompt_tokens_total"),
        q.CACHED_PROMPT_TOKENS: _names("cached_tokens_total"),
        q.GENERATION_TOKENS: _names("generation_tokens_total"),
        q.FINISHED_REQUESTS: _names("num_requests_total"),
        q.FLOPS_PER_GPU: _names("estimated_flops_per_gpu_total"),
        q.READ_BYTES_PER_GPU: _names("estimated_read_bytes_per_gpu_total"),
        q.WRITTEN_BYTES_PER_GPU: _names("estimated_write_bytes_per_gpu_total"),
    },
    gauges={
        q.RUNNING: _names("num_running_reqs"),
        q.WAITING: _names("num_queue_reqs"),
        q.KV_USE: _names("token_usage"),
    },
    histograms={
        q.TTFT: _names("time_to_first_token_seconds"),
        q.ITL: _names("inter_token_latency_seconds", "time_per_output_token_seconds"),
        q.E2E: _names("e2e_request_latency_seconds"),
    },
)

TGI: Final = Engine(
    name="tgi",
    title="TGI",
    prefixes=("tgi_",),
    model_labels=(),
    counts_when="request",
    counters={
        q.PROMPT_TOKENS: _names("request_input_length_sum"),
        q.GENERATION_TOKENS: _names("request_generated_tokens_sum"),
        q.FINISHED_REQUESTS: _names("request_success", "request_success_total"),
        q.STEPS: _names(SeriesName(name="batch_inference_count", where={"method": "decode"})),
        q.DECODE_SECONDS: _names(SeriesName(name="batch_forward_duration_sum", where={"method": "decode"})),
    },
    gauges={q.RUNNING: _names("batch_current_size"), q.WAITING: _names("queue_size")},
    histograms={
        q.TPOT: _names("request_mean_time_per_token_duration"),
        q.E2E: _names("request_duration"),
        q.PROMPT_LENGTH: _names("request_input_length"),
        q.OUTPUT_LENGTH: _names("request_generated_tokens"),
    },
)

TRTLLM: Final = Engine(
    name="trtllm",
    title="TensorRT-LLM",
    prefixes=("trtllm_", "trtllm:"),
    config={
        "dtype": ("model_config_info", "dtype"),
        "quantization": ("model_config_info", "quantization"),
        "gpu": ("model_config_info", "gpu_type"),
        "tensor_parallel": ("parallel_config_info", "tp_size"),
        "pipeline_parallel": ("parallel_config_info", "pp_size"),
    },
    paths=("/prometheus/metrics",),  # reading /metrics takes the statistics away from whoever else reads them
    counters={
        q.PROMPT_TOKENS: _names("prompt_tokens_total"),
        q.CACHED_PROMPT_TOKENS: _names("prompt_cached_tokens_total"),
        q.GENERATION_TOKENS: _names("generation_tokens_total"),
        q.FINISHED_REQUESTS: _names("request_success_total"),
    },
    gauges={
        q.RUNNING: _names("num_requests_running"),
        q.WAITING: _names("num_requests_waiting"),
        q.KV_USE: _names("kv_cache_utilization"),
    },
    histograms={
        q.TTFT: _names("time_to_first_token_seconds"),
        q.TPOT: _names("time_per_output_token_seconds"),
        q.E2E: _names("e2e_request_latency_seconds"),
    },
)

TRITON: Final = Engine(
    name="triton",
    title="Triton",
    prefixes=("nv_",),
    model_labels=("model",),
    rank_labels=("gpu_uuid",),
    counters={
        q.FINISHED_REQUESTS: _names("inference_request_success"),
        q.ENERGY: _names("energy_consumption"),
    },
    gauges={
        q.RUNNING: _names(SeriesName(name="trt_llm_request_metrics", where={"request_type": "active"})),
        q.WAITING: _names(SeriesName(name="trt_llm_request_metrics", where={"request_type": "waiting"})),
        q.KV_USE: _names(
            SeriesName(name="trt_llm_kv_cache_block_metrics", where={"kv_cache_block_type": "fraction"})
        ),
    },
    histograms={},
)

LLAMACPP: Final = Engine(
    name="llamacpp",
    title="llama.cpp",
    prefixes=("llamacpp:", "llamacpp_"),
    model_labels=("model",),
    significant_digits=6,
    counters={
        q.COMPUTED_PROMPT_TOKENS: _names("prompt_tokens_total"),
        q.CACHED_PROMPT_TOKENS: _names("prompt_tokens_cached_total"),
        q.GENERATION_TOKENS: _names("tokens_predicted_total"),
        q.STEPS: _names("n_decode_total"),
        q.DRAFT_TOKENS: _names("spec_decode_num_draft_tokens_total"),
        q.ACCEPTED_TOKENS: _names("spec_decode_num_accepted_tokens_total"),
    },
    gauges={q.RUNNING: _names("requests_processing"), q.WAITING: _names("requests_deferred")},
    histograms={},
)

LMDEPLOY: Final = Engine(
    name="lmdeploy",
    title="LMDeploy",
    prefixes=("lmdeploy:", "lmdeploy_"),
    rank_labels=("engine", "dp_rank"),
    counters={
        q.PROMPT_TOKENS: _names("prompt_tokens_total"),
        q.CACHED_PROMPT_TOKENS: _names("cached_tokens_total"),
        q.GENERATION_TOKENS: _names("generation_tokens_total"),
        q.FINISHED_REQUESTS: _names("request_success_total", "num_requests_succeeded"),  # the latter a gauge
    },
    gauges={
        q.RUNNING: _names("num_requests_running"),
        q.WAITING: _names("num_requests_waiting"),
        q.KV_USE: _names("gpu_cache_usage_perc"),
    },
    histograms={
        q.TTFT: _names("time_to_first_token_seconds"),
        q.TPOT: _names("time_per_output_token_seconds"),
        q.ITL: _names("iter_token_latency"),
        q.E2E: _names("e2e_request_latency_seconds"),
    },
)

DYNAMO: Final = Engine(
    name="dynamo",
    title="Dynamo frontend",
    prefixes=("dynamo_frontend_",),
    model_labels=("model",),
    counters={
        q.PROMPT_TOKENS: _names("input_sequence_tokens_sum"),
        q.GENERATION_TOKENS: _names("output_tokens_total"),
        q.FINISHED_REQUESTS: _names("requests_total"),
    },
    gauges={q.RUNNING: _names("inflight_requests"), q.WAITING: _names("queued_requests")},
    histograms={
        q.TTFT: _names("time_to_first_token_seconds"),
        q.ITL: _names("inter_token_latency_seconds"),
        q.PROMPT_LENGTH: _names("input_sequence_tokens"),
    },
)

# Dynamo's frontend repeats an engine's series on some ports: the engine behind it is read first.
ENGINES: Final[Mapping[str, Engine]] = MappingProxyType(
    {e.name: e for e in (VLLM, SGLANG, TGI, TRTLLM, LLAMACPP, LMDEPLOY, TRITON, DYNAMO)}
)


def wanted(series: str) -> bool:
    """Whether a series' name is that of an engine that is known."""
    return any(engine.stem(series) is not None for engine in ENGINES.values())
