"""JSON and CSV: the columns that scripts rely on, exact values, and the way back."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from llmco2.errors import FileFormatError
from llmco2.records.columns import ANSWER_COLUMNS, FRAME_COLUMNS, RESOLVED_COLUMNS
from llmco2.records.footprint import Footprint
from llmco2.records.request import REQUEST_COLUMNS
from llmco2.report.csv_format import footprint_csv
from llmco2.report.json_format import footprint_from_json, footprint_json
from llmco2.report.rows import footprint_row

PROMISED = (
    "model gpu tensor_parallel pipeline_parallel expert_parallel engine precision kv_precision batch_size "
    "prompt_tokens output_tokens serving prefill_energy_j decode_energy_j energy_j energy_low_j "
    "energy_high_j energy_lower_bound_j energy_upper_bound_j energy_per_output_token_j "
    "energy_per_total_token_j ttft_s tpot_s latency_s ttft_low_s ttft_high_s tpot_low_s tpot_high_s "
    "latency_low_s latency_high_s average_power_w operational_gco2e embodied_gco2e "
    "in_domain notes error resolved_model resolved_gpu resolved_n_gpus resolved_engine resolved_precision "
    "resolved_kv_precision precision_by_part"
)


def test_the_columns_are_the_promised_ones_in_their_order() -> None:
    assert PROMISED.split() == list(FRAME_COLUMNS)
    assert FRAME_COLUMNS == REQUEST_COLUMNS + ANSWER_COLUMNS + RESOLVED_COLUMNS


def test_a_row_carries_each_figure_under_its_own_name(footprint: Footprint) -> None:
    row = footprint_row(footprint)
    assert tuple(row) == FRAME_COLUMNS
    expected = {
        "prefill_energy_j": 64.0,
        "decode_energy_j": 1136.0,
        "energy_j": 1200.0,
        "energy_low_j": 960.0,
        "energy_high_j": 1470.0,
        "energy_lower_bound_j": 320.0,
        "energy_upper_bound_j": 3574.4,
        "energy_per_output_token_j": 0.5859375,
        "energy_per_total_token_j": 0.1953125,
        "ttft_s": 0.08,
        "tpot_s": 0.0090625,
        "latency_s": 2.4,
        "average_power_w": 500.0,
        "operational_gco2e": 0.0236,
        "embodied_gco2e": 0.0118,
        "in_domain": True,
        "tensor_parallel": 2,
        "error": None,
        "resolved_gpu": "H100-SXM5-80GB",
        "resolved_n_gpus": 2,
        "precision_by_part": "weights bf16, KV bf16",
    }
    assert {name: row[name] for name in expected} == expected


def test_json_has_the_flat_columns_first_and_reads_back_equal(footprint: Footprint) -> None:
    text = footprint_json(footprint)
    (content,) = json.loads(text)
    assert list(content) == [*FRAME_COLUMNS, "details"]
    assert content["details"]["carbon"]["factors"][0]["source"] == "FRA (France): Electricity Review"
    assert content["details"]["carbon"]["total_gco2e"] == pytest.approx(0.0354)
    assert footprint_from_json(text) == footprint


def test_json_keeps_an_answer_from_outside_the_domain(footprint: Footprint) -> None:
    outside = dataclasses.replace(footprint, in_domain=False, notes=("outside: é; ü", "second"))
    text = footprint_json(outside)
    assert json.loads(text)[0]["notes"] == "outside: é; ü; second"
    assert footprint_from_json(text) == outside


def _other_version(text: str) -> str:
    return text.replace('"schema_version": 2', '"schema_version": 99')


def _without(key: str) -> Callable[[str], str]:
    def drop(text: str) -> str:
        content: list[dict[str, Any]] = json.loads(text)
        del content[0]["details"][key]
        return json.dumps(content)

    return drop


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-40], "not a footprint"),
        (lambda text: "[]", "not a footprint"),
        (lambda text: "[{}]", "not a footprint: got KeyError 'details'"),
        (lambda text: "{}", "not a footprint: got ValueError"),
        (lambda text: "[" * 100_000, "not a footprint"),
        (_other_version, "got schema version 99, expected 2"),
        (_without("prefill"), "got KeyError 'prefill'"),
    ],
)
def test_a_damaged_or_foreign_text_is_refused_in_one_line(
    footprint: Footprint, damage: Callable[[str], str], says: str
) -> None:
    with pytest.raises(FileFormatError) as caught:
        footprint_from_json(damage(footprint_json(footprint)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_is_a_header_and_one_row(footprint: Footprint) -> None:
    note = 'a comma, a "quote"'
    rows = list(csv.DictReader(io.StringIO(footprint_csv(dataclasses.replace(footprint, notes=(note,))))))
    assert len(rows) == 1
    assert tuple(rows[0]) == FRAME_COLUMNS
    assert float(rows[0]["energy_j"]) == 1200.0
    assert rows[0]["notes"] == note
    assert rows[0]["error"] == ""
