"""Keys, and the words that the screen uses."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from llmco2_tui.widgets.lines import Line, Lines, fitted

KEYS: Final = (
    ("1 2 3 4", "live, compare, what if, campaign"),
    ("z", "choose the grid zone; every gram follows"),
    ("t", "compare: cumulative or per output token"),
    ("↑ ↓", "choose a GPU for the chart, or all of them"),
    ("o O", "sort the GPUs by the next column, or the other way round; a click on a heading does so too"),
    ("[ ]", "chart span: 1 min to 24 h"),
    ("+ -", "sample more or less often (0.1 to 10 Hz); of a replay: faster or slower"),
    ("space", "pause or go on with a replay"),
    (", . < >", "go back or forward in a replay by a hundredth of it, or by a tenth"),
    ("0", "count energy from now on; of a replay: play it from its start"),
    ("m", "mark start, then end, of one batch of the request in view: its energy is measured"),
    ("u", "take back the last mark"),
    ("e", "export: CSV of power over time, JSON summary, SVG picture of the screen"),
    ("F6", "what if: take the form's request into view; Esc leaves the form"),
    ("r s p", "without a GPU: try again, simulate, play the recording"),
    ("d", "light or dark"),
    ("Ctrl+P", "command palette"),
    ("Ctrl+Z", "go to the shell; fg comes back, and no joule is lost meanwhile"),
    ("q", "quit, and leave the session's totals on the terminal; Ctrl+C does so from anywhere"),
)
GLOSSARY: Final = (
    ("since start", "joules since the screen began to look (or since 0 was pressed), from the GPU's own "
     "cumulative energy counter; a frame that was never painted loses none of them"),
    ("∫ integrated", "this GPU has no energy counter: llmco2 adds up power readings instead"),
    ("idle share", "joules drawn while utilisation read 0 %: the price of having the GPU on"),
    ("power / limit", "instant power, W, and the board's power limit; the chart's top edge is the limit"),
    ("throttling", "what holds the clocks back: power cap, thermal, HW thermal, power brake"),
    ("prefill", "reading the prompt; ends with the first output token"),
    ("decode", "writing the other output tokens, one step each"),
    ("90 % interval", "where the predictor expects nine of ten measurements of such requests"),
    ("error", "(predicted − measured) / measured: + is predicted too much"),
    ("OUTSIDE", "the measurement left the interval: a bug, another engine, or a limit of the predictor"),
    ("out of domain", "the predictor was not trained on anything like this; its interval is wider"),
    ("CO2e operational", "(GPU energy + host share) × PUE × grid intensity; predicted and measured alike"),
    ("CO2e embodied", "share of making the hardware, by time in use"),
    ("grid, STALE", "yearly intensity of the zone; stale is older than two years"),
    ("LOST", "the GPU cannot be read: last values in grey, the reason below, tried again at every sample"),
    ("MIG / shared", "readings are of the whole GPU, whoever uses it"),
    ("SIMULATED", "no real GPU drew this; no figure is a measurement"),
)  # fmt: skip


def help_lines(width: int) -> list[Line]:
    """Return keys and glossary, wrapped to ``width``."""
    return [
        [("Keys", "title")],
        *(line for key, text in KEYS for line in _entry(key, text, 12, width)),
        [("", "")],
        [("Glossary", "title")],
        *(line for word, text in GLOSSARY for line in _entry(word, text, 20, width)),
    ]


def _entry(word: str, text: str, indent: int, width: int) -> list[Line]:
    labels = [fitted(f"  {word}", indent), *[" " * indent] * 20]
    parts = wrap(text, max(20, width - indent))
    return [[(label, "second"), (part, "")] for label, part in zip(labels, parts, strict=False)]


class HelpScreen(ModalScreen[None]):
    """Closes at any of the keys that opened it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close", key_display="Esc"),
    ]
    CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll {
        width: 92%; max-width: 100; height: 92%; border: round $primary; padding: 0 1; background: $surface;
    }
    """

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll() as scroll:
            scroll.border_title = "help · Esc closes"
            yield Lines(id="help")

    def on_mount(self) -> None:
        """Write it."""
        self.query_one("#help", Lines).show_lines(help_lines(min(100, self.app.size.width * 92 // 100) - 6))
