"""The lines at the top that must be seen: simulated data, a recording, lost GPUs, no reading."""

from __future__ import annotations

from dataclasses import dataclass

from llmco2_tui.widgets.lines import Line, Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class BannerView:
    """What to warn of."""

    simulated: bool = False
    replay: str = ""  # how a recording is being played
    alarms: tuple[str, ...] = ()


def banner_lines(view: BannerView, width: int) -> list[Line]:
    """Return one line a warning; the simulated one fills its line to both ends."""
    lines: list[Line] = []
    if view.simulated:
        text = " SIMULATED · no real GPU drew this, and no figure here is a measurement · SIMULATED "
        short = " SIMULATED · no real GPU drew this · SIMULATED "
        chosen = text if len(text) <= width else short
        lines.append([(chosen.center(width, " "), "notice")])
    if view.replay:
        lines.append([(f" REPLAY {view.replay}", "title")])
    lines += [[(f" {alarm}", "alarm")] for alarm in view.alarms]
    return lines


class Banner(Lines):
    """Takes no room where there is nothing to say."""

    def show(self, view: BannerView) -> None:
        """Show the warnings."""
        lines = banner_lines(view, self.app.size.width)
        self.display = bool(lines)
        self.show_lines(lines)
