"""``python -m benchmarks.accuracy`` writes every result file, and refuses bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy.report import REPORT_FILE
from benchmarks.accuracy.tables import BY_SOURCE, KERNELS, RANKING, SUMMARY
from benchmarks.command_line import EXIT_INPUT, exit_code
from llmco2.data.simulate import SHIPPED_FILE
from llmco2.data.tables import write_runs
from llmco2.resources import datasets_dir
from tests.benchmarks.accuracy.conftest import STATIC, STEADY, run_table

METHODS = "llmco2,EcoLogits,TDP × roofline"


def evaluate(*argv: str) -> int:
    return exit_code(lambda: command.main(argv))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    boards = [("H100-SXM5-80GB", 500.0, 1.0), ("A100-SXM4-80GB", 900.0, 1.0), ("L40S", 800.0, 0.2)]
    rows = [{**STATIC, "gpu": gpu, "energy_j": energy, "weight": weight} for gpu, energy, weight in boards]
    return write_runs(run_table(*rows, STEADY), tmp_path_factory.mktemp("runs") / "runs.csv")


def test_the_results_are_written_and_agree_with_each_other(runs: Path, tmp_path: Path) -> None:
    (tmp_path / KERNELS).write_text(
        "kind,held_out,method,rows,median_percent,mean_percent,p90_percent,bias_percent\n"
        "gemm,L40S,learnt kernel,1200,12.34,20,40,-3\n"
    )
    assert evaluate("--runs", str(runs), "--output", str(tmp_path), "--methods", METHODS) == 0
    summary = pd.read_csv(tmp_path / SUMMARY).set_index(["quantity", "method"])
    assert set(summary.loc["energy"].index) == set(METHODS.split(","))
    assert summary.loc[("energy", "llmco2"), "labels"] == 3  # the run that is trusted less is not in it
    by_source = pd.read_csv(tmp_path / BY_SOURCE)
    apart = by_source[(by_source["method"] == "llmco2") & (by_source["quantity"] == "energy")]
    assert apart["labels"].sum() == 4
    assert apart.loc[~apart["trusted"], "labels"].tolist() == [1]
    ranking = pd.read_csv(tmp_path / RANKING)
    assert ranking.loc[ranking["method"] == "llmco2", "decisions"].tolist() == [1, 1]
    text = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert f"| llmco2 | 3 | {summary.loc[('energy', 'llmco2'), 'mape_percent']:.1f} [" in text
    assert "| gemm | L40S | learnt kernel | 1,200 | 12.3 |" in text
    assert "made_up (trusted less)" in text
    pictures = [line.split("(")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert pictures == ["predicted_energy.png", "predicted_time.png", "predicted_power.png", "methods.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_requests_are_written_for_another_tool(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "requests.csv"
    assert (
        evaluate("--runs", str(runs), "--output", str(tmp_path / "r"), "--write-requests", str(target)) == 0
    )
    assert len(pd.read_csv(target)) == 5
    assert capsys.readouterr().out.strip() == str(target)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--output", "{runs}"], "--output is no folder"),
        (["--methods", "formulae"], "unknown method"),
        (["--answers", "AIC"], "bad --answers: got AIC"),
        (["--answers", "AIC=nowhere.csv"], "bad --answers"),
        (["--runs", "nowhere"], "no such runs: got nowhere"),
        (["--runs", str(datasets_dir() / SHIPPED_FILE)], "simulated"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], reason: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option.format(runs=runs) for option in options]
    output = [] if "--output" in options else ["--output", str(tmp_path / "results")]
    assert evaluate("--runs", str(runs), *output, *given) == EXIT_INPUT
    found = capsys.readouterr()
    assert found.out == ""
    assert reason in found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_runs_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        evaluate()
    assert left.value.code == EXIT_INPUT
    assert "--runs" in capsys.readouterr().err
