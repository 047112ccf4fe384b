"""Build the transformers config of a catalog model where the machine has no ``config.json`` of it.

Invariant: a config is returned only if this package's own reader reads it back as the same architecture, field
for field. What the catalog does not keep (rotary scaling, epsilons, names of activations) is the default of
the model's class; no matrix product depends on it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.hf_config import architecture_from_hf_config
from llmco2.catalog.params import parameter_count
from llmco2.errors import FileFormatError, explain
from llmco2.measurement.workloads.config_lineages import LINEAGES, PUBLISHED, Lineage
from llmco2.measurement.workloads.workload import WorkloadError

MAX_SIZE_DIFFERENCE: Final = 0.005  # of the parameters; score corrections of experts are no parameters there
_NOT_SHAPE: Final = frozenset(
    {"model_id", "family", "checkpoint_precision", "fp8_in_blocks", "stated_params", "source", "retrieved"}
    | {"confidence", "stored", "assumptions"}
)
# Token ids decide nothing here, and those of a class may lie outside another model's vocabulary.
_NO_SPECIAL_TOKENS: Final = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def config_from_catalog(arch: Architecture) -> Any:
    """Return a transformers config of exactly the shape of ``arch``.

    Raises:
        WorkloadError: the lineage has no transformers class, or none of its classes has that shape.
    """
    found = "no transformers class is known for its lineage"
    for lineage in LINEAGES.get(arch.family, ()):
        if not lineage.suits(arch):
            continue
        for option in lineage.options:
            config, found = _tried(arch, lineage, lineage.keys(arch) | option)
            if config is not None:
                return config
    raise WorkloadError(
        "no_config",
        explain(
            f"the catalog's shape of {arch.model_id} does not make a transformers config",
            got=found,
            expected="a class of transformers with exactly that shape",
            remedy="set model_path to a folder or config.json, or: hf download NAME config.json",
        ),
    )


def check_size(model: Any, arch: Architecture) -> None:
    """Refuse a model whose parameters are not those that the catalog counts.

    Raises:
        WorkloadError: they differ by more than :data:`MAX_SIZE_DIFFERENCE`, as in a release of transformers
            whose class has changed.
    """
    built, counted = sum(parameter.numel() for parameter in model.parameters()), parameter_count(arch)
    if abs(built / counted - 1) > MAX_SIZE_DIFFERENCE:
        raise WorkloadError(
            "no_config",
            explain(
                f"transformers builds another model from the catalog's shape of {arch.model_id}",
                got=f"{built:,} parameters",
                expected=f"{counted:,}",
                remedy="set model_path to its config.json, or install another release of transformers",
            ),
        )


def _tried(arch: Architecture, lineage: Lineage, keys: dict[str, Any]) -> tuple[Any, str]:
    """Return the config that has the shape of ``arch``, or ``None`` and what it lacks."""
    from transformers import AutoConfig  # noqa: PLC0415

    known = keys | PUBLISHED.get(arch.model_id, {}) | _NO_SPECIAL_TOKENS
    try:
        config = AutoConfig.for_model(lineage.model_type, **known)
        read = architecture_from_hf_config(
            config.to_dict(), model_id=arch.model_id, where=f"a {lineage.model_type} config"
        )
    except FileFormatError as error:
        return None, str(error)
    except (ValueError, TypeError) as error:  # a type or a value that this release does not take
        return None, f"{lineage.model_type}: {str(error).splitlines()[0][:120]}"
    difference = first_difference(arch, read)
    return (None, f"{lineage.model_type}: {difference}") if difference else (config, "")


def first_difference(arch: Architecture, read: Architecture) -> str:
    """Return the first field in which the two shapes differ, in words; empty where they are the same."""
    for field in dataclasses.fields(Architecture):
        wanted, got = getattr(arch, field.name), getattr(read, field.name)
        unknown_reach = field.name == "max_context_tokens" and wanted is None
        if field.name not in _NOT_SHAPE and not unknown_reach and wanted != got:
            return f"{field.name} {got} instead of {wanted}"
    return ""
