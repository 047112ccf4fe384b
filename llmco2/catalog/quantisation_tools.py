"""Read the quantisation records of AMD's quark and PyTorch's torchao."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llmco2.catalog import quantisation_schemes as schemes
from llmco2.catalog.quantisation_rules import Rule, Rules, kv_of_type
from llmco2.catalog.quantisation_schemes import Scheme

Record = Mapping[str, Any]
_WIDE: Final = frozenset({"bfloat16", "float16", "bf16", "fp16", "float32", "none"})
# torchao's configurations without "Config", and their older names, in lower case and without underscores.
_TORCHAO: Final = {
    "float8dynamicactivationfloat8weight": "fp8",
    "float8staticactivationfloat8weight": "fp8",
    "float8weightonly": "fp8-w8a16",
    "int8weightonly": "int8-w8a16",
    "int8dynamicactivationint8weight": "int8",
    "int4weightonly": "int4",
    "float8dynamicactivationint4weight": "w4a8",
    "int8dynamicactivationint4weight": "w4a8-int8",
    "nvfp4inference": "nvfp4",
    "nvfp4dynamicactivationnvfp4weight": "nvfp4",
    "nvfp4weightonly": "nvfp4-w4a16",
    "mxfpinference": "mxfp8",
    "mxdynamicactivationmxweight": "mxfp8",
}
_TORCHAO_GROUPS: Final = {"int4": 128, "w4a8": 128, "w4a8-int8": 32}  # group sizes unless given
_BY_NAME: Final = ("moduletofqnconfig", "modulefqnto", "fqnto")


def quark_rules(record: Record, _method: str, where: str) -> Rules:
    """Return the rules of a quark record: a global format, formats by layer pattern, exclusions, the cache."""
    overall = record.get("global_quant_config")
    base = _quark_scheme(overall, where) if isinstance(overall, Mapping) else None
    by_layer = record.get("layer_quant_config")
    listed = by_layer.items() if isinstance(by_layer, Mapping) else ()
    caches = _cache_names(record)
    rules = [
        Rule.of(str(name), _quark_scheme(settings, where))
        for name, settings in listed
        if isinstance(settings, Mapping) and name not in caches
    ]
    return Rules(base=base, rules=tuple(rules), kv_cache=_quark_cache(record, caches))


def _quark_scheme(settings: Record, where: str) -> Scheme | None:
    weight = settings.get("weight")
    inputs = settings.get("input_tensors")
    if isinstance(weight, list) and weight:
        weight = weight[0]
    if not isinstance(weight, Mapping):
        return None
    kind = str(weight.get("dtype")).casefold()
    if kind in _WIDE:
        return None
    inputs = inputs[0] if isinstance(inputs, list) and inputs else inputs
    activation = _bits(str(inputs.get("dtype"))) if isinstance(inputs, Mapping) else None
    bits, group = _bits(kind), weight.get("group_size")
    if bits is None:
        raise schemes.unknown(where, f"quark {kind}")
    if "int" in kind:
        floats = isinstance(inputs, Mapping) and str(inputs.get("dtype")).startswith("fp8")
        if floats and bits == 4:
            return schemes.named("w4a8")
        zeros = weight.get("symmetric") is False
        return schemes.of_integers(bits, group, activation_bits=activation, zeros=zeros, where=where)
    exponents = str(weight.get("scale_format")).casefold() == "e8m0"
    return schemes.of_floats(
        bits, group, activation_bits=activation, power_of_two=exponents or bits == 4, where=where
    )


def _bits(kind: str) -> int | None:
    digits = "".join(character for character in kind.split("_", maxsplit=1)[0] if character in "0123456789")
    return int(digits) if digits and len(digits) <= 2 else None


def _cache_names(record: Record) -> frozenset[str]:
    cached = record.get("kv_cache_quant_config")
    groups = record.get("kv_cache_group")
    names = [*(cached if isinstance(cached, Mapping) else ()), *(groups if isinstance(groups, list) else ())]
    return frozenset(str(name) for name in names)


def _quark_cache(record: Record, names: frozenset[str]) -> str:
    for key in ("kv_cache_quant_config", "layer_quant_config"):
        settings = record.get(key)
        for name, entry in settings.items() if isinstance(settings, Mapping) else ():
            output = entry.get("output_tensors") if isinstance(entry, Mapping) else None
            if str(name) in names and isinstance(output, Mapping):
                return kv_of_type(output.get("dtype"))
    return ""


def torchao_rules(record: Record, _method: str, where: str) -> Rules:
    """Return the rules of a torchao record: one configuration, or one for each module by name."""
    kind = record.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
    if isinstance(kind, Mapping) and str(kind.get("_type")).casefold().removesuffix("config") in _BY_NAME:
        return _torchao_by_name(kind, where)
    return Rules(base=_torchao_scheme(kind, record.get("quant_type_kwargs"), where))


def _torchao_by_name(kind: Record, where: str) -> Rules:
    data = kind.get("_data")
    listed: Any = {}
    for key in ("module_fqn_to_config", "fqn_to_config"):
        listed = data[key] if isinstance(data, Mapping) and isinstance(data.get(key), Mapping) else listed
    base = None
    rules = []
    for name, settings in listed.items():
        scheme = None if settings is None else _torchao_scheme(settings, None, where)
        if name == "_default":
            base = scheme
        else:
            rules.append(Rule.of(str(name), scheme))
    return Rules(base=base, rules=tuple(rules))


def _torchao_scheme(kind: Any, options: Any, where: str) -> Scheme:
    data = kind.get("_data") if isinstance(kind, Mapping) else options
    spelled = kind.get("_type") if isinstance(kind, Mapping) else kind
    key = str(spelled).casefold().replace("_", "").removesuffix("config")
    if key not in _TORCHAO:
        raise schemes.unknown(where, f"torchao {spelled}")
    name = _TORCHAO[key]
    text = str(data).casefold()
    if name == "mxfp8" and "float4" in text:
        name = "mxfp4-w4a4"
    if name not in _TORCHAO_GROUPS:
        return schemes.named(name)
    group = data.get("group_size") if isinstance(data, Mapping) else None
    group = _TORCHAO_GROUPS[name] if group is None else group
    n_bytes = schemes.packed_bytes(4, group, zeros=name == "int4", where=where)
    return Scheme(precision=name, weight_bytes_per_element=n_bytes)
