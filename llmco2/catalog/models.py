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
from llmco2.catalog.hf_config import read_hf_config
from llmco2.catalog.precisions import resolve_precision
from llmco2.errors import FileFormatError, InputError, UnknownNameError, explain

_NOT_COLUMNS: Final = frozenset({"stored", "assumptions"})  # only a checkpoint's own record has them
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
ALIAS_COLUMNS: Final = ("alias", "model_id", "checkpoint_precision")


@lru_cache(maxsize=1)
def load_models() -> Mapping[str, Architecture]:
    """Return every architecture of ``datasets/models.csv`` by its id, in the table's order."""
    rows = tables.read_table("models.csv", COLUMNS)
    models = (_from_row(row, f"models.csv line {line}") for line, row in enumerate(rows, start=2))
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

    Raises UnknownNameError with the nearest ids, FileFormatError for a damaged or foreign file.
    """
    if isinstance(name_or_path, Path) or _is_spelled_as_path(name_or_path):
        return read_hf_config(_expanded(Path(name_or_path)))
    found = _known(name_or_path)
    if found is not None:
        return found
    if name_or_path.strip() and _holds_a_config(Path(name_or_path)):
        return read_hf_config(Path(name_or_path))
    reason = uncovered.why_no_model(name_or_path)
    if reason:
        raise UnknownNameError("model", name_or_path, (), remedy=reason)
    raise UnknownNameError(
        "model",
        name_or_path,
        [model_id.rsplit("/", 1)[-1] for model_id in load_models()],
        remedy="or give the path of its config.json",
    )


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


def _holds_a_config(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except (OSError, ValueError):  # no such path can be: too long, or with a NUL
        return False


def _known(name: str) -> Architecture | None:
    index = _index()
    for key, precision in model_names.candidate_keys(name):
        entry = index.get(key)
        if entry is not None:
            model_id, alias_precision = entry
            chosen = precision or alias_precision
            model = load_models()[model_id]
            return dataclasses.replace(model, checkpoint_precision=chosen) if chosen else model
    return None


@lru_cache(maxsize=1)
def _index() -> Mapping[str, tuple[str, str]]:
    """Return (model id, precision or "") by folded name; table ids beat aliases, literal keys short ones."""
    index: dict[str, tuple[str, str]] = {}
    models = load_models()
    for drop_tuning in (False, True):
        for model_id in models:
            index.setdefault(model_names.folded(model_id, drop_tuning=drop_tuning), (model_id, ""))
    for alias, model_id, precision in load_aliases():
        index.setdefault(model_names.folded(alias), (model_id, precision))
    for alias, model_id, precision in load_aliases():
        index.setdefault(model_names.folded(alias, drop_tuning=True), (model_id, precision))
    return index


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
