"""Which attention implementations the transformers class of a configuration states, without building a model.

Invariant: an answer is only given where the class is known; a configuration of an unknown class
is left to loading, which refuses with its own reason.
"""

from __future__ import annotations

from typing import Any, Final

from llmco2.measurement.workloads.configuration import SERVER, RunConfiguration
from llmco2.measurement.workloads.model_loading import has_attention, load_config, require_transformers

_STATED: Final = {  # attention: what a class says of it, in releases old and new
    "sdpa": ("_supports_sdpa",),
    "flash_attention_2": ("_supports_flash_attn", "_supports_flash_attn_2"),
    "flash_attention_3": ("_supports_flash_attn", "_supports_flash_attn_3"),
    "flex_attention": ("_supports_flex_attn",),
}


def supported_attention(configuration: RunConfiguration) -> tuple[str, ...] | None:
    """Return the values of ``attention`` that the model's class takes; ``None`` where that is not known.

    Empty for a class without any attention, which runs the same whatever it is asked for. Whether a package
    that an implementation needs is installed is another question, and not answered here.
    """
    if configuration.workload == SERVER:
        return None
    try:
        require_transformers()
        config = load_config(configuration).config
        model_class = _class_of(config) if has_attention(config) else None
    except Exception:  # whatever it is, loading meets it again and puts it on record
        return None
    if not has_attention(config):
        return ()
    if model_class is None:
        return None
    stated = [
        attention
        for attention, names in _STATED.items()
        if any(getattr(model_class, name, False) for name in names)
    ]
    return ("eager", *stated)


def _class_of(config: Any) -> Any:
    """Return the class that would be built from ``config``, ``None`` where transformers has none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING  # noqa: PLC0415

    try:
        found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        return None
    return found[0] if isinstance(found, tuple | list) else found
