"""A running campaign: how far it is, its latest labels, and what failed and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.app import ComposeResult
from textual.containers import Vertical

from llmco2.records.run import MeasuredRun
from llmco2_tui.campaign import CampaignView
from llmco2_tui.campaign_rows import HEADINGS, CampaignRow, configuration_name, row_texts, seconds_to_go
from llmco2_tui.comparison import INSIDE
from llmco2_tui.widgets.bars import gauge
from llmco2_tui.widgets.lines import Line, Lines, fitted, wrapped
from llmco2_tui.widgets.table_rows import TableRows, cell
from llmco2_tui.widgets.wording import clock_time

_NAME: Final = 36  # cells for a configuration, at most
_WIDTHS: Final = (15, 9, 10, 10, 9, 19, 20)  # of the other columns
_ERROR: Final = 4  # the column of the error
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
    """Return what stands above the table: progress, and what failed and why."""
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
    name = min(
        _NAME, max((len(configuration_name(run)) for run in (*view.latest, *view.failures)), default=_NAME)
    )
    failures = list(reversed(view.failures))[: max(1, height // 4)]
    if failures:
        lines.append([(f"failed ({view.n_failed}), newest first", "title")])
        lines += _newest_failure(failures[0], width - 2)
        lines += [
            [
                (fitted(configuration_name(run), name) + "  ", ""),
                (run.failure_reason or "no reason given", "bad"),
            ]
            for run in failures[1:]
        ]
    return [line for line in lines if width > 0]


def _newest_failure(run: MeasuredRun, width: int) -> list[Line]:
    """Return the newest failure with its whole reason: that is what one has to act on."""
    reason = wrapped(run.failure_reason or "no reason given", width - 2, "bad", most=5)
    return [[(configuration_name(run), "strong")], *([("  ", ""), *line] for line in reason)]


def _progress_line(view: CampaignView) -> Line:
    done = f"{view.n_done} done: {view.n_ok} measured, "
    failed = (f"{view.n_failed} failed", "bad" if view.n_failed else "")
    if view.total is None:
        return [(done, "strong"), failed, ("  (--plan FILE.yaml tells how many there will be)", "muted")]
    share = view.n_done / view.total if view.total else 1.0
    bar = gauge(min(1.0, share), 24)
    left = seconds_to_go(view)
    to_go = "" if left is None else f"  about {clock_time(left)} to go"
    return [
        (f"{bar} ", "accent"),
        (f"{view.n_done} of {view.total}  ", "strong"),
        (done, ""),
        failed,
        (to_go, "muted"),
    ]


class CampaignTable(TableRows):
    """The configurations, newest first: predicted beside measured."""

    DEFAULT_CSS = "CampaignTable { height: 1fr; max-height: 100%; }"

    def __init__(self) -> None:
        super().__init__(id="campaign-table")

    def show(self, rows: Sequence[CampaignRow], width: int) -> None:
        """Show them."""
        texts = [row_texts(row) for row in rows]
        longest = max((len(found[0]) for found in texts), default=_NAME)
        widths = (min(_NAME, max(14, longest)) + 1, *_WIDTHS)
        spare = max(0, width - sum(widths))
        widths = (widths[0] + spare, *widths[1:])
        headings = [
            (name, cell(name, size, "muted", right=1 < place < len(HEADINGS) - 1), size)
            for place, (name, size) in enumerate(zip(HEADINGS, widths, strict=True))
        ]
        cells = {
            f"{len(rows) - place}": [
                cell(text, size, _kind(row) if column == _ERROR else "", right=1 < column < len(HEADINGS) - 1)
                for column, (text, size) in enumerate(zip(found, widths, strict=True))
            ]
            for place, (row, found) in enumerate(zip(rows, texts, strict=True))
        }
        self.show_rows(headings, cells, None)


def _kind(row: CampaignRow) -> str:
    place = None if row.predicted is None else row.predicted.place
    return "" if place is None else "good" if place == INSIDE else "bad"


class CampaignPanel(Vertical):
    """The campaign being followed."""

    DEFAULT_CSS = "CampaignPanel { height: 1fr; padding: 0 1; }"

    def compose(self) -> ComposeResult:
        """What is said of the whole, then the configurations."""
        yield Lines(id="campaign-head")
        yield CampaignTable()

    def show(self, view: CampaignView | None, rows: Sequence[CampaignRow]) -> None:
        """Show the campaign, or how to follow one."""
        size = self.app.size
        self.query_one("#campaign-head", Lines).show_lines(campaign_lines(view, size.width, size.height - 7))
        table = self.query_one(CampaignTable)
        table.display = bool(rows)
        table.show(rows, size.width - 4)

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return f"{self.query_one('#campaign-head', Lines).text}\n{self.query_one(CampaignTable).text}"
