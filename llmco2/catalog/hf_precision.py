"""The number formats of a checkpoint, from its ``config.json``: by part where a quantisation record says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_keys import Config
from llmco2.catalog.hf_layers import layer_plan
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.quantisation import read_record
from llmco2.catalog.quantisation_rules import Rule, Rules
from llmco2.catalog.quantisation_schemes import named
from llmco2.catalog.quantised_parts import named_precision, parts_of_rules
from llmco2.errors import FileFormatError, UnknownNameError, explain

_RECORD_KEYS: Final = ("quantization_config", "compression_config")
_DTYPE_KEYS: Final = ("dtype", "torch_dtype")
_EXPERT_TYPES: Final = {"fp4": "mxfp4-w4a8", "fp8": "fp8-block", "bf16": "bf16"}  # DeepSeek-V4's expert_dtype


def with_precision(
    arch: Architecture, config: Config, values: Mapping[str, Any], tower: Mapping[str, Any], model_type: str
) -> Architecture:
    """Return ``arch`` with the formats of its checkpoint: by quantisation record, else dtype, else bf16.

    Raises FileFormatError, one line, for a record or a dtype that is not known.
    """
    dtype = _dtype(values, tower, config.where)
    record = next((s[key] for s in (values, tower) for key in _RECORD_KEYS if s.get(key) is not None), None)
    if record is not None and not isinstance(record, Mapping):
        raise FileFormatError(
            explain(f"{config.where}: the quantisation record is no object", got=repr(record)[:60])
        )
    rules = _with_experts(read_record(record or {}, config.where), tower)
    if rules == Rules():
        return dataclasses.replace(arch, checkpoint_precision=dtype, fp8_in_blocks=dtype == "fp8-block")
    plan = layer_plan(config, model_type, arch)
    parts, assumed = parts_of_rules(arch, rules, named(dtype), plan)
    name = named_precision(arch, parts)
    return dataclasses.replace(
        arch,
        checkpoint_precision=name,
        fp8_in_blocks=name == "fp8-block",
        stored=parts,
        assumptions=(*arch.assumptions, *assumed),
    )


def _dtype(values: Mapping[str, Any], tower: Mapping[str, Any], where: str) -> str:
    for source in (tower, values):
        for key in _DTYPE_KEYS:
            dtype = source.get(key)
            if isinstance(dtype, str) and dtype != "auto":
                try:
                    return resolve_precision(dtype).name
                except UnknownNameError as error:
                    raise FileFormatError(explain(f"{where}: unknown dtype", got=repr(dtype)[:60])) from error
    return "bf16"


def _with_experts(rules: Rules, tower: Mapping[str, Any]) -> Rules:
    kind = _EXPERT_TYPES.get(str(tower.get("expert_dtype")).casefold())
    if kind is None or rules.base is None:
        return rules
    return dataclasses.replace(rules, rules=(*rules.rules, Rule.of("experts", named(kind))))
