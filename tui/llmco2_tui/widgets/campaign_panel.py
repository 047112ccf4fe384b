"""A running campaign: how far it is, its latest labels, and what failed and why."""

from __future__ import annotations

from llmco2.measurement.campaigns.progress import outcome_text
from llmco2.records.run import MeasuredRun
from llmco2_tui.campaign import CampaignView
from llmco2_tui.widgets.bars import gauge
from llmco2_tui.widgets.lines import Line, Lines, fitted, wrapped

_NAME = 36  # cells for a configuration, at most
_HOW_TO = (
    "No campaign is being followed. While one runs in another terminal,",
    "",
    "    llmco2 measure --campaign quick.yaml --output runs.jsonl",
    "",
    "follow its file here; --plan tells how many configurations there will be:",
    "",
    "    llmco2 monitor --campaign runs.jsonl --plan quick.yaml",
)


def campaign_lines(view: CampaignView | None, width: int, height: int) -> list[Line]:
    """Return as many lines as there is room for: progress, failures, then the latest labels."""
    if view is None:
        return [[(text, "muted")] for text in _HOW_TO]
    lines: list[Line] = [[("campaign ", "muted"), (view.path, "strong")]]
    if view.simulated:
        lines.append([(" SIMULATED labels: no real GPU drew them ", "notice")])
    if view.problem is not None:
        lines.append([("cannot be followed: ", "bad"), (view.problem, "")])
    if not view.exists:
        return [
            *lines,
            [("waiting for the file; llmco2 measure writes its first row when one is done", "muted")],
        ]
    lines.append(_progress_line(view))
    name = min(_NAME, max((len(_name(run)) for run in (*view.latest, *view.failures)), default=_NAME))
    failures = list(reversed(view.failures))[: max(1, height // 4)]
    latest = list(reversed([run for run in view.latest if run.status == "ok"]))
    if failures:
        lines.append([(f"failed ({view.n_failed}), newest first", "title")])
        lines += _newest_failure(failures[0], width - 2)
        lines += [
            [(fitted(_name(run), name) + "  ", ""), (run.failure_reason or "no reason given", "bad")]
            for run in failures[1:]
        ]
    room = max(1, height - len(lines) - 1)
    lines.append([("latest labels, newest first", "title")])
    lines += [
        [(fitted(_name(run), name) + "  ", ""), (outcome_text(run), "strong"), (_where(run), "muted")]
        for run in latest[:room]
    ]
    return [line for line in lines if width > 0]


def _newest_failure(run: MeasuredRun, width: int) -> list[Line]:
    """Return the newest failure with its whole reason: that is what one has to act on."""
    reason = wrapped(run.failure_reason or "no reason given", width - 2, "bad", most=5)
    return [[(_name(run), "strong")], *([("  ", ""), *line] for line in reason)]


def _progress_line(view: CampaignView) -> Line:
    done = f"{view.n_done} done: {view.n_ok} measured, "
    failed = (f"{view.n_failed} failed", "bad" if view.n_failed else "")
    if view.total is None:
        return [(done, "strong"), failed, ("  (--plan FILE.yaml tells how many there will be)", "muted")]
    share = view.n_done / view.total if view.total else 1.0
    bar = gauge(min(1.0, share), 24)
    return [(f"{bar} ", "accent"), (f"{view.n_done} of {view.total}  ", "strong"), (done, ""), failed]


def _name(run: MeasuredRun) -> str:
    tokens = f"{run.prompt_tokens or 0:g}+{run.output_tokens or 0:g}"
    return f"{run.model.rsplit('/', 1)[-1]} b{run.batch_size:g} {tokens}"


def _where(run: MeasuredRun) -> str:
    return f"  {run.gpu}" + (f" ×{run.n_gpus}" if run.n_gpus > 1 else "")


class CampaignPanel(Lines):
    """The campaign being followed."""

    DEFAULT_CSS = "CampaignPanel { height: 1fr; padding: 0 1; }"

    def show(self, view: CampaignView | None) -> None:
        """Show the campaign, or how to follow one."""
        self.show_lines(campaign_lines(view, self.app.size.width, self.app.size.height - 4))
