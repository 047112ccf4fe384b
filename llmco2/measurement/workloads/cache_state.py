"""Take a transformers cache back to the end of the prompt, so that decode repeats without its prefill.

Invariant: restoring moves as few bytes as it can, because it happens inside a measured window. Layers that
grow by concatenation never touch the tensors they had, so keeping references is enough; static layers are
overwritten position by position, so their length is enough; anything else (rolling windows, recurrent states)
is copied back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

_GROWING: Final = ("DynamicLayer", "DynamicSlidingWindowLayer")
_STATIC: Final = ("StaticLayer",)
_LENGTH: Final = "cumulative_length"


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerState:
    attributes: dict[str, Any]  # put back as they were
    contents: dict[str, Tensor]  # copied back into the tensor that the layer holds


class CacheState:
    """The state of every layer of a cache at one moment."""

    def __init__(self, cache: Any) -> None:
        """Remember ``cache`` as it is now."""
        self._cache = cache
        self._layers = [_remember(layer) for layer in cache.layers]

    @property
    def copies(self) -> bool:
        """Whether restoring copies whole states, which costs time and energy inside a window."""
        return any(set(state.contents) - {_LENGTH} for state in self._layers)

    def restore(self) -> None:
        """Put the cache back to the remembered moment."""
        for layer, state in zip(self._cache.layers, self._layers, strict=True):
            for name, value in state.attributes.items():
                setattr(layer, name, value)
            for name, content in state.contents.items():
                getattr(layer, name).copy_(content)


def _remember(layer: Any) -> _LayerState:
    kind = type(layer).__name__
    if kind in _GROWING:
        return _LayerState(attributes=dict(vars(layer)), contents={})
    tensors = {name: value for name, value in vars(layer).items() if hasattr(value, "clone")}
    plain = {name: value for name, value in vars(layer).items() if isinstance(value, bool | int | float)}
    if kind in _STATIC:
        tensors = {name: value for name, value in tensors.items() if name == _LENGTH}
    return _LayerState(attributes=plain, contents={name: value.clone() for name, value in tensors.items()})


def empty(cache: Any) -> None:
    """Make a static cache ready for another prompt, leaving its big tensors alone where possible."""
    if all(type(layer).__name__ in _STATIC for layer in cache.layers):
        for layer in cache.layers:
            if hasattr(getattr(layer, _LENGTH, None), "zero_"):
                getattr(layer, _LENGTH).zero_()
        return
    cache.reset()
