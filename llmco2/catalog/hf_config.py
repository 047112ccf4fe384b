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

from llmco2.catalog import hf_hybrids, hf_mixed, tables
from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_decoders import read_decoder
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_precision import with_precision
from llmco2.catalog.hf_traits import GENERIC, TRAITS
from llmco2.errors import FileFormatError, explain

WHAT: Final = "the config.json of a decoder-only language model"
_NESTED_KEYS: Final = ("text_config", "llm_config", "language_config", "text_model_config")
_HYBRID_READERS: Final[Mapping[str, Callable[[Config, str], Architecture]]] = MappingProxyType(
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
    }
)
# Marks of mechanisms that a reader must know: an unknown model type with one is refused, not guessed at.
_UNMODELLED_PREFIXES: Final = (
    "kv_lora",
    "o_lora",
    "linear_",
    "mamba",
    "ssm_",
    "compress_",
    "hybrid",
    "swa_",
    "global_head",
    "index_",
    "moe_latent",
    "block_configs",
    "layers_block",
    "conv_L",
    "gdn_",
    "kda_",
    "num_kv_shared",
    "attn_layer_",
)
# Keys that only other kinds of network have: encoders, encoder-decoders, diffusion pipelines, recurrent RWKV.
_FOREIGN_KEYS: Final = ("type_vocab_size", "_class_name", "encoder_layers", "d_kv", "attention_hidden_size")
_DECODER_SUFFIXES: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


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
    name = model_id or file.resolve().parent.name or str(values.get("_name_or_path") or "model")
    if _model_type(_language_tower(values)) not in known_model_types():
        values = _with_class_defaults(file, values)
    return architecture_from_hf_config(values, model_id=name, where=str(file))


def architecture_from_hf_config(
    values: Mapping[str, Any], *, model_id: str, where: str = "config"
) -> Architecture:
    """Return the architecture that the values of a ``config.json`` describe; ``where`` names them in errors.

    An unknown model type is read as a Llama-like decoder when its architecture names a causal language model
    and the keys are there; it then carries ``confidence`` "low".
    """
    tower = _language_tower(values)
    model_type = _model_type(tower)
    _refuse_foreign(values, tower, where)
    traits = TRAITS.get(model_type)
    merged = {key: value for key, value in tower.items() if value is not None}
    if tower is not values and isinstance(values.get("tie_word_embeddings"), bool):
        merged.setdefault("tie_word_embeddings", values["tie_word_embeddings"])
    config = Config(values=merged, defaults=(traits or GENERIC).defaults if traits else {}, where=where)
    reader = _HYBRID_READERS.get(model_type)
    if reader is not None:
        architecture = reader(config, model_id)
    else:
        architecture = read_decoder(config, model_type, traits or GENERIC, model_id)
    known = reader is not None or traits is not None
    architecture = with_precision(architecture, config, values, tower, model_type)
    return dataclasses.replace(
        architecture,
        family=architecture.family if known else model_type or "unknown",
        source=where,
        confidence="high" if known else "low",
    )


def known_model_types() -> frozenset[str]:
    """Return the model types that are read without transformers."""
    return frozenset(TRAITS) | frozenset(_HYBRID_READERS)


def _language_tower(values: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _NESTED_KEYS:
        nested = values.get(key)
        if isinstance(nested, Mapping) and nested and "hidden_size" not in values:
            return nested
    return values


def _model_type(tower: Mapping[str, Any]) -> str:
    return str(tower.get("model_type") or "")


def _refuse_foreign(values: Mapping[str, Any], tower: Mapping[str, Any], where: str) -> None:
    model_type = str(values.get("model_type") or values.get("_class_name") or "none")
    foreign = next((key for key in _FOREIGN_KEYS if key in values), "")
    if foreign or values.get("is_encoder_decoder") is True:
        raise FileFormatError(
            explain(
                f"{where} is no decoder-only language model", got=f"model type {model_type!r}", expected=WHAT
            )
        )
    if _model_type(tower) in known_model_types():
        return
    strange = next((key for key in tower if key.startswith(_UNMODELLED_PREFIXES)), "")
    if strange:
        raise FileFormatError(
            explain(
                f"{where}: model type {_model_type(tower)!r} is not known here",
                got=f"the key {strange!r}",
                expected=WHAT,
                remedy="give its layers with architecture_from_shape",
            )
        )
    architectures = values.get("architectures")
    named = [str(name) for name in architectures] if isinstance(architectures, list) else []
    if not any(name.endswith(_DECODER_SUFFIXES) for name in named):
        raise FileFormatError(
            explain(
                f"{where} names no causal language model",
                got=f"model type {model_type!r}, architectures {named}",
                expected=WHAT,
            )
        )


def _with_class_defaults(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` over the defaults of its transformers class, where transformers knows it."""
    try:
        from transformers import AutoConfig  # noqa: PLC0415 - heavy, and only for model types unknown here
    except ImportError:
        return values
    try:
        filled = AutoConfig.from_pretrained(file.parent, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError):
        return values  # unknown there as well: the keys of the file decide
    return {**filled.to_dict(), **values}
