"""What was learned from runs that no real GPU drew says so in every answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from llmco2 import predict, predict_frame
from llmco2.calibration.calibrate import fit_calibrations, write_calibration
from llmco2.errors import FileFormatError
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.records.run import MeasuredRun

REQUEST = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "gpu": "H100-SXM5-80GB",
    "engine": "vllm",
    "precision": "bf16",
    "batch_size": 8,
    "prompt_tokens": 512,
    "output_tokens": 128,
}


def runs(checkpoint: str, *, simulated: int) -> list[MeasuredRun]:
    """Four runs that took 1.2 times what was predicted; the first ``simulated`` of them were simulated."""
    found = []
    for place, batch in enumerate((1, 4, 8, 16)):
        answer = predict(**{**REQUEST, "batch_size": batch}, checkpoint=checkpoint)
        found.append(
            MeasuredRun(
                run_id=str(place),
                source="test",
                simulated=place < simulated,
                model=REQUEST["model"],
                gpu=REQUEST["gpu"],
                engine="vllm",
                precision="bf16",
                batch_size=float(batch),
                prompt_tokens=512.0,
                output_tokens=128.0,
                energy_j=1.2 * answer.total.energy_j,
                energy_includes="gpu_gross",
                latency_s=answer.latency_s,
            )
        )
    return found


@pytest.mark.parametrize(
    ("simulated", "says"), [(0, None), (3, "SIMULATED: 3 of those runs were drawn by no real GPU")]
)
def test_a_calibration_on_simulated_runs_says_so_in_every_answer(
    tmp_path: Path, random_checkpoint_path: Path, simulated: int, says: str | None
) -> None:
    checkpoint, path = str(random_checkpoint_path), tmp_path / "c.json"
    numbers = load_checkpoint(checkpoint)
    write_calibration(path, fit_calibrations(runs(checkpoint, simulated=simulated), numbers), numbers)
    given = {"checkpoint": checkpoint, "calibration": str(path)}
    notes = predict(**REQUEST, **given).notes
    table = predict_frame(pd.DataFrame([REQUEST]), **given)["notes"][0]
    assert (says in notes) == (says is not None)
    assert ("SIMULATED" in table) == (says is not None)


@pytest.mark.parametrize("count", [-1, 1.5, True, "three"])
def test_a_damaged_count_is_refused(tmp_path: Path, random_checkpoint_path: Path, count: object) -> None:
    checkpoint, path = str(random_checkpoint_path), tmp_path / "c.json"
    numbers = load_checkpoint(checkpoint)
    write_calibration(path, fit_calibrations(runs(checkpoint, simulated=0), numbers), numbers)
    content = json.loads(path.read_text())
    content["entries"][0]["n_simulated"] = count
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="expected a count of runs"):
        predict(**REQUEST, checkpoint=checkpoint, calibration=str(path))


def test_a_checkpoint_trained_on_simulated_runs_says_so_in_every_answer(
    tmp_path: Path, random_checkpoint_path: Path
) -> None:
    content = json.loads(random_checkpoint_path.read_text())
    content["data"] = {"n_runs": 200, "n_simulated": 150}
    path = tmp_path / random_checkpoint_path.name
    path.write_text(json.dumps(content))
    path.with_suffix(".npz").write_bytes(random_checkpoint_path.with_suffix(".npz").read_bytes())
    (note,) = [n for n in predict(**REQUEST, checkpoint=str(path)).notes if n.startswith("SIMULATED")]
    assert note.endswith("was trained on 150 simulated runs of 200: no real GPU drew them")
    table = predict_frame(pd.DataFrame([REQUEST]), checkpoint=str(path))["notes"][0]
    assert note in table
    plain = predict(**REQUEST, checkpoint=str(random_checkpoint_path))
    assert replace(predict(**REQUEST, checkpoint=str(path)), notes=()).total == plain.total
