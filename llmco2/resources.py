"""Where the files that ship with llmco2 lie, in a checkout and in an installed wheel.

Invariant: nothing here looks outside the package or the checkout it came from. A wheel carries ``datasets`` and
``lightning_configs`` inside the package; an editable checkout has them beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from llmco2.errors import InstallationError, explain

REINSTALL: Final = "reinstall with: pip install --force-reinstall llmco2"
_PACKAGE_DIR = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for candidate in (_PACKAGE_DIR / name, _PACKAGE_DIR.parent / name):
        if candidate.is_dir():
            return candidate
    raise InstallationError(
        explain(f"the folder {name!r} that ships with llmco2 is missing", remedy=REINSTALL)
    )


def datasets_dir() -> Path:
    """Return the folder of shipped tables (catalog, grids, quantiles, reference runs)."""
    return _folder("datasets")


def configs_dir() -> Path:
    """Return the folder of shipped training configurations."""
    return _folder("lightning_configs")


def checkpoint_dir() -> Path:
    """Return the folder of the default checkpoint: numbers, JSON metadata and the model card."""
    return datasets_dir() / "checkpoint"
