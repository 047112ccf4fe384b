"""Serving engines beside the GPUs: what they serve now, and what a token costs, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmco2.report.quantities import energy_text
from llmco2.serving import sample as q
from llmco2.serving.comparing import ServerComparison, per
from llmco2.serving.engines import ENGINES
from llmco2.serving.exposition import printable
from llmco2.serving.session import ServerSession
from llmco2_tui.widgets.lines import Line, Lines, fitted
from llmco2_tui.widgets.wording import NOTHING, signed_percent

_MOST_LINES: Final = 3  # of one server


def server_lines(session: ServerSession, width: int, *, simulated: bool = False) -> list[Line]:
    """Return the lines of one server: who it is, what it does, what that costs; ``simulated`` joules judge nothing."""
    lines = [_title(session, width)]
    if session.trouble is not None:
        return [*lines, [(fitted(f"  NOT READ: {session.trouble}", width), "bad")]]
    found = session.last
    if found is None:
        newest = session.server.watch.newest
        waiting = "looking for it …" if newest is None else "counting …"
        return [*lines, [(f"  {waiting}", "muted")]]
    return [
        *lines,
        [(fitted(f"  {_load(found)}", width), "")],
        _cost(session, found, width, simulated=simulated),
    ]


def _title(session: ServerSession, width: int) -> Line:
    newest, identity = session.server.watch.newest, session.server.identity
    engine = ENGINES[newest.sample.engine].title if newest is not None else "server"
    version = identity.version if identity is not None and identity.version else ""
    served = newest.sample.model if newest is not None else None
    model = printable(
        served or (identity.served_model if identity is not None else None) or "model not named"
    )
    gpus = ",".join(map(str, session.gpus.indices))
    where = f"GPU {gpus}" if gpus else "no GPU of its own here"
    restarts = f" · restarted {session.server.watch.restarts}×" if session.server.watch.restarts else ""
    text = f"{engine} {version} · {model.rsplit('/', 1)[-1]} · {where}{restarts} · {session.url}"
    return [(fitted(" ".join(text.split()), width), "title")]


def _load(found: ServerComparison) -> str:
    interval = found.interval
    prompt = interval.prompt_tokens
    parts = [
        f"out {_rate(interval.rate_per_s(q.GENERATION_TOKENS))} tok/s",
        f"in {_rate(None if prompt is None else prompt / interval.duration_s)}",
        f"running {_rate(interval.running)}",
        f"waiting {_rate(interval.waiting)}",
        _share("KV", interval.kv_use),
        _share("cached", interval.cache_hit_share),
        _latency("first token", found, q.TTFT),
        _latency("between", found, q.ITL),
    ]
    return " · ".join(part for part in parts if part)


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _share(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {100 * value:.0f} %"


def _latency(name: str, found: ServerComparison, quantity: str) -> str:
    histogram = found.interval.histograms.get(quantity)
    quantile = None if histogram is None else histogram.quantile(0.95)
    if quantile is None:
        return ""
    return f"{name} p95 {'> ' if quantile.beyond else ''}{1e3 * quantile.value:,.0f} ms"


def _cost(session: ServerSession, found: ServerComparison, width: int, *, simulated: bool) -> Line:
    """Return joules and grams of a token now and since the start, and the prediction's error since then."""
    totals = session.totals
    now_j, since_j = found.joules_per_output_token, per(totals.measured_j or None, totals.output_tokens)
    if now_j is None and since_j is None:
        reason = found.why_not or "no energy of its GPUs is read here"
        return [(fitted(f"  {reason}", width), "warn")]
    grams = found.gco2e_per_1k_tokens
    pieces: Line = [
        (f"  {NOTHING if now_j is None else energy_text(now_j)}/token now", "strong"),
        (f", {NOTHING if since_j is None else energy_text(since_j)} since start", ""),
        (f" · {NOTHING if grams is None else f'{grams:.3g}'} gCO2e/1k tokens", "strong"),
    ]
    if simulated and found.why_not is None:
        pieces.append((" · not judged: simulated", "muted"))
    elif totals.compared_measured_j > 0:
        error = 100.0 * (totals.compared_predicted_j / totals.compared_measured_j - 1.0)
        inside = totals.compared_low_j <= totals.compared_measured_j <= totals.compared_high_j
        place = "INSIDE" if inside else "OUTSIDE"
        pieces.append((f" · predicted {signed_percent(error)}, {place}", "good" if inside else "warn"))
    elif found.why_not is not None:
        pieces.append((f" · not predicted: {found.why_not}", "warn"))
    return _cut(pieces, width)


def _cut(pieces: Line, width: int) -> Line:
    """Return as much of a line as fits."""
    cut: Line = []
    for text, kind in pieces:
        shown = text[: max(0, width)]
        if shown:
            cut.append((shown, kind))
        width -= len(shown)
    return cut


class ServerPanel(Lines):
    """Three lines a server; nothing where there are none."""

    def show(self, sessions: Sequence[ServerSession], width: int, most: int, *, simulated: bool) -> None:
        """Show as many servers as ``most`` lines hold."""
        self.display = bool(sessions)
        shown = sessions[: max(1, most // _MOST_LINES)]
        lines = [line for session in shown for line in server_lines(session, width, simulated=simulated)]
        if len(shown) < len(sessions):
            lines.append([(f"  and {len(sessions) - len(shown)} more servers: --once shows all", "muted")])
        self.show_lines(lines)
