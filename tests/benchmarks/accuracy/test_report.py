"""An evaluation ends in tables that agree with each other, and in pictures of the size they promise."""

from __future__ import annotations

import struct
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from benchmarks.accuracy import evaluate as evaluation
from benchmarks.accuracy.evaluate import EvaluationOptions, evaluate
from benchmarks.accuracy.markdown import markdown_table
from benchmarks.accuracy.method import MethodGroup
from benchmarks.accuracy.plots import DOTS_PER_INCH, PICTURE_INCHES
from benchmarks.accuracy.tables import difference, figure, with_interval

TABLES = (
    "accuracy",
    "cases",
    "by_label",
    "levels",
    "by_source",
    "by_decile",
    "by_regime",
    "intervals",
    "splits",
)


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_an_evaluation_writes_tables_and_pictures_that_agree(
    cheap: MethodGroup, calls: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "deep" / "results"
    options = EvaluationOptions(
        runs=None, output=output, folds="board", seeds=2, workers=0, load=lambda: (cheap,)
    )
    cases = evaluate(options, Console(quiet=True))
    tables = {name: pd.read_csv(output / f"{name}.csv") for name in TABLES}
    chosen = tables["splits"]["fold"].str.contains("board")
    assert len(tables["accuracy"]) == 2 * chosen.sum()
    means = tables["accuracy"].groupby(["case", "method"])["mape_percent"].mean()
    for _, row in cases.iterrows():
        assert row["mape_percent"] == pytest.approx(means[row["case"], row["method"]], abs=0.002)
    page = (output / "accuracy.md").read_text(encoding="utf-8")
    assert "Simulated: " in page
    assert "lists." in page
    size = tuple(round(inches * DOTS_PER_INCH) for inches in PICTURE_INCHES)
    for name in ("predicted_versus_measured.png", "error_by_regime.png", "error_by_decile.png"):
        assert f"({name})" in page
        assert png_size(output / name) == size
        assert (output / name).stat().st_size > 10_000
    n_calls = len(calls)
    before = (output / "accuracy.csv").read_bytes()
    monkeypatch.setattr(evaluation, "draw_pictures", lambda *_: {})
    evaluate(options, Console(quiet=True))
    assert len(calls) == n_calls
    assert before == (output / "accuracy.csv").read_bytes()


def test_folds_with_other_rows_are_marked_wherever_they_appear(
    cheap: MethodGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "draw_pictures", lambda *_: {})
    options = EvaluationOptions(
        runs=None, output=tmp_path, folds="board", seeds=1, workers=0, load=lambda: (cheap,)
    )
    evaluate(options, Console(quiet=True))
    committed = tmp_path / "splits.csv"
    lines = committed.read_text(encoding="utf-8").splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("board"))
    lines[place] = lines[place][:-1] + ("0" if lines[place][-1] != "0" else "1")
    committed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "log").open("w"))
    evaluate(options, console)
    console.file.close()
    shown = console.export_text()
    assert "warning: 1 of" in shown
    assert "folds have other rows than" in shown
    page = (tmp_path / "accuracy.md").read_text(encoding="utf-8")
    assert "not comparable with published ones" in page
    assert page.count("| other rows |") == 1
    assert "those whose name contains 'board'" in page


def test_numbers_in_tables() -> None:
    assert figure(float("nan")) == "–"
    assert figure(-3.14159) == "−3.1"
    assert with_interval(5.0, 4.0, 6.04) == "5.0 [4.0, 6.0]"
    row = {"to_formula_points": -2.0, "to_formula_low_points": -3.0, "to_formula_high_points": -1.0}
    assert difference(pd.Series(row)) == "−2.0 [−3.0, −1.0] better"
    assert difference(pd.Series(row | {"to_formula_high_points": 0.5})) == "−2.0 [−3.0, 0.5]"
    assert difference(pd.Series(dict(zip(row, (2.0, 1.0, 3.0), strict=True)))) == "2.0 [1.0, 3.0] worse"
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | --: |\n| x | 1 |\n"
