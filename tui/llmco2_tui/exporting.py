"""Writing what is on the screen to files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from llmco2_tui.monitor_state import MonitorState
from llmco2_tui.summary import power_csv, summary_json

_STEPS: Final = 240  # of the chart, a GPU


def with_spaces(svg: str) -> str:
    """Return a picture whose leading blanks every viewer keeps; some drop them unless told."""
    return svg.replace("<text ", '<text xml:space="preserve" ')


def export_all(monitor_state: MonitorState, folder: Path, picture: Callable[[], str]) -> list[str]:
    """Write ``llmco2-DATE.csv``, ``.json`` and ``.svg`` into ``folder``; return their names.

    Raises ``OSError`` where the folder cannot be written.
    """
    stem = f"llmco2-{datetime.now():%Y%m%d-%H%M%S}"
    contents = {
        "csv": power_csv(monitor_state.power_table(_STEPS), simulated=monitor_state.is_simulated()),
        "json": summary_json(monitor_state, source="llmco2 monitor") + "\n",
        "svg": picture(),
    }
    for suffix, text in contents.items():
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return [f"{stem}.{suffix}" for suffix in contents]
