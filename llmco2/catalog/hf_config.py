"""Read a Hugging Face ``config.json`` into an :class:`Architecture`, as plain JSON.

Invariant: nothing from the file is executed and nothing is fetched. Known model types never import
transformers; for an unknown one transformers is asked, where installed, for its defaults (local files, no
remote code). A multimodal model is read as its language tower: that is where a text request spends its
energy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from llmco2.catalog import hf_hybrids, hf_linear, hf_mixed, hf_uneven, tables
from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import NULL_WIDTH_TYPES, read_decoder
from llmco2.catalog.hf_keys import MAX_WIDTH, Config
from llmco2.catalog.hf_precision import with_precision
from llmco2.catalog.hf_towers import WHAT, language_tower, refuse_other_networks, refuse_unnamed_decoder
from llmco2.catalog.hf_traits import GENERIC, TRAITS
from llmco2.catalog.hf_transformers import class_facts
from llmco2.catalog.hf_unknown import checked_unknown, refuse_unread_mechanisms
from llmco2.errors import FileFormatError, explain

_READERS: Final[Mapping[str, Callable[[Config, str], Architecture]]] = MappingProxyType(
    {
        "mamba": hf_hybrids.read_mamba,
        "falcon_mamba": hf_hybrids.read_mamba,
        "mamba2": hf_hybrids.read_mamba2,
        "nemotron_h": hf_hybrids.read_nemotron_h,
        "jamba": hf_hybrids.read_jamba,
        "qwen3_next": hf_hybrids.read_qwen3_next,
        "qwen3_5_text": hf_hybrids.read_qwen3_next,
        "qwen3_5_moe_text": hf_hybrids.read_qwen3_next,
        "granitemoehybrid": hf_mixed.read_granite_hybrid,
        "falcon_h1": hf_mixed.read_falcon_h1,
        "lfm2": hf_mixed.read_lfm2,
        "lfm2_moe": hf_mixed.read_lfm2,
        "kimi_linear": hf_mixed.read_kimi_linear,
        "minimax": hf_linear.read_minimax,
        "minimax_m1": hf_linear.read_minimax,
        "minimax_text_01": hf_linear.read_minimax,
        "recurrent_gemma": hf_linear.read_recurrent_gemma,
        "longcat_flash": hf_linear.read_longcat,
        "deepseek_v4": hf_linear.read_deepseek_v4,
        "deepseek_ref": hf_linear.read_deepseek_v4,
        "gemma3n_text": hf_uneven.read_gemma3n,
        "gemma4_text": hf_uneven.read_gemma4,
        "gemma4_unified_text": hf_uneven.read_gemma4,
        "mimo_v2_flash": hf_uneven.read_mimo_v2,
        "step3p5": hf_uneven.read_step,
        "step3p7": hf_uneven.read_step,
        "deci": hf_uneven.read_deci,
        "nemotron-nas": hf_uneven.read_nemotron_nas,
        "minimax_m3": hf_uneven.read_minimax_m3,
        "minimax_m3_vl_text": hf_uneven.read_minimax_m3,
    }
)
# Sizes that no reader may take from elsewhere where the file says null.
_SIZES: Final = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("n_embd", "n_layer", "n_head", "d_model"),
)


def read_hf_config(path: Path, model_id: str = "") -> Architecture:
    """Return the architecture in a ``config.json`` or in a directory that holds one.

    ``model_id`` names the result; by default the directory's name. Raises FileFormatError, one line, for a
    missing, truncated or foreign file, or one that lacks a key.
    """
    try:
        file = path / "config.json" if path.is_dir() else path
    except OSError as error:  # a name longer than any file system has
        raise FileFormatError(explain("cannot read the path", got=error.strerror, expected=WHAT)) from error
    values = tables.read_json_object(file, WHAT)
    side_file = file.with_name("hf_quant_config.json")
    if "quantization_config" not in values and side_file.is_file():
        values["quantization_config"] = tables.read_json_object(side_file, "a quantisation record").get(
            "quantization"
        )
    if file.with_name("config_sentence_transformers.json").is_file():
        raise FileFormatError(
            explain(f"{file} is of a sentence-transformers folder, which embeds texts", expected=WHAT)
        )
    name = model_id or file.resolve().parent.name or str(values.get("_name_or_path") or "model")
    return architecture_from_hf_config(values, model_id=name, where=str(file))


def architecture_from_hf_config(
    values: Mapping[str, Any], *, model_id: str, where: str = "config"
) -> Architecture:
    """Return the architecture that the values of a ``config.json`` describe; ``where`` names them in errors.

    A model type that no reader knows is read as a Llama-like decoder, or with the help of the installed
    transformers, where nothing speaks against it; ``confidence`` is then "low" and ``assumptions`` say so.
    """
    refuse_other_networks(values, where)
    tower = language_tower(values)
    model_type = _model_type(values, tower)
    if tower is not values:
        refuse_other_networks({key: v for key, v in tower.items() if key != "architectures"}, where)
    known = model_type in known_model_types()
    facts = None
    if not known:
        refuse_unnamed_decoder(values, where)
        facts = class_facts(values) if model_type else None
        tower = facts.values if facts else tower
    config = _config(values, tower, model_type, where)
    _refuse_null_sizes(tower, model_type, where)
    architecture = _read(config, model_type, model_id)
    if known:
        refuse_unread_mechanisms(config, model_type)
    else:
        architecture = checked_unknown(architecture, config, model_type, facts)
    architecture = with_precision(architecture, config, values, tower, model_type)
    return dataclasses.replace(
        architecture,
        family=architecture.family if known else model_type or "unknown",
        source=where,
        confidence="high" if known else "low",
    )


def known_model_types() -> frozenset[str]:
    """Return the model types that are read without transformers."""
    return frozenset(TRAITS) | frozenset(_READERS)


def _model_type(values: Mapping[str, Any], tower: Mapping[str, Any]) -> str:
    """Return the type of the text decoder; a tower that does not say is of the type that goes with the whole."""
    own = str(tower.get("model_type") or "")
    if own or tower is values:
        return own
    whole = str(values.get("model_type") or "")
    return next((name for name in (f"{whole}_text", whole) if name in known_model_types()), "")


def _config(values: Mapping[str, Any], tower: Mapping[str, Any], model_type: str, where: str) -> Config:
    merged = {key: value for key, value in tower.items() if value is not None}
    if tower is not values and isinstance(values.get("tie_word_embeddings"), bool):
        merged.setdefault("tie_word_embeddings", values["tie_word_embeddings"])
    traits = TRAITS.get(model_type)
    defaults = traits.defaults if traits else {}
    if tower is values:  # only towers of multimodal files leave their sizes to the class
        defaults = {key: value for key, value in defaults.items() if key not in _SIZES}
    return Config(values=merged, defaults=defaults, where=where)


def _read(config: Config, model_type: str, model_id: str) -> Architecture:
    reader = _READERS.get(model_type)
    if reader is not None:
        return reader(config, model_id)
    return read_decoder(config, model_type, TRAITS.get(model_type, GENERIC), model_id)


def _refuse_null_sizes(tower: Mapping[str, Any], model_type: str, where: str) -> None:
    """Raise FileFormatError for a size that is there and null, where the type does not mean a default by it."""
    null = next((key for key in _SIZES if key in tower and tower[key] is None), "")
    if null and not (null == "intermediate_size" and model_type in NULL_WIDTH_TYPES):
        raise FileFormatError(
            explain(f"{where}: {null} is null", expected=f"a whole number from 1 to {MAX_WIDTH:,}")
        )
