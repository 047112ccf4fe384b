"""Ask the installed transformers for a model type that no reader here knows: class defaults and parameters.

Invariant: local files only, no remote code, no weights; parameters are counted on torch's meta device. Every answer
names the release it came from, so that it never depends on what is installed without saying so.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from llmco2.catalog.hf_towers import language_tower, named_architectures

MAX_LAYERS: Final = 1_000  # a class with more is not built
_FAILURES: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    IndexError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """What a class of transformers says of a configuration."""

    values: Mapping[str, Any]  # the file's values over the class's defaults
    n_parameters: int  # of the language tower
    source: str  # the release


def class_facts(values: Mapping[str, Any]) -> ClassFacts | None:
    """Return what transformers says of the text decoder in ``values``; None where it does not know or cannot."""
    tower = language_tower(values)
    layers = tower.get("num_hidden_layers")
    if isinstance(layers, int) and layers > MAX_LAYERS:
        return None
    try:
        transformers, torch = import_module("transformers"), import_module("torch")
    except ImportError:
        return None
    with _quiet():
        try:
            config = _config(transformers, tower)
            with torch.device("meta"):
                network = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            counted = sum(parameter.numel() for parameter in network.parameters())
            filled = config.to_dict()
        except _FAILURES:
            return None
    merged = {**filled, **{key: value for key, value in tower.items() if value is not None}}
    merged["architectures"] = named_architectures(values) or filled.get("architectures")
    return ClassFacts(values=merged, n_parameters=counted, source=f"transformers {transformers.__version__}")


def _config(transformers: Any, tower: Mapping[str, Any]) -> Any:
    model_type = str(tower.get("model_type"))
    left_out = {"model_type", "quantization_config", "auto_map", "architectures", "transformers_version"}
    given = {key: value for key, value in tower.items() if key not in left_out}
    return transformers.AutoConfig.for_model(model_type, **given)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of a class about its own defaults from a person who did not ask for it."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
