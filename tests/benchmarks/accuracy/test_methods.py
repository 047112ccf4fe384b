"""Methods are chosen by name; answers from elsewhere and a checkpoint without hosts are read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.baselines.answers_file import read_answers, write_requests
from benchmarks.accuracy.baselines.kernels_alone import checkpoint_without_hosts
from benchmarks.accuracy.methods import METHODS, PRODUCT, answers_of_file, chosen, question
from benchmarks.accuracy.workload import Workload
from llmco2.errors import FileFormatError, InputError, UnknownNameError


def test_methods_are_chosen_by_name() -> None:
    assert [m.name for m in chosen(None, METHODS)] == [m.name for m in METHODS]
    assert [m.name for m in chosen(" ecologits,LLMCO2 ", METHODS)] == [PRODUCT, "EcoLogits"]
    with pytest.raises(UnknownNameError, match="did you mean EcoLogits"):
        chosen("EcoLogit", METHODS)
    with pytest.raises(InputError, match="names nothing"):
        chosen(" , ", METHODS)


def test_answers_of_another_tool_are_read_by_the_number_of_the_request(
    workload: Workload, tmp_path: Path
) -> None:
    path = write_requests(workload, tmp_path / "requests.csv")
    requests = pd.read_csv(path)
    assert requests["request"].tolist() == list(range(len(workload.requests)))
    assert requests["run_id"].tolist() == [f"r{i}" for i in workload.run_of_request]
    answers = requests.loc[[5, 0], ["request"]].assign(tpot_s=[0.5, 0.25], note="x")
    answers.to_csv(tmp_path / "answers.csv", index=False)
    found = read_answers(tmp_path / "answers.csv", workload)
    assert found["tpot_s"].dropna().to_dict() == {0: 0.25, 5: 0.5}
    assert found["energy_j"].isna().all()
    labels = answers_of_file("tool", tmp_path / "answers.csv").predict(question(workload))
    assert labels is not None
    assert labels["predicted"].dropna().tolist() == [
        0.5
    ]  # a static run's label is its latency, the step's its tpot


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tpot_s\n1\n", "holds no answers"),
        ("request,speed\n1,2\n", "holds no answers"),
        ("request,tpot_s\n1,2\n1,3\n", "bad request: got 1"),
        ("request,tpot_s\n99,2\n", "bad request: got 99"),
        ("", "cannot read answers.csv"),
    ],
)
def test_a_foreign_file_of_answers_is_one_clear_line(
    text: str, reason: str, workload: Workload, tmp_path: Path
) -> None:
    (tmp_path / "answers.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FileFormatError, match=reason) as error:
        read_answers(tmp_path / "answers.csv", workload)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_hosts_keeps_its_kernels(tmp_path: Path) -> None:
    source = tmp_path / "own.json"
    source.write_text(
        json.dumps({"name": "own", "hosts": {"vllm": {"step_s": 1e-3}}, "boards": {"CDNA3": 1.7}})
    )
    np.savez(source.with_suffix(".npz"), weight=np.ones(3))
    copy = checkpoint_without_hosts(str(source), tmp_path)
    assert copy is not None
    assert json.loads(copy.read_text()) == {"name": "own", "hosts": {}, "boards": {}}
    assert copy.with_suffix(".npz").read_bytes() == source.with_suffix(".npz").read_bytes()
    source.write_text(json.dumps({"name": "own"}))
    assert checkpoint_without_hosts(str(source), tmp_path) is None


def test_kernels_without_their_host_take_no_longer(workload: Workload) -> None:
    asked = question(workload)
    product, bare = (method.predict(asked) for method in METHODS[:2])
    assert product is not None
    assert bare is not None
    times = (workload.labels["quantity"] == "time").to_numpy()
    ratio = (bare["predicted"] / product["predicted"])[times]
    assert (ratio <= 1.0 + 1e-9).all()
    assert (ratio < 0.999).any()
    assert bare[["low", "high"]].isna().all(axis=None)
