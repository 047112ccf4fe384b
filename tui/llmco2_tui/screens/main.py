"""The screen of the views; it only adds the keys that a plain screen would use for scrolling."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen


class MainScreen(Screen[None]):
    """Up and down choose a GPU: nothing here scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.choose(-1)", "GPU", show=False),
        Binding("down", "app.choose(1)", "GPU", key_display="↑↓"),
    ]
