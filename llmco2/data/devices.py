"""Moving records of tensors between devices."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch


def on_device(value: Any, device: torch.device) -> Any:
    """Return a record of tensors on ``device``; what is there already is not copied."""
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(on_device(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: on_device(getattr(value, f.name), device) for f in fields(value)})
    return value
