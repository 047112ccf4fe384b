"""The model table and the kind resolution of model names.

A name resolves when it is a catalog id, an alias (``datasets/model_aliases.csv``) or any spelling that
:mod:`llmco2.catalog.model_names` folds to one of them; a quantised variant resolves to its base with the
variant's ``checkpoint_precision``. Anything else may be the path of a Hugging Face ``config.json`` or of a
directory with one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from llmco2.catalog import model_names, tables, uncovered
from llmco2.catalog.architecture import Architecture
from llmco2.catalog.checkpoint_folder import holds_checkpoint, read_checkpoint
from llmco2.catalog.part_precisions import WEIGHT_PARTS, PartPrecisions, StoredPart
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.provider_names import ProviderName, provider_name
from llmco2.catalog.stored import stored_parts
from llmco2.errors import FileFormatError, InputError, UnknownNameError, explain

_NOT_COLUMNS: Final = frozenset(
    {"stored", "assumptions", "published_as"}
)  # of one checkpoint, not of a shape
_FIELDS: Final = tuple(field for field in dataclasses.fields(Architecture) if field.name not in _NOT_COLUMNS)
COLUMNS: Final = tuple(field.name for field in _FIELDS)
_TEXT_FIELDS: Final = frozenset(
    {"model_id", "family", "checkpoint_precision", "source", "retrieved", "confidence"}
)
_FLAG_FIELDS: Final = frozenset(
    {
        "tied_embeddings",
        "gated_attention_output",
        "gated_mlp",
        "gated_experts",
        "fp8_in_blocks",
        "keys_are_values",
    }
)
_OPTIONAL_FIELDS: Final = frozenset({"max_context_tokens", "stated_params"})
PART_COLUMNS: Final = ("name", "checkpoint_precision", *WEIGHT_PARTS, "kv_cache")
_NATIVE_FOUR_BIT: Final = frozenset(
    {"mxfp4", "nvfp4", "int4"}
)  # which a server of 4-bit files leaves as they are
_BY_ORGANISATION: Final = frozenset(
    {"qwen/qwen3-coder"}
)  # of that organisation alone; the bare name is another model
ALIAS_COLUMNS: Final = ("alias", "model_id", "checkpoint_precision")


@lru_cache(maxsize=1)
def load_models() -> Mapping[str, Architecture]:
    """Return every architecture of ``datasets/models.csv`` by its id, in the table's order."""
    rows = tables.read_table("models.csv", COLUMNS)
    models = (
        _with_parts(_from_row(row, f"models.csv line {line}")) for line, row in enumerate(rows, start=2)
    )
    with tables.shipped("models.csv"):
        return MappingProxyType({model.model_id: model for model in models})


@lru_cache(maxsize=1)
def load_aliases() -> Sequence[tuple[str, str, str]]:
    """Return (alias, model id, precision or "") of ``datasets/model_aliases.csv``, in the table's order."""
    aliases = []
    for line, row in enumerate(tables.read_table("model_aliases.csv", ALIAS_COLUMNS), start=2):
        if row["model_id"] not in load_models():
            raise tables.damaged("model_aliases.csv", f"an unknown model {row['model_id']!r} at row {line}")
        aliases.append((row["alias"], row["model_id"], row["checkpoint_precision"]))
    return tuple(aliases)


def resolve_model(name_or_path: str | Path) -> Architecture:
    """Return the architecture that ``name_or_path`` means: a name, or a ``config.json`` or its directory.

    A folder or file that exists wins over a name that the catalog knows, and ``assumptions`` say so. Raises
    UnknownNameError with the nearest ids, FileFormatError for a damaged or foreign file.
    """
    if isinstance(name_or_path, Path) or _is_spelled_as_path(name_or_path):
        return read_checkpoint(_expanded(Path(name_or_path)), resolve_model)
    use = uncovered.why_no_generator(name_or_path)
    found = None if use else _known(name_or_path)
    if name_or_path.strip() and holds_checkpoint(Path(name_or_path)):
        read = read_checkpoint(Path(name_or_path), resolve_model)
        return _said_to_be_here(read, name_or_path) if found else read
    if found is not None:
        return found
    reason = use or uncovered.why_no_model(name_or_path)
    if reason:
        raise UnknownNameError("model", name_or_path, (), remedy=reason)
    known = [model_id.rsplit("/", 1)[-1] for model_id in load_models()]
    raise UnknownNameError(
        "model",
        name_or_path,
        model_names.same_lineage(provider_name(name_or_path).name, known),
        remedy="or give the path of its config.json",
    )


def _said_to_be_here(model: Architecture, name: str) -> Architecture:
    line = f"{name} is a folder here: its own configuration answers, not the catalog's model of that name"
    return dataclasses.replace(model, assumptions=(line, *model.assumptions))


def architecture_from_shape(
    *,
    hidden_dim: int,
    n_layers: int,
    n_heads: int,
    ffn_dim: int,
    vocab_size: int,
    n_kv_heads: int | None = None,
    head_dim: int | None = None,
    **more: Any,
) -> Architecture:
    """Return a decoder of ``n_layers`` equal layers from its widths in elements.

    ``n_kv_heads`` defaults to ``n_heads``, ``head_dim`` to ``hidden_dim / n_heads``; ``more`` takes any
    further field of :class:`Architecture` (``gated_mlp``, ``n_experts``, ``n_sliding_attention_layers``,
    ...). Layers that ``more`` gives to a window, to experts or to a recurrent mixer are taken from the
    ``n_layers``. Two norm vectors a layer and a final one are counted. Raises InputError, one line, for an
    impossible shape.
    """
    kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    widths = {"hidden_dim": hidden_dim, "n_layers": n_layers, "n_heads": n_heads, "vocab_size": vocab_size}
    given = {"n_kv_heads": kv_heads, "ffn_dim": ffn_dim, "head_dim": 1 if head_dim is None else head_dim}
    _check_counts(widths | given, more)
    if head_dim is None and hidden_dim % n_heads:
        raise InputError(explain("n_heads does not divide hidden_dim", got=n_heads, remedy="give head_dim"))
    if n_heads % kv_heads:
        expected = f"a divisor of {n_heads}"
        raise InputError(explain("n_kv_heads does not divide n_heads", got=kv_heads, expected=expected))
    n_elsewhere = more.get("n_sliding_attention_layers", 0) + more.get("n_recurrent_layers", 0)
    n_moe = more.get("n_moe_layers", n_layers if more.get("n_experts") else 0)
    if n_elsewhere > n_layers or n_moe > n_layers:
        raise InputError(
            explain("more special layers than layers", got=max(n_elsewhere, n_moe), expected=n_layers)
        )
    shape: dict[str, Any] = {
        "model_id": "custom",
        "hidden_dim": hidden_dim,
        "vocab_size": vocab_size,
        "n_heads": n_heads,
        "n_kv_heads": kv_heads,
        "head_dim": head_dim or hidden_dim // n_heads,
        "n_full_attention_layers": n_layers - n_elsewhere,
        "n_dense_mlp_layers": n_layers - n_moe,
        "ffn_dim": ffn_dim,
        "n_moe_layers": n_moe,
        "expert_ffn_dim": ffn_dim if n_moe else 0,
        "other_params": (2 * n_layers + 1) * hidden_dim,
        "source": "shape given by the user",
    }
    return Architecture(**(shape | more))


def _check_counts(widths: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    unknown = sorted(set(more) - set(COLUMNS))
    if unknown:
        raise InputError(
            explain("unknown shape argument", got=unknown[0], expected="a field of Architecture")
        )
    no_counts = _TEXT_FIELDS | _FLAG_FIELDS
    counts = {key: value for key, value in more.items() if key not in no_counts and value is not None}
    for key, value in {**widths, **counts}.items():
        low = 1 if key in widths and key != "ffn_dim" else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(
                explain(f"{key} is impossible", got=repr(value), expected=f"a whole number from {low}")
            )


def _is_spelled_as_path(name: str) -> bool:
    return name.endswith(".json") or name.startswith(("/", "./", "../", "~", ".\\")) or name in {".", ".."}


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # "~somebody" without such a person
        raise FileFormatError(explain(f"cannot read {path}", got=error)) from error


def _known(name: str) -> Architecture | None:
    provided = provider_name(name)
    entry = _full_index().get(provided.name.casefold())
    candidates: list[tuple[tuple[str, str, str] | None, str]] = [(entry, "")]
    candidates += [
        (_index().get(key), precision) for key, precision in model_names.candidate_keys(provided.name)
    ]
    for found, named_precision in candidates:
        if found is not None:
            return _checkpoint(found, named_precision, provided)
    return None


def _checkpoint(found: tuple[str, str, str], named_precision: str, provided: ProviderName) -> Architecture:
    """Return the catalog's shape as the checkpoint that was named: its own name, format and parts."""
    model_id, alias_precision, alias = found
    model = load_models()[model_id]
    parts = load_parts().get(model_names.folded(provided.name))
    chosen = named_precision or alias_precision
    assumptions: tuple[str, ...] = ()
    if not named_precision and provided.precision and model.checkpoint_precision not in _NATIVE_FOUR_BIT:
        chosen, assumptions = provided.precision, (provided.said_by,)
    changes: dict[str, Any] = {"published_as": alias, "assumptions": assumptions}
    if chosen:
        changes["checkpoint_precision"] = chosen
        model = dataclasses.replace(model, stored=None)  # of the checkpoint in its own format
    if parts is not None and alias:
        changes |= {"stored": parts[1], "checkpoint_precision": parts[0]}
    elif model_names.has_narrow_cache(provided.name):
        narrowed = dataclasses.replace(model, checkpoint_precision=chosen)
        changes["stored"] = dataclasses.replace(stored_parts(narrowed), kv_cache="fp8")
    kept = {key: value for key, value in changes.items() if value}
    return dataclasses.replace(model, **kept) if kept else model


@lru_cache(maxsize=1)
def _full_index() -> Mapping[str, tuple[str, str, str]]:
    """Return entries by the whole name in lower case, for names that differ by their organisation alone."""
    return {
        alias.casefold(): (model, precision, alias)
        for alias, model, precision in load_aliases()
        if "/" in alias
    }


@lru_cache(maxsize=1)
def _index() -> Mapping[str, tuple[str, str, str]]:
    """Return (model id, precision or "", alias or "") by folded name; ids beat aliases, literal keys short ones."""
    index: dict[str, tuple[str, str, str]] = {}
    models = load_models()
    for drop_tuning in (False, True):
        for model_id in models:
            index.setdefault(model_names.folded(model_id, drop_tuning=drop_tuning), (model_id, "", ""))
    for drop_tuning in (False, True):
        for alias, model_id, precision in load_aliases():
            if alias.casefold() in _BY_ORGANISATION:
                continue
            key = model_names.folded(alias, drop_tuning=drop_tuning)
            bare = [model_names.folded(name, drop_tuning=True) for name in (alias, model_id)]
            index.setdefault(key, (model_id, precision, "" if bare[0] == bare[1] else alias))
    return index


@lru_cache(maxsize=1)
def load_parts() -> Mapping[str, tuple[str, PartPrecisions]]:
    """Return (precision, parts) of published checkpoints whose parts differ, by folded name."""
    rows = tables.read_table("model_parts.csv", PART_COLUMNS)
    return {
        model_names.folded(row["name"]): (row["checkpoint_precision"], _parts_of_row(row)) for row in rows
    }


def _with_parts(model: Architecture) -> Architecture:
    parts = load_parts().get(model_names.folded(model.model_id))
    return dataclasses.replace(model, stored=parts[1]) if parts else model


def _parts_of_row(row: Mapping[str, str]) -> PartPrecisions:
    """Return the parts of a row whose cells read "nvfp4" or, with the mean bytes, "nvfp4+bf16:1.1"."""
    parts = {}
    for part in WEIGHT_PARTS:
        names, _, n_bytes = (row[part] or "bf16").partition(":")
        first, *others = names.split("+")
        mean = float(n_bytes) if n_bytes else resolve_precision(first).weight_bytes_per_element
        parts[part] = StoredPart(precision=first, weight_bytes_per_element=mean, also=tuple(others))
    return PartPrecisions(**parts, kv_cache=row["kv_cache"])


def _from_row(row: Mapping[str, str], where: str) -> Architecture:
    values: dict[str, Any] = {}
    for name in COLUMNS:
        cell = row.get(name)
        if name in _TEXT_FIELDS:
            values[name] = cell or ""
        elif name in _FLAG_FIELDS:
            values[name] = cell == "1"
        elif cell:
            try:
                values[name] = int(cell)
            except ValueError as error:
                what = f"{where}: {name} is no whole number"
                raise FileFormatError(explain(what, got=repr(cell))) from error
        elif name not in _OPTIONAL_FIELDS:
            values[name] = 0
    values["checkpoint_precision"] = resolve_precision(values["checkpoint_precision"] or "bf16").name
    return Architecture(**values)
