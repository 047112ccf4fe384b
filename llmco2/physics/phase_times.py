"""Seconds of prefill and decode, from step curves and the host's constants.

Invariant: times rise with prompt, output and batch. Sources: chunked prefill and mixed steps as in Sarathi-Serve
(arXiv 2403.02310): a step that decodes B sequences and prefills q tokens reads its weights once, so prefill costs what
q more tokens add to the step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.kernel_model.curves import (
    BATCHES,
    CONTEXTS,
    PROMPTS,
    TOKENS,
    Grid,
    StepCurves,
    across,
    along,
    place_on,
)
from llmco2.kernel_model.features import Column
from llmco2.kernel_model.step import PARTS

TOKEN_BUDGET: Final = (
    8192.0  # tokens of one step: vLLM's max_num_batched_tokens, SGLang's chunked_prefill_size
)
_ATTENTION: Final = PARTS.index("attention")
_EXPERTS: Final = PARTS.index("experts")
_GAUSS: Final = ((0.06943184420297371, 0.17392742256872693), (0.33000947820757187, 0.32607257743127307),
                 (0.6699905217924281, 0.32607257743127307), (0.9305681557970262, 0.17392742256872693))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HostColumns:
    """What a stack's host costs, ``(n_requests,)`` each; seconds."""

    step_s: Column  # a step, whatever is in it
    sequence_s: Column  # each running sequence of a step
    expert_layer_s: Column  # each mixture-of-experts layer of a step, that no kernel table explains
    block_expert_layer_s: Column  # the same of a layer whose experts are block-scaled FP8
    latent_layer_s: Column  # each latent-attention layer of a step
    launch_s: Column  # each operator launched from Python; 0 where CUDA graphs are replayed
    prefill_step_s: Column  # a step that holds a prefill, beyond its kernels
    prefill_factor: Column  # prefill kernels' time over that of measured kernels
    kernel_factor: Column  # decode kernels' time over that of measured kernels
    board_factor: (
        Column  # kernels' time over that of measured kernels, on boards without kernels of their own
    )
    busy_factor: Column  # share of the kernels' time that draws power as measured kernels do
    cache_passes: (
        Column  # passes over the cache beside attention's own: eager frameworks copy it to append a token
    )

    def take(self, index: NDArray[np.intp]) -> HostColumns:
        """Return the rows ``index``, with repeats."""
        return HostColumns(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestColumns:
    """Sizes of requests and what of their model the host counts, ``(n_requests,)`` each."""

    deployment: NDArray[np.intp]
    batch_size: Column
    prompt_tokens: Column
    output_tokens: Column
    continuous: Column  # 1: a steady batch of running requests
    eager: Column  # 1: no token budget and no CUDA graphs
    operators: Column  # operators of one step that Python launches
    expert_layers: Column  # whose experts are not block-scaled FP8
    block_expert_layers: Column
    latent_layers: Column
    cache_pass_s: Column  # one pass over the cache of a mean decode step at full memory bandwidth


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimes:
    """Both phases, ``(n_requests,)``; parts are ``(n_requests, n_parts)`` in the order of PARTS."""

    prefill_s: Column
    decode_s: Column
    prefill_kernels_s: Grid
    decode_kernels_s: Grid
    steps: Column  # decode steps
    step_s: Column  # one decode step without prefill in it
    prompt_s: Column  # of one prompt in running steps, beyond those steps
    ttft_s: Column
    tpot_s: Column


def phase_times(curves: StepCurves, request: RequestColumns, host: HostColumns) -> PhaseTimes:
    """Return the times of every request; ``host`` row by row."""
    steps = np.maximum(request.output_tokens - 1.0, 0.0)
    kernels = _decode_step(curves, request, steps) * (host.kernel_factor * host.board_factor)[:, None]
    kernels[:, _ATTENTION] += host.cache_passes * request.cache_pass_s
    kernels[:, _EXPERTS] += _unexplained_experts(request, host)
    step_s = _step_time(kernels.sum(axis=1), request.batch_size, request, host)
    static = _static_prefill(curves, request, host)
    mixed = _mixed_prefill(curves, request, host, steps)
    steady = request.continuous > 0
    prefill_kernels = np.where(steady[:, None], mixed.kernels, static.kernels)
    prefill_s = np.where(steady, mixed.seconds, static.seconds)
    decode_s = steps * step_s
    zero = np.zeros_like(steps)
    times = PhaseTimes(
        prefill_s=prefill_s,
        decode_s=decode_s,
        prefill_kernels_s=prefill_kernels,
        decode_kernels_s=kernels * steps[:, None],
        steps=steps,
        step_s=step_s,
        prompt_s=_one_prompt(curves, request, host, step_s),
        ttft_s=zero,
        tpot_s=zero,
    )
    return above_bounds(times, request, zero, zero)


def above_bounds(
    times: PhaseTimes, request: RequestColumns, least_prefill_s: Column, least_decode_s: Column
) -> PhaseTimes:
    """Return the times with no phase under its roofline; times of tokens move with their phase."""
    prefill_s = np.maximum(times.prefill_s, least_prefill_s)
    decode_s = np.maximum(times.decode_s, least_decode_s)
    steps = np.maximum(times.steps, 1.0)
    step_s = np.maximum(times.step_s, least_decode_s / steps)
    steady = request.continuous > 0
    riding = step_s + prefill_s / np.maximum(request.output_tokens, 1.0)
    return replace(
        times,
        prefill_s=prefill_s,
        decode_s=decode_s,
        step_s=step_s,
        ttft_s=np.where(steady, np.maximum(times.prompt_s + times.step_s, step_s), prefill_s),
        tpot_s=np.where(times.steps > 0, np.where(steady, riding, step_s), 0.0),
    )


def _step_time(kernels_s: Column, sequences: Column, request: RequestColumns, host: HostColumns) -> Column:
    """Return a step's seconds: kernels, then host work; or launches from Python where they take longer."""
    serial = (
        kernels_s + host.step_s + host.sequence_s * sequences + host.latent_layer_s * request.latent_layers
    )
    launched: Column = host.launch_s * request.operators + host.step_s + host.sequence_s * sequences
    return np.maximum(serial, launched)


def _unexplained_experts(request: RequestColumns, host: HostColumns) -> Column:
    """Return the seconds of a step's expert layers that no kernel table explains; the GPU works in them."""
    result: Column = (
        host.expert_layer_s * request.expert_layers + host.block_expert_layer_s * request.block_expert_layers
    )
    return result


def _decode_step(curves: StepCurves, request: RequestColumns, steps: Column) -> Grid:
    """Return the kernels of a mean decode step, ``(n_requests, n_parts)``: the mean over the contexts it passes."""
    row, batch = request.deployment, place_on(TOKENS, request.batch_size)
    total = along(curves.tokens_s, row, batch) + along(curves.sequences_s, row, batch)
    sequences = place_on(BATCHES, request.batch_size)
    for node, weight in _GAUSS:
        context = place_on(CONTEXTS, request.prompt_tokens + 1.0 + node * steps)
        total = total + weight * across(curves.decode_s, row, sequences, context)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefill:
    seconds: Column
    kernels: Grid


def _static_prefill(curves: StepCurves, request: RequestColumns, host: HostColumns) -> _Prefill:
    """Return prefill of a whole batch at once: full steps of the token budget and what remains."""
    row, batch, prompt = request.deployment, request.batch_size, request.prompt_tokens
    tokens = batch * prompt
    budget = np.where(request.eager > 0, np.inf, TOKEN_BUDGET)
    full = np.floor((tokens - 1.0) / budget)
    full = np.maximum(full, 0.0)
    rest = np.maximum(tokens - np.where(full > 0, full * TOKEN_BUDGET, 0.0), 1.0)
    kernels = full[:, None] * along(
        curves.tokens_s, row, place_on(TOKENS, np.full_like(tokens, TOKEN_BUDGET))
    )
    kernels = kernels + along(curves.tokens_s, row, place_on(TOKENS, rest))
    kernels = kernels + along(curves.sequences_s, row, place_on(TOKENS, batch))
    kernels = kernels + _prefill_attention(curves, request, budget)
    kernels = kernels * (host.prefill_factor * host.board_factor)[:, None]
    passes = full + 1.0
    kernels[:, _EXPERTS] += passes * _unexplained_experts(request, host)
    each = kernels.sum(axis=1) / passes
    step = _step_time(each, batch / passes, request, host) + host.prefill_step_s
    return _Prefill(seconds=passes * step, kernels=kernels)


def _prefill_attention(curves: StepCurves, request: RequestColumns, budget: Column) -> Grid:
    """Return the attention of all prompts, as many of them in one kernel as the budget holds."""
    together = np.clip(budget / request.prompt_tokens, 1.0, request.batch_size)
    one = across(
        curves.prefill_s,
        request.deployment,
        place_on(BATCHES, together),
        place_on(PROMPTS, request.prompt_tokens),
    )
    return one * (request.batch_size / together)[:, None]


def _mixed_prefill(curves: StepCurves, request: RequestColumns, host: HostColumns, steps: Column) -> _Prefill:
    """Return what the prefills of a steady batch add to its decode steps, for all its requests together.

    Prompts arrive as others end: as many steps hold one as there are requests, each whole where the token budget
    holds it; where requests outnumber steps, prompts share them. Steps beyond those that decode run by themselves.
    """
    row, batch, prompt = request.deployment, request.batch_size, request.prompt_tokens
    passes = np.maximum(batch * prompt / TOKEN_BUDGET, np.minimum(batch, np.maximum(steps, 1.0)))
    riding = np.minimum(passes, steps)
    together = batch * prompt / passes
    whole = along(curves.tokens_s, row, place_on(TOKENS, batch + together))
    decoding = along(curves.tokens_s, row, place_on(TOKENS, batch))
    # What a mixed step replaces is never more than what decoding counted for it.
    replaced = _replaced_share(request, host) * riding
    longer = whole * passes[:, None] + _prefill_attention(curves, request, together)
    kernels = longer * host.prefill_factor[:, None] - decoding * replaced[:, None]
    kernels = kernels * host.board_factor[:, None]
    alone = passes - riding
    seconds = kernels.sum(axis=1) + passes * host.prefill_step_s + alone * host.step_s
    return _Prefill(seconds=seconds, kernels=kernels)


def _one_prompt(curves: StepCurves, request: RequestColumns, host: HostColumns, step_s: Column) -> Column:
    """Return the seconds from the start of a prompt to its first token, less one running step.

    A prompt longer than the token budget runs in chunks, each in a step of its own.
    """
    row, batch, prompt = request.deployment, request.batch_size, request.prompt_tokens
    chunks = np.maximum(prompt / TOKEN_BUDGET, 1.0)
    chunk = np.minimum(prompt, TOKEN_BUDGET)
    added = along(curves.tokens_s, row, place_on(TOKENS, batch + chunk)).sum(axis=1)
    decoding = along(curves.tokens_s, row, place_on(TOKENS, batch)).sum(axis=1)
    one = across(curves.prefill_s, row, place_on(BATCHES, np.ones_like(batch)), place_on(PROMPTS, prompt))
    kernels = host.prefill_factor * (chunks * added + one.sum(axis=1))
    kernels = kernels - _replaced_share(request, host) * chunks * decoding
    seconds: Column = host.board_factor * kernels + chunks * host.prefill_step_s + (chunks - 1.0) * step_s
    return seconds


def _replaced_share(request: RequestColumns, host: HostColumns) -> Column:
    """Return how much of a decode step's kernels a mixed step saves; nothing where kernels hide behind launches."""
    share: Column = np.minimum(np.minimum(host.prefill_factor, host.kernel_factor), 1.0) * (
        request.eager == 0
    )
    return share
