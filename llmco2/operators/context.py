"""Exact sums over the growing context, which attention FLOPs and cache reads are linear in.

Invariant: token ``i`` (counted from 1) of a sequence attends to ``min(i, window)`` tokens, itself included.
"""

from __future__ import annotations

import numpy as np

from llmco2.operators.columns import Column


def attended_tokens_up_to(tokens: Column, window: Column | float = np.inf) -> Column:
    """Return ``Σ_{i=1..tokens} min(i, window)``, linear between whole numbers of tokens.

    Shapes ``(n_requests,)``. Up to the window the sum is a triangle, past it a strip of constant width.
    Linear, so that a part of a token never attends to more than the window.
    """
    inside = np.minimum(tokens, window)
    whole = np.floor(inside)
    triangle = whole * (whole + 1.0) / 2.0 + (inside - whole) * (whole + 1.0)
    outside = tokens - inside
    strip = np.where(outside > 0.0, outside * np.where(np.isfinite(window), window, 0.0), 0.0)
    return triangle + strip


def attended_tokens_between(first: Column, last: Column, window: Column | float = np.inf) -> Column:
    """Return ``Σ min(i, window)`` for the tokens after ``first`` up to and including ``last``."""
    return attended_tokens_up_to(last, window) - attended_tokens_up_to(first, window)
