"""A server under watch as plain data, for JSON.

Invariant: what is not known is null, never zero, and units stand in the names.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llmco2.errors import InputError
from llmco2.serving import sample as q
from llmco2.serving.comparing import ServerComparison
from llmco2.serving.counted_work import counted_work
from llmco2.serving.engines import ENGINES
from llmco2.serving.exposition import printable
from llmco2.serving.interval import Interval
from llmco2.serving.sample import Histogram
from llmco2.serving.session import ServerSession

_SHARES = (0.5, 0.95, 0.99)


def server_facts(session: ServerSession) -> dict[str, Any]:
    """Return all that is known of a server and of its newest interval."""
    watch, identity = session.server.watch, session.server.identity
    newest = watch.newest
    found = session.found
    return {
        "url": session.url,
        "trouble": None
        if session.trouble is None
        else {"code": session.trouble.code, "text": str(session.trouble)},
        "engine": None if newest is None else ENGINES[newest.sample.engine].title,
        "identity": None if identity is None else asdict(identity),
        "served_model": None
        if newest is None or newest.sample.model is None
        else printable(newest.sample.model, 200),
        "gpus": list(session.gpus.indices),
        "gpus_by": session.gpus.origin,
        "deployment": None if isinstance(found, str) else asdict(found.deployment),
        "deployment_by": None if isinstance(found, str) else dict(found.origins),
        "restarts": watch.restarts,
        "series_found": {} if newest is None else dict(newest.sample.found),
        "series_missing": [] if newest is None else list(newest.sample.missing),
        "notes": [] if newest is None else [printable(note, 200) for note in newest.sample.notes],
        "interval": None if session.last is None else comparison_facts(session.last),
        "totals": asdict(session.totals),
    }


def comparison_facts(found: ServerComparison) -> dict[str, Any]:
    """Return one interval of a server, predicted beside measured."""
    predicted, work = found.predicted, found.workload
    return {
        **interval_facts(found.interval),
        "measured_energy_j": found.measured_j,
        "measured_power_w": None
        if found.measured_j is None
        else found.measured_j / found.interval.duration_s,
        "predicted_energy_j": None if predicted is None else predicted.energy_j,
        "predicted_energy_low_j": None if predicted is None else predicted.low_j,
        "predicted_energy_high_j": None if predicted is None else predicted.high_j,
        "predicted_prefill_energy_j": None if predicted is None else predicted.prefill_j,
        "predicted_decode_energy_j": None if predicted is None else predicted.decode_j,
        "predicted_idle_energy_j": None if predicted is None else predicted.idle_j,
        "in_domain": None if predicted is None else predicted.in_domain,
        "error_percent": found.error_percent,
        "why_no_prediction": found.why_not,
        "measured_operational_gco2e": found.measured_gco2e,
        "predicted_operational_gco2e": found.predicted_gco2e,
        "energy_per_output_token_j": found.joules_per_output_token,
        "energy_per_total_token_j": found.joules_per_total_token,
        "operational_gco2e_per_1k_output_tokens": found.gco2e_per_1k_tokens,
        "request": None if work is None else asdict(work.request),
        "workload_notes": [] if work is None else list(work.notes),
        "counted_work": _counted(found),
    }


def _counted(found: ServerComparison) -> dict[str, Any] | None:
    """Return our count of FLOPs and bytes beside the engine's, where it estimates them."""
    if found.workload is None:
        return None
    try:
        counted = counted_work(found.interval, found.workload)
    except InputError:
        return None  # why it cannot be counted is why it cannot be predicted
    if counted is None:
        return None
    return {
        "flops_per_gpu": counted.flops,
        "engine_flops_per_gpu": counted.engine_flops,
        "flops_ratio": counted.flops_ratio,
        "bytes_per_gpu": counted.bytes_moved,
        "engine_bytes_per_gpu": counted.engine_bytes,
        "bytes_ratio": counted.bytes_ratio,
    }


def interval_facts(found: Interval) -> dict[str, Any]:
    """Return what a server did in an interval."""
    return {
        "duration_s": found.duration_s,
        "prompt_tokens_per_s": None
        if found.prompt_tokens is None
        else found.prompt_tokens / found.duration_s,
        "prefilled_tokens_per_s": (
            None if found.prefilled_tokens is None else found.prefilled_tokens / found.duration_s
        ),
        "output_tokens_per_s": found.rate_per_s(q.GENERATION_TOKENS),
        "finished_requests_per_s": found.rate_per_s(q.FINISHED_REQUESTS),
        "running_requests": found.running,
        "waiting_requests": found.waiting,
        "kv_use_share": found.kv_use,
        "cache_hit_share": found.cache_hit_share,
        "acceptance_share": found.acceptance_share,
        **{name: _quantiles(found.histograms.get(name)) for name in (q.TTFT, q.ITL, q.E2E)},
    }


def _quantiles(histogram: Histogram | None) -> dict[str, Any] | None:
    if histogram is None or not histogram.count:
        return None
    found = {f"p{share * 100:g}": histogram.quantile(share) for share in _SHARES}
    return {
        "mean": histogram.mean,
        **{
            name: None if one is None else {"value": one.value, "beyond": one.beyond}
            for name, one in found.items()
        },
    }
