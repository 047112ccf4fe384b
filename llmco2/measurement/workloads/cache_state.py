"""Take a transformers cache back to the end of the prompt, so that decode repeats without its prefill.

Invariant: after restoring, every tensor of the cache is the object it was, with the numbers it had. Restoring
moves as few bytes as it can, because it happens inside a measured window: keys and values that grow by
concatenation are new tensors each time, so keeping the old references is enough; those of static layers are
overwritten position by position, so their length is enough. Convolution and recurrent states, rolling windows
and layers of a kind that is not known here are overwritten whole: they are copied back in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING: Final = frozenset[str]()
_KEYS: Final = frozenset({"keys", "values"})
_INDEXER: Final = frozenset({"indexer_keys", "indexer_position_ids"})
# Tensors of each kind of layer that need no copy: never written to, or written behind the length alone.
_UNTOUCHED: Final[dict[str, frozenset[str]]] = {
    "DynamicLayer": _KEYS,
    "DynamicSlidingWindowLayer": _KEYS | {"_sliding_window_tensor"},
    "DynamicIndexedLayer": _KEYS | _INDEXER,
    "LinearAttentionAndFullAttentionLayer": _KEYS,
    "LinearAttentionAndSlidingWindowAttentionLayer": _KEYS | {"_sliding_window_tensor"},
    "StaticLayer": _KEYS,
    "StaticIndexedLayer": _KEYS | _INDEXER,
    "LinearAttentionAndStaticFullAttentionLayer": _KEYS,
}
_LENGTHS: Final = frozenset({"cumulative_length", "indexer_cumulative_length"})  # one number each
_STATIC: Final = "StaticLayer"


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerState:
    attributes: dict[str, Any]  # put back as they were
    contents: tuple[tuple[Tensor, Tensor], ...]  # (tensor of the layer, what it held)
    whole_states: bool  # whether more than a length is among them


class CacheState:
    """The state of every layer of a cache at one moment."""

    def __init__(self, cache: Any) -> None:
        """Remember ``cache`` as it is now."""
        self._cache = cache
        self._layers = [_remember(layer) for layer in cache.layers]

    @property
    def copies(self) -> bool:
        """Whether restoring copies whole states, which costs time and energy inside a window."""
        return any(state.whole_states for state in self._layers)

    def restore(self) -> None:
        """Put the cache back to the remembered moment."""
        for layer, state in zip(self._cache.layers, self._layers, strict=True):
            for name, value in state.attributes.items():
                setattr(layer, name, _own(value))
            for tensor, content in state.contents:
                tensor.copy_(content)


def _remember(layer: Any) -> _LayerState:
    untouched = _UNTOUCHED.get(type(layer).__name__, _NOTHING)
    copied = [
        (name, tensor)
        for name, value in vars(layer).items()
        if name not in untouched
        for tensor in _tensors(value)
    ]
    return _LayerState(
        attributes={name: _own(value) for name, value in vars(layer).items()},
        contents=tuple((tensor, tensor.clone()) for _, tensor in copied),
        whole_states=any(name not in _LENGTHS for name, _ in copied),
    )


def _own(value: Any) -> Any:
    """Return a container of one's own with the same things in it; anything else as it is."""
    return value.copy() if isinstance(value, dict | list) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an attribute of a layer: itself, or one for each of the layer's states."""
    held = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
    )
    return (one for one in held if hasattr(one, "clone"))


def empty(cache: Any) -> None:
    """Make a cache ready for another prompt, leaving the big tensors of static layers alone."""
    for layer in cache.layers:
        if type(layer).__name__ == _STATIC:
            layer.cumulative_length.zero_()
        else:
            layer.reset()
