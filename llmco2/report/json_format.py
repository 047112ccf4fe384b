"""Answers as JSON, an array of one object an answer, and one footprint back.

Invariant: the flat keys are ``FRAME_COLUMNS``; all else (phases, factors, memory) sits under ``details``,
so a reader of the flat keys never breaks when details grow. Reading back gives an equal footprint. JSON has no
infinity: such a figure of a person's own column is written as the text "inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from llmco2.errors import FileFormatError, explain
from llmco2.records.footprint import Carbon, Factor, Footprint, Interval, PhaseEnergy, PhaseParts
from llmco2.records.request import REQUEST_COLUMNS, InferenceRequest
from llmco2.report.rows import footprint_row

JSON_SCHEMA_VERSION: Final = 2  # 1 was one bare object
DETAILS: Final = "details"
_ENCODE: Final = {
    ascii_only: json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False).encode
    for ascii_only in (False, True)
}
_PHASES: Final = ("prefill", "decode", "total")
_PLAIN_DETAILS: Final = (
    "n_gpus",
    "memory_needed_bytes",
    "memory_available_bytes",
    "predictor",
    "measured_kernel_share",
)
_OPTIONAL: Final = (
    "ttft_interval_s",
    "tpot_interval_s",
    "latency_interval_s",
    "prefill_parts",
    "decode_parts",
)


def footprint_json(footprint: Footprint) -> str:
    """Return ``footprint`` as an indented JSON array of one object, ended by a newline."""
    details: dict[str, Any] = {"schema_version": JSON_SCHEMA_VERSION}
    details |= {name: asdict(getattr(footprint, name)) for name in _PHASES}
    details["carbon"] = asdict(footprint.carbon) | {"total_gco2e": footprint.carbon.total_gco2e}
    details |= {name: getattr(footprint, name) for name in _PLAIN_DETAILS}
    details["notes"] = footprint.notes
    for name in _OPTIONAL:
        part = getattr(footprint, name)
        details[name] = asdict(part) if part is not None else None
    content = footprint_row(footprint) | {DETAILS: details}
    return json.dumps([content], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def footprint_json_line(footprint: Footprint) -> str:
    """Return ``footprint`` as one line of JSON, its flat keys only."""
    return row_json(footprint_row(footprint)) + "\n"


def row_json(row: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """Return a row, whose cells JSON can hold, as one line of JSON text without its end.

    ``ascii_only`` escapes other characters, for a stream that could not encode them.
    """
    return _ENCODE[ascii_only](row)


def array_json(rows: Iterable[Mapping[str, Any]], *, ascii_only: bool = False) -> Iterator[str]:
    """Yield the text of a JSON array of ``rows``, a row a line, each with the key ``details`` of one schema."""
    before = "[\n"
    for row in rows:
        yield before + row_json({**row, DETAILS: None}, ascii_only=ascii_only)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def json_cells(cells: Sequence[Any]) -> list[Any]:
    """Return the cells of a column as JSON can hold them: absent ones as None, infinite ones as text."""
    return list(map(_json_cell, cells))


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None if math.isnan(cell) else str(cell)
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if hasattr(cell, "item"):  # numpy's scalars
        return _json_cell(cell.item())
    text = str(cell)
    return None if text in {"<NA>", "NaT"} else text


def footprint_from_json(text: str) -> Footprint:
    """Return the footprint that :func:`footprint_json` wrote.

    Raises FileFormatError for anything else: no JSON, another schema version, a missing key.
    """
    try:
        (content,) = json.loads(text)
        details = content[DETAILS]
        version = details["schema_version"]
        if version != JSON_SCHEMA_VERSION:
            raise FileFormatError(
                explain(
                    "a footprint of another format",
                    got=f"schema version {version}",
                    expected=JSON_SCHEMA_VERSION,
                )
            )
        return Footprint(
            request=InferenceRequest(**{name: content[name] for name in REQUEST_COLUMNS}),
            n_gpus=details["n_gpus"],
            prefill=_phase(details["prefill"]),
            decode=_phase(details["decode"]),
            total=_phase(details["total"]),
            ttft_s=content["ttft_s"],
            tpot_s=content["tpot_s"],
            latency_s=content["latency_s"],
            energy_per_output_token_j=content["energy_per_output_token_j"],
            energy_per_total_token_j=content["energy_per_total_token_j"],
            carbon=_carbon(details["carbon"]),
            memory_needed_bytes=details["memory_needed_bytes"],
            memory_available_bytes=details["memory_available_bytes"],
            in_domain=content["in_domain"],
            notes=tuple(details["notes"]),
            predictor=details["predictor"],
            precision_by_part=content["precision_by_part"],
            measured_kernel_share=details["measured_kernel_share"],
            ttft_interval_s=_interval(details["ttft_interval_s"]),
            tpot_interval_s=_interval(details["tpot_interval_s"]),
            latency_interval_s=_interval(details["latency_interval_s"]),
            prefill_parts=_parts(details["prefill_parts"]),
            decode_parts=_parts(details["decode_parts"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(
            explain(
                "not a footprint",
                got=f"{type(error).__name__} {error}",
                expected="the JSON that llmco2 predict --format json prints",
            )
        ) from error


def _interval(content: Mapping[str, Any] | None) -> Interval | None:
    return None if content is None else Interval(**content)


def _parts(content: Mapping[str, Any] | None) -> PhaseParts | None:
    return None if content is None else PhaseParts(**content)


def _phase(content: Mapping[str, Any]) -> PhaseEnergy:
    return PhaseEnergy(
        energy_j=content["energy_j"],
        energy_interval_j=Interval(**content["energy_interval_j"]),
        energy_bounds_j=Interval(**content["energy_bounds_j"]),
        time_s=content["time_s"],
        average_power_w=content["average_power_w"],
    )


def _carbon(content: Mapping[str, Any]) -> Carbon:
    return Carbon(
        operational_gco2e=content["operational_gco2e"],
        embodied_gco2e=content["embodied_gco2e"],
        operational_interval_gco2e=Interval(**content["operational_interval_gco2e"]),
        embodied_interval_gco2e=Interval(**content["embodied_interval_gco2e"]),
        facility_energy_kwh=content["facility_energy_kwh"],
        factors=tuple(Factor(**factor) for factor in content["factors"]),
    )
