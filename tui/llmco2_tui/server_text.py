"""A serving engine's figures in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmco2.report.quantities import energy_text
from llmco2_tui.widgets.wording import NOTHING, signed_percent

_LATENCIES = (("ttft_s", "first token"), ("itl_s", "between tokens"), ("e2e_s", "request"))


def server_text(facts: Mapping[str, Any]) -> str:
    """Return what is known of a server, from the plain data that JSON holds."""
    lines = [_title(facts)]
    interval = facts["interval"]
    if facts["trouble"] is not None:
        lines.append(f"  NOT READ: {facts['trouble']['text']}")
    if interval is not None:
        lines += [f"  {line}" for line in (_load(interval), _latency(interval), *_energy(interval)) if line]
    if facts["series_missing"] and interval is not None:
        lines.append(f"  not published here: {', '.join(facts['series_missing'])}")
    lines += [f"  note: {note}" for note in facts["notes"]]
    return "\n".join(lines)


def _title(facts: Mapping[str, Any]) -> str:
    identity = facts["identity"] or {}
    engine = " ".join(filter(None, (facts["engine"] or "not read yet", identity.get("version"))))
    gpus = ", ".join(map(str, facts["gpus"]))
    where = f"GPU {gpus} ({facts['gpus_by']})" if gpus else f"no GPU: {facts['gpus_by']}"
    restarts = f", restarted {facts['restarts']}×" if facts["restarts"] else ""
    model = facts["served_model"] or identity.get("served_model") or "model not named"
    return f"server {facts['url']}: {engine}, {model}, {where}{restarts}"


def _load(interval: Mapping[str, Any]) -> str:
    def rate(name: str) -> str:
        value = interval[name]
        return NOTHING if value is None else f"{value:,.1f}"

    parts = [
        f"{rate('output_tokens_per_s')} output tok/s, {rate('prompt_tokens_per_s')} prompt tok/s",
        f"running {rate('running_requests')}, waiting {rate('waiting_requests')}",
        _share("KV cache", interval["kv_use_share"]),
        _share("cached prompts", interval["cache_hit_share"]),
        _share("drafts accepted", interval["acceptance_share"]),
    ]
    return f"over {interval['duration_s']:.1f} s: " + "; ".join(part for part in parts if part)


def _share(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {100 * value:.0f} %"


def _latency(interval: Mapping[str, Any]) -> str:
    parts = []
    for name, words in _LATENCIES:
        found = interval[name]
        if found is None:
            continue
        shown = [f"{share} {_seconds(found[share])}" for share in ("p50", "p95", "p99") if found[share]]
        parts.append(f"{words} {' '.join(shown) or _mean(found)}")
    return "; ".join(parts)


def _mean(found: Mapping[str, Any]) -> str:
    return f"mean {found['mean']:.3g} s"


def _seconds(quantile: Mapping[str, Any]) -> str:
    return f"{'> ' if quantile['beyond'] else ''}{quantile['value']:.3g} s"


def _energy(interval: Mapping[str, Any]) -> Sequence[str]:
    predicted, measured = interval["predicted_energy_j"], interval["measured_energy_j"]
    lines = []
    said = "nothing measured" if measured is None else f"measured {energy_text(measured)}"
    if predicted is None:
        lines.append(f"no prediction: {interval['why_no_prediction']}; {said}")
    else:
        low, high = (energy_text(interval[f"predicted_energy_{end}_j"]) for end in ("low", "high"))
        error = interval["error_percent"]
        off = "" if error is None else f", error {signed_percent(error)}"
        domain = "" if interval["in_domain"] else ", OUT OF DOMAIN"
        lines.append(f"predicted {energy_text(predicted)} ({low} to {high}), {said}{off}{domain}")
        phases = ("prefill", "decode", "idle")
        lines.append(
            "predicted by phase: "
            + ", ".join(f"{p} {energy_text(interval[f'predicted_{p}_energy_j'])}" for p in phases)
        )
    if interval["energy_per_output_token_j"] is not None:
        each = f"{energy_text(interval['energy_per_output_token_j'])}/output token"
        grams = interval["operational_gco2e_per_1k_output_tokens"]
        lines.append(each + ("" if grams is None else f", {grams:.3g} gCO2e/1k output tokens"))
    counted = interval["counted_work"]
    if counted is not None:
        ratios = [
            f"{n} {counted[f'{n}_ratio']:.2f}×"
            for n in ("flops", "bytes")
            if counted[f"{n}_ratio"] is not None
        ]
        lines.append(f"counted work over the engine's own estimate: {', '.join(ratios)}")
    lines += [f"note: {note}" for note in interval["workload_notes"]]
    return lines
