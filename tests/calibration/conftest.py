"""Checkpoints of made-up numbers to calibrate, as the predictor's own tests make them."""

from __future__ import annotations

from tests.predictor.conftest import sound_checkpoint

__all__ = ["sound_checkpoint"]
