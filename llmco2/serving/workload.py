"""The work of an interval as the request that a predictor answers, and how much of it there was.

Invariant: what an engine does not publish is asked for or assumed aloud: every assumption stands in ``notes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from llmco2.records.request import (
    DEFAULT_OUTPUT_TOKENS,
    MAX_BATCH_SIZE,
    MAX_TOKENS,
    UNKNOWN,
    InferenceRequest,
)
from llmco2.serving import sample as q
from llmco2.serving.interval import Interval
from llmco2.serving.sample import ServerSample

GRID_STEP: Final = 0.04  # requests are rounded to steps of 4 %, so that few of them need predicting


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What serves: the model on the GPUs of one replica, by names that the predictor knows."""

    model: str
    gpu: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    engine: str = UNKNOWN
    precision: str = UNKNOWN
    kv_precision: str = UNKNOWN
    replicas: int = 1
    idle_power_w: float | None = None  # of one GPU
    output_tokens: float | None = None  # of a request, where the engine counts no requests

    @property
    def n_gpus(self) -> int:
        """GPUs of all replicas."""
        return self.tensor_parallel * self.pipeline_parallel * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``request`` is the steady batch of one replica; the counts say how many such batches the interval held."""

    request: InferenceRequest
    prefill_batches: float
    decode_batches: float
    idle_s: float  # of the interval, in which no request ran; without prefill, which the prediction knows
    n_gpus: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Mean tokens of one request."""

    prompt: float
    output: float
    note: str | None = None


def workload(short: Interval, long: Interval, newest: ServerSample, deployment: Deployment) -> Workload | str:
    """Return the work of ``short``, or one line on why it cannot be known.

    Request lengths are means over ``long``, in which enough requests finished; where none did, over the life of the
    engine. Tokens, batch and idle time are those of ``short``.
    """
    made, computed = short.counts.get(q.GENERATION_TOKENS), short.prefilled_tokens
    if made is None:
        return f"{newest.engine} publishes no count of generated tokens here"
    if computed is None:
        return f"{newest.engine} publishes no count of prompt tokens here"
    batch = running_requests(short)
    if batch is None:
        return f"{newest.engine} publishes neither running requests nor the time between tokens here"
    lengths = request_lengths(long, newest, deployment)
    if isinstance(lengths, str):
        return lengths
    notes = [] if lengths.note is None else [lengths.note]
    engine = deployment.engine
    if short.counts.get(q.DRAFT_TOKENS):
        engine = "vllm-speculative" if newest.engine == "vllm" else engine
        notes += (
            []
            if newest.engine == "vllm"
            else ["speculative decoding is on, and the prediction leaves it out"]
        )
    request = InferenceRequest(
        model=deployment.model,
        gpu=deployment.gpu,
        tensor_parallel=deployment.tensor_parallel,
        pipeline_parallel=deployment.pipeline_parallel,
        engine=engine,
        precision=deployment.precision,
        kv_precision=deployment.kv_precision,
        batch_size=on_grid(batch / deployment.replicas, MAX_BATCH_SIZE),
        prompt_tokens=on_grid(lengths.prompt, MAX_TOKENS),
        output_tokens=on_grid(lengths.output, MAX_TOKENS),
        serving="continuous",
    )
    return Workload(
        request=request,
        prefill_batches=computed / (request.batch_size * request.prompt_tokens),
        decode_batches=made / (request.batch_size * request.output_tokens),
        idle_s=max(0.0, short.duration_s - decode_seconds(short, batch)),
        n_gpus=deployment.n_gpus,
        notes=tuple(notes),
    )


def running_requests(short: Interval) -> float | None:
    """Return the mean number of requests that ran together while any did; ``None`` where nothing tells it.

    The gauge sees moments. The time between tokens, summed over all of them, is request-seconds of decoding: over the
    interval's seconds it is a mean that includes idle time, and so a lower limit.
    """
    itl = short.histograms.get(q.ITL)
    mean = None if itl is None or short.duration_s <= 0 else itl.total / short.duration_s
    known = [value for value in (short.running, mean) if value is not None]
    return max(1.0, *known) if known else None


def decode_seconds(short: Interval, batch: float) -> float:
    """Return the seconds of an interval in which a batch of ``batch`` requests was decoded.

    By the engine's own clock where it has one, else request-seconds of decoding over the batch; where neither is known
    an interval with tokens counts as busy throughout.
    """
    known = short.counts.get(q.DECODE_SECONDS)
    itl = short.histograms.get(q.ITL)
    if known is None and itl is not None:
        known = itl.total / batch
    if known is None:
        known = short.duration_s if short.counts.get(q.GENERATION_TOKENS) else 0.0
    return min(short.duration_s, known)


def request_lengths(long: Interval, newest: ServerSample, deployment: Deployment) -> Lengths | str:
    """Return the mean lengths of a request, from the first of: requests that finished, counts per request, life."""
    prompts, outputs = long.histograms.get(q.PROMPT_LENGTH), long.histograms.get(q.OUTPUT_LENGTH)
    if prompts is not None and outputs is not None and prompts.mean and outputs.mean:
        return Lengths(prompt=max(1.0, prompts.mean), output=max(1.0, outputs.mean))
    finished = long.counts.get(q.FINISHED_REQUESTS)
    prompt, made = long.prompt_tokens, long.counts.get(q.GENERATION_TOKENS)
    if finished and prompt and made:
        return Lengths(prompt=max(1.0, prompt / finished), output=max(1.0, made / finished))
    totals = {name: reading.total for name, reading in newest.counters.items()}
    life = Interval(start_s=0.0, end_s=0.0, counts=totals)
    finished, prompt, made = (
        totals.get(q.FINISHED_REQUESTS),
        life.prompt_tokens,
        totals.get(q.GENERATION_TOKENS),
    )
    if finished and prompt and made:
        note = "request lengths are means over the engine's life: too few finished since"
        return Lengths(prompt=max(1.0, prompt / finished), output=max(1.0, made / finished), note=note)
    if finished is not None:
        return "no request has finished yet, so their lengths are not known"
    if not prompt or not made:
        return "no token has been made yet"
    output = deployment.output_tokens or DEFAULT_OUTPUT_TOKENS
    given = "as given" if deployment.output_tokens else "assumed"
    note = f"{newest.engine} counts no requests: {output:g} output tokens a request, {given}"
    return Lengths(prompt=max(1.0, output * prompt / made), output=float(output), note=note)


def on_grid(value: float, most: float) -> float:
    """Return ``value`` from 1 to ``most`` on a logarithmic grid of 4 %, at most 2 % away, to four digits."""
    rounded = math.exp(round(math.log(max(1.0, value)) / GRID_STEP) * GRID_STEP)
    return min(float(most), max(1.0, float(f"{rounded:.4g}")))
