"""A calibration multiplies what it was fitted on, leaves the rest alone, and is refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmco2.errors import FileFormatError
from llmco2.predictor.api import predict, predict_frame
from llmco2.predictor.calibration import calibration_mismatch, load_calibration
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.predictor.columns import FACTORS

FITTED: dict[str, Any] = {
    "gpu": "H100-SXM5-80GB",
    "engine": "vllm",
    "scales": {"kernel time": 1.3, "dynamic power": 1.2},
    "width_scale": 0.5,
    "n_runs": 5,
}
REQUEST: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B",
    "gpu": "H100-SXM5-80GB",
    "engine": "vllm",
    "batch_size": 4,
}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    return write(
        tmp_path / "calibration.json",
        [FITTED, {**FITTED, "engine": "sglang", "scales": {"kernel time": 2.0}}],
    )


def write(path: Path, entries: object, **head: Any) -> Path:
    path.write_text(
        json.dumps({"format": "llmco2-calibration", "format_version": 1, "entries": entries, **head})
    )
    return path


def test_a_calibration_moves_the_prediction_and_scales_the_interval(calibration: Path) -> None:
    plain = predict(**REQUEST)
    fitted = predict(**REQUEST, calibration=str(calibration))
    assert fitted.total.energy_j > plain.total.energy_j
    assert fitted.notes[-1] == "calibrated with 5 runs of this board and engine"
    assert fitted.notes[:-1] == plain.notes
    assert fitted.in_domain == plain.in_domain
    # The physical lower bound holds whatever was fitted.
    assert fitted.total.energy_bounds_j.low == plain.total.energy_bounds_j.low


def test_every_factor_multiplies_what_its_name_says(tmp_path: Path) -> None:
    plain = predict(**REQUEST)
    fitted = {
        name: predict(
            **REQUEST, calibration=str(write(tmp_path / "c.json", [{**FITTED, "scales": {name: 1.5}}]))
        )
        for name in FACTORS
    }
    kernels, host, prefill, power = (fitted[name] for name in FACTORS)
    assert 1.3 < kernels.latency_s / plain.latency_s < 1.5
    assert 1.0 < host.latency_s / plain.latency_s < 1.3
    assert (kernels.latency_s - plain.latency_s) + (host.latency_s - plain.latency_s) == pytest.approx(
        0.5 * plain.latency_s, rel=1e-3
    )
    assert prefill.ttft_s > plain.ttft_s
    assert prefill.tpot_s == plain.tpot_s
    assert power.latency_s == plain.latency_s
    assert power.total.energy_j > plain.total.energy_j


def test_simulated_runs_are_said_in_every_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", [{**FITTED, "simulated": True}])
    answer = predict(**REQUEST, calibration=str(path))
    said = "calibrated with 5 runs of this board and engine that hold simulated ones: no GPU drew this energy"
    assert answer.notes[-1] == said
    table = predict_frame(pd.DataFrame([REQUEST]), calibration=str(path))
    assert table["notes"][0].endswith(said)


def test_it_is_not_used_elsewhere_and_says_so(calibration: Path) -> None:
    other = {**REQUEST, "gpu": "A100-SXM4-80GB"}
    plain = predict(**other)
    fitted = predict(**other, calibration=str(calibration))
    assert fitted.total == plain.total
    assert fitted.notes[-1] == (
        "the calibration is for H100-SXM5-80GB under vllm, H100-SXM5-80GB under sglang, so it was not used"
    )


def test_a_table_calibrates_each_row_by_its_board_and_engine(calibration: Path) -> None:
    rows = [{**REQUEST, "gpu": gpu, "engine": engine} for gpu in ("H100-SXM5-80GB", "A100-SXM4-80GB", "L40S")
            for engine in ("vllm", "sglang", "hf-eager")] * 3  # fmt: skip
    given: dict[str, Any] = {"calibration": str(calibration)}
    answers = predict_frame(pd.DataFrame(rows), **given)
    for row, (_, answer) in zip(rows, answers.iterrows(), strict=True):
        alone = predict(**row, **given)
        assert answer["energy_j"] == pytest.approx(alone.total.energy_j, rel=1e-6)
        assert answer["energy_high_j"] == pytest.approx(alone.total.energy_interval_j.high, rel=1e-6)
        assert answer["notes"] == "; ".join(alone.notes)


def test_an_identity_changes_nothing_but_the_note(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", [{**FITTED, "scales": {"kernel time": 1.0}, "width_scale": 1.0}])
    plain = predict(**REQUEST)
    fitted = predict(**REQUEST, calibration=str(path))
    assert fitted.total == plain.total


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", [FITTED])
    assert load_calibration(str(path), "H100-SXM5-80GB", "vllm").scales["kernel time"] == 1.3
    write(path, [{**FITTED, "scales": {"kernel time": 1.75}}])
    assert load_calibration(str(path), "H100-SXM5-80GB", "vllm").scales == {"kernel time": 1.75}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "expected a list of entries"),
        ({"a": 1}, "expected a list of entries"),
        ([1], "expected a list of entries"),
        ([{**FITTED, "gpu": None}], "got gpu None, expected a name"),
        (
            [{**FITTED, "scales": {"speed": 1.0}}],
            "expected scales named kernel time, host time, prefill time, dynamic power",
        ),
        (
            [{**FITTED, "scales": [1.0]}],
            "expected scales named kernel time, host time, prefill time, dynamic power",
        ),
        ([{**FITTED, "scales": {"kernel time": "fast"}}], "got kernel time 'fast', expected 0.05 to 20.0"),
        ([{**FITTED, "scales": {"kernel time": True}}], "got kernel time True, expected 0.05 to 20.0"),
        ([{**FITTED, "scales": {"kernel time": float("nan")}}], "got NaN is not a number"),
        ([{**FITTED, "scales": {"kernel time": 1000}}], "got kernel time 1000, expected 0.05 to 20.0"),
        ([{**FITTED, "scales": {"kernel time": 10**400}}], "got a number larger than any float"),
        ([{**FITTED, "simulated": "yes"}], "got simulated 'yes', expected true or false"),
        ([{**FITTED, "width_scale": 0}], "got width_scale 0, expected 0.05 to 20.0"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_damaged_entry_is_refused_in_one_line(entries: object, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", entries)
    with pytest.raises(FileFormatError) as refused:
        predict(**REQUEST, calibration=str(path))
    said = str(refused.value)
    assert said.startswith(f"{path} is no calibration")
    assert reason in said
    assert said.endswith("; write one with llmco2 calibrate")
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": "other"}', b"[" * 100_000])
def test_a_foreign_or_truncated_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"c\.json is no calibration"):
        load_calibration(str(path), "H100-SXM5-80GB", "vllm")


def test_another_version_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="expected format 'llmco2-calibration' 1"):
        load_calibration(
            str(write(tmp_path / "c.json", [FITTED], format_version=2)), "H100-SXM5-80GB", "vllm"
        )
    with pytest.raises(FileFormatError, match=r"none\.json is no calibration: got .*No such file"):
        load_calibration(str(tmp_path / "none.json"), "H100-SXM5-80GB", "vllm")


def test_another_checkpoint_than_the_one_it_was_fitted_on_is_named_in_one_line(tmp_path: Path) -> None:
    own = load_checkpoint(None)
    fitted_on = write(tmp_path / "own.json", [FITTED], checkpoint_sha256=own.sha256)
    other = write(tmp_path / "other.json", [FITTED], checkpoint_sha256="0" * 64)
    plain = predict(**REQUEST, calibration=str(fitted_on))
    warned = predict(**REQUEST, calibration=str(other))
    assert warned.total == plain.total  # said, not refused: the factors may still be of use
    warning = (
        "other.json was fitted on another checkpoint (000000000000) than default "
        f"({own.sha256[:12]}): calibrate again"
    )
    assert warned.notes == (*plain.notes, warning)
    assert calibration_mismatch(str(other), own) == warning
    assert calibration_mismatch(str(fitted_on), own) == ""
    # A file that does not name its checkpoint is used as it is.
    assert calibration_mismatch(str(write(tmp_path / "old.json", [FITTED])), own) == ""
    with pytest.raises(FileFormatError, match="expected a hash as checkpoint_sha256"):
        calibration_mismatch(str(write(tmp_path / "bad.json", [FITTED], checkpoint_sha256=7)), own)


def test_rows_share_one_calibration_object_so_that_a_table_is_answered_in_few_chunks(tmp_path: Path) -> None:
    path = str(write(tmp_path / "c.json", [FITTED], checkpoint_sha256="0" * 64))
    shipped = load_checkpoint(None)
    found = [load_calibration(path, "H100-SXM5-80GB", "vllm", shipped) for _ in range(2)]
    assert found[0] is found[1]
