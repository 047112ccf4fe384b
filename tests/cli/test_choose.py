"""``llmco2 choose`` and its page of documentation: what is printed, exit codes, and that every example runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmco2.decision.describing import rounded_up
from llmco2.decision.figures import FIGURES, LOAD_FIGURES, YEAR_FIGURES
from llmco2.decision.targets import Missed
from llmco2.report.scatter import Point, scatter_lines
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
BASE = ("choose", "Qwen/Qwen3-8B", "--gpu", "H100,L40S", "--engine", "vllm", "--tensor-parallel", "1,2")
TEXT = (Path(__file__).resolve().parents[2] / "docs" / "choosing.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, flags=re.M | re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_answers_with_its_exit_code(llmco2: Run, command: str) -> None:
    _, *argv = shlex.split(command, comments=True)
    outcome = llmco2(*argv)
    assert (outcome.status, outcome.err) == (3 if command.endswith("# exit code 3") else 0, "")
    assert ("No option meets the targets." in outcome.out) == (outcome.status == 3)
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "of them equal to the best" in done.stdout


def test_the_page_names_every_column() -> None:
    assert {*FIGURES, *LOAD_FIGURES, *YEAR_FIGURES} <= set(re.findall(r"`(\w+)`", TEXT))


def test_json_has_the_best_its_equals_and_the_front(llmco2: Run) -> None:
    outcome = llmco2(*BASE, "--batch-size", "1..16", "--max-tpot", "0.02", "--format", "json", "--top", "3")
    answer = json.loads(outcome.out)
    assert answer["best"] == answer["options"][0] == answer["equal_to_best"][0]
    assert len(answer["options"]) == 3
    assert answer["best"]["tpot_s"] <= 0.02
    assert answer["shortfall"] is None
    assert answer["best"] in answer["pareto"]["options"]
    assert sum(answer["n_options"].values()) == 2 * 2 * 5


def test_an_unmet_target_is_an_answer_of_exit_code_3(llmco2: Run) -> None:
    outcome = llmco2(*BASE, "--batch-size", "1..4", "--max-tpot", "0.0001", "--format", "json")
    answer = json.loads(outcome.out)
    assert (outcome.status, outcome.err, answer["best"], answer["pareto"]["options"]) == (3, "", None, [])
    (binding,) = answer["shortfall"]["binding"]
    again = llmco2(*BASE, "--batch-size", "1..4", "--max-tpot", str(binding["nearest"]))
    assert again.status == 0


def test_the_table_says_how_the_rate_is_carried_and_the_year(llmco2: Run) -> None:
    out = " ".join(llmco2(*BASE, "--batch-size", "8,64", "--rate", "12").out.split())
    assert re.search(r"12 requests/s: \d+ x [\d.]+/s, [\d.]+ requests running in each", out)
    assert re.search(r"one replica saturates at [\d.]+ requests/s, so each is at \d+%", out)
    assert re.search(r"A year: \([\d.]+ MWh requests \+ [\d.]+ idle \+ [\d.]+ host\) x PUE", out)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("choose", "Qwen/Qwen3-8B"), "--gpu is missing"),
        ((*BASE, "--max-ttft", "0"), "max_ttft_s is out of range: got 0"),
        ((*BASE, "--rate", "-1"), "requests_per_s is out of range: got -1"),
        ((*BASE, "--rate", "1", "--utilization", "0.5"), "utilization is given beside a rate"),
        ((*BASE, "--objective", "speed"), "invalid choice: 'speed'"),
        ((*BASE, "--top", "0"), "--top is out of range: got 0"),
        ((*BASE, "--serving", "static"), "unknown option: got --serving"),
        ((*BASE, "--precision", "fp99"), "unknown precision"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(llmco2: Run, argv: tuple[str, ...], says: str) -> None:
    outcome = llmco2(*argv)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert says in outcome.err


@pytest.mark.parametrize("nearest", [0.01, 0.0123456, 0.99999, 1.0, 7.0, 7.0012, 1234.5, 3.14e-7])
def test_the_nearest_value_is_rounded_so_that_it_can_be_met(nearest: float) -> None:
    value = rounded_up(Missed(target="max_tpot_s", asked=0.001, nearest=nearest))
    assert nearest <= value <= nearest * 1.011


def test_points_land_where_their_logarithms_lie() -> None:
    points = [Point(1.0, 1.0, "a"), Point(10.0, 10.0, "b"), Point(100.0, 100.0, "c")]
    title, *rows, axis, ends = scatter_lines(points, x_title="x", y_title="y", width=33, height=5)
    assert title == "y"
    assert [row[12:] for row in rows] == ["                    c", "", "          b", "", "a"]
    assert axis.endswith("-" * 21)
    assert ends.split() == ["1.00", "x", "100"]
    (only,) = {
        line[-1]
        for line in scatter_lines(points[:1], x_title="x", y_title="y", width=40)[1:-2]
        if "a" in line
    }
    assert only == "a"
