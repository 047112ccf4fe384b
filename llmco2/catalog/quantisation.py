"""Read a checkpoint's whole quantisation record: its formats, which modules have which, what stays at 16 bit.

Understood are the records of transformers (fp8, bitsandbytes, gptq, awq, auto-round, mxfp4, hqq, quanto, torchao),
compressed-tensors, NVIDIA's modelopt (also as ``hf_quant_config.json``) and AMD's quark.

Invariant: the order of groups, targets and names in the record never matters; a narrower rule beats a wider one, and
a module that the record excludes stays at 16 bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from llmco2.catalog import quantisation_schemes as schemes
from llmco2.catalog.precisions import PRECISIONS
from llmco2.catalog.quantisation_rules import Rule, Rules, kv_of, names_of
from llmco2.catalog.quantisation_schemes import Scheme
from llmco2.catalog.quantisation_tools import quark_rules, torchao_rules
from llmco2.errors import FileFormatError, explain

Record = Mapping[str, Any]
_EXCLUDING_KEYS: Final = (
    "ignore",
    "ignored_layers",
    "exclude",
    "exclude_modules",
    "modules_to_not_convert",
    "llm_int8_skip_modules",
    "skip_modules",
    "modules_not_to_quantize",
)
_EXPERTS_ONLY: Final = frozenset({"mxfp4", "experts_int8"})
_MODELOPT: Final = frozenset(
    {"modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8", "mixed_precision"}
)
_GROUPED: Final = frozenset(
    {"gptq", "gptq_marlin", "awq", "awq_marlin", "autoawq", "auto-round", "auto_round", "intel/auto-round"}
    | {"autoround", "inc", "moe_wna16", "marlin", "gptqmodel", "cpu_awq", "auto-round-mxfp", "mixed-gptq"}
)


def read_record(record: Record, where: str) -> Rules:
    """Return the rules of a ``quantization_config``; empty ones for an empty record.

    Raises FileFormatError, one line, for a format that is not known or a record that is damaged.
    """
    if not record:
        return Rules()
    method = str(record.get("quant_method") or record.get("quant_algo") or "").casefold()
    reader = _reader_of(method, record)
    rules = reader(record, method, where)
    mixed = record.get("quantized_layers")
    excluded = names_of(record, _EXCLUDING_KEYS, where)
    if (
        isinstance(mixed, Mapping) and method == "fp8"
    ):  # the list then names what is not in the narrower format
        excluded = names_of(record, ("modules_to_not_convert", "ignored_layers"), where)
    return Rules(
        base=rules.base,
        experts_only=method in _EXPERTS_ONLY or rules.experts_only,
        rules=(*rules.rules, *_layer_rules(mixed, where)),
        excluded=(*rules.excluded, *excluded),
        kv_cache=rules.kv_cache or kv_of(record, where),
    )


def _reader_of(method: str, record: Record) -> Callable[[Record, str, str], Rules]:
    grouped = isinstance(record.get("config_groups"), Mapping)
    if method in {"compressed-tensors", "compressed_tensors"} or (grouped and method in _MODELOPT | {""}):
        return _compressed_tensors
    if method in _MODELOPT or (not record.get("quant_method") and record.get("quant_algo")):
        return _modelopt
    if method in _GROUPED or (method not in _READERS and (record.get("bits") or record.get("w_bit"))):
        return _grouped_integers
    return _READERS.get(method, _by_name)


def _fp8(record: Record, _method: str, where: str) -> Rules:
    block = record.get("weight_block_size")
    return Rules(base=schemes.of_blocks(block, where) if block else schemes.named("fp8"))


def _bitsandbytes(record: Record, _method: str, _where: str) -> Rules:
    return Rules(base=schemes.of_bitsandbytes(record))


def _hqq(record: Record, _method: str, where: str) -> Rules:
    outer = record.get("quant_config")
    inner: Any = outer.get("weight_quant_params") if isinstance(outer, Mapping) else None
    if not isinstance(inner, Mapping):
        raise schemes.unknown(where, "hqq without weight_quant_params")
    return Rules(
        base=schemes.of_integers(inner.get("nbits"), inner.get("group_size"), zeros=True, where=where)
    )


def _quanto(record: Record, _method: str, where: str) -> Rules:
    names = {"int8": "int8-w8a16", "int4": "int4", "float8": "fp8-w8a16"}
    kind = str(record.get("weights")).casefold()
    if kind not in names:
        raise schemes.unknown(where, f"quanto {kind}")
    return Rules(base=schemes.named(names[kind]))


def _modelopt(record: Record, method: str, where: str) -> Rules:
    algorithm = record.get("quant_algo") or method
    if str(algorithm).casefold() in {"mixed_precision", "modelopt_mixed", "modelopt"}:
        if not record.get("quantized_layers"):
            raise schemes.unknown(where, f"{algorithm} without quantized_layers")
        return Rules()
    return Rules(base=schemes.of_algorithm(algorithm, record.get("group_size"), where))


def _grouped_integers(record: Record, method: str, where: str) -> Rules:
    """GPTQ, AWQ and AutoRound: one width for all linear layers, with exceptions by name or pattern."""
    rules = [
        Rule.of(name, _grouped_scheme(settings, record, method, where))
        for name, settings in _mapping(record, "extra_config").items()
        if isinstance(settings, Mapping)
    ]
    for name, settings in _mapping(
        record, "dynamic"
    ).items():  # GPTQModel: "-:" leaves out, "+:" and "" change
        pattern = f"re:{name.removeprefix('-:').removeprefix('+:')}"
        changed = settings if isinstance(settings, Mapping) else {}
        scheme = None if name.startswith("-:") else _grouped_scheme(changed, record, method, where)
        rules.append(Rule.of(pattern, scheme))
    base = _grouped_scheme({}, record, method, where)
    head = [Rule.of("lm_head", base)] if record.get("lm_head") is True else []
    return Rules(base=base, rules=(*head, *rules))


def _grouped_scheme(settings: Record, record: Record, method: str, where: str) -> Scheme | None:
    def value(*keys: str) -> Any:
        return next(
            (source[key] for source in (settings, record) for key in keys if source.get(key) is not None),
            None,
        )

    kind = str(value("data_type") or "int").casefold()
    bits, group, activations = value("bits", "w_bit"), value("group_size", "q_group_size"), value("act_bits")
    if kind.startswith(("fp8", "float8", "mx", "nv", "fp")):
        exponents = kind.startswith("mx")
        return schemes.of_floats(
            bits, group, activation_bits=activations, power_of_two=exponents, where=where
        )
    zeros = value("zero_point") is not False if "awq" in method else value("sym") is not True
    return schemes.of_integers(bits, group, activation_bits=activations, zeros=zeros, where=where)


def _compressed_tensors(record: Record, _method: str, where: str) -> Rules:
    """Groups of targets: a class of modules ("Linear"), names or patterns, each with its own format."""
    base: Scheme | None = None
    rules: list[Rule] = []
    for group in _mapping(record, "config_groups").values():
        if not isinstance(group, Mapping):
            raise FileFormatError(explain(f"{where}: config_groups is unreadable", got=repr(group)[:60]))
        scheme = _group_scheme(group, record, where)
        targets = group.get("targets")
        names = targets if isinstance(targets, list) and targets else ["Linear"]
        for name in map(str, names):
            if name.endswith("Linear") or name in {"RoutedExperts", "FusedMoE"}:
                base = _wider_first(base, scheme)
            else:
                rules.append(Rule.of(name, scheme))
    if not record.get("config_groups") and record.get("quant_algo"):
        return _modelopt(record, "", where)
    return Rules(base=base, rules=tuple(rules))


def _wider_first(one: Scheme | None, other: Scheme | None) -> Scheme | None:
    """Return the narrower of two formats that both claim a class, whichever is written first."""
    given = [scheme for scheme in (one, other) if scheme is not None]
    return min(given, key=lambda s: (s.weight_bytes_per_element, s.precision)) if given else None


def _group_scheme(group: Record, record: Record, where: str) -> Scheme | None:
    weights, inputs = group.get("weights"), group.get("input_activations")
    if not isinstance(weights, Mapping):
        return None
    activation_bits = inputs.get("num_bits") if isinstance(inputs, Mapping) else None
    bits, size = weights.get("num_bits"), weights.get("group_size")
    if str(weights.get("type") or "int").casefold() == "int":
        zeros = weights.get("symmetric") is False
        if isinstance(inputs, Mapping) and str(inputs.get("type")).casefold() == "float" and bits == 4:
            n_bytes = schemes.packed_bytes(4, size, zeros=zeros, where=where)
            return Scheme(precision="w4a8", weight_bytes_per_element=n_bytes)
        return schemes.of_integers(bits, size, activation_bits=activation_bits, zeros=zeros, where=where)
    form = str(group.get("format") or record.get("format") or "").casefold()
    exponents = form.startswith("mx") or str(weights.get("scale_dtype")).endswith("uint8")
    in_blocks = weights.get("strategy") == "block" or weights.get("block_structure")
    block = (weights.get("block_structure") or [128, 128]) if in_blocks else None
    return schemes.of_floats(
        bits, size, activation_bits=activation_bits, block=block, power_of_two=exponents, where=where
    )


def _by_name(record: Record, method: str, where: str) -> Rules:
    """A method whose name says it all: an algorithm of a serving engine, or a precision's own name."""
    if method.replace("-", "_") in schemes.ALGORITHMS:
        return Rules(base=schemes.of_algorithm(method, record.get("group_size"), where))
    folded = method.replace("_", "-")
    spelled = [(name, p.name) for p in PRECISIONS for name in (p.name, *p.aliases) if folded.startswith(name)]
    if spelled:
        return Rules(base=schemes.named(max(spelled, key=lambda pair: len(pair[0]))[1]))
    if record.get("quantized_layers"):
        return Rules()
    raise schemes.unknown(where, method or str(dict(record)))


def _layer_rules(mixed: Any, where: str) -> Iterable[Rule]:
    """Yield a rule for each module of modelopt's ``quantized_layers``."""
    if not isinstance(mixed, Mapping):
        return
    seen: dict[tuple[str, Any], Scheme | None] = {}
    for name, settings in mixed.items():
        given = settings if isinstance(settings, Mapping) else {"quant_algo": settings}
        key = (str(given.get("quant_algo")), given.get("group_size"))
        if not isinstance(key[1], int | None):
            raise schemes.unknown(where, f"{name}: group_size {key[1]!r}")
        if key not in seen:
            seen[key] = schemes.of_algorithm(*key, where)
        yield Rule.of(str(name), seen[key])


def _mapping(record: Record, key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


_READERS: Final[Mapping[str, Callable[[Record, str, str], Rules]]] = MappingProxyType(
    {
        "fp8": _fp8,
        "finegrained_fp8": _fp8,
        "bitsandbytes": _bitsandbytes,
        "hqq": _hqq,
        "quanto": _quanto,
        "quark": quark_rules,
        "torchao": torchao_rules,
    }
)
