"""What was learned from runs that no real GPU drew says so in every answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from llmco2 import predict, predict_frame
from llmco2.calibration.calibrate import calibration_text, fit_calibrations
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
    """Twelve runs that took 1.5 times the energy that was predicted; the first ``simulated`` of them were simulated."""
    found = []
    for place, batch in enumerate((1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)):
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
                energy_j=1.5 * answer.total.energy_j,
                energy_includes="gpu_gross",
                latency_s=answer.latency_s,
            )
        )
    return found


@pytest.mark.parametrize(("simulated", "says"), [(0, False), (3, True)])
def test_a_calibration_on_simulated_runs_says_so_in_every_answer(
    tmp_path: Path, random_checkpoint_path: Path, simulated: int, says: bool
) -> None:
    checkpoint, path = str(random_checkpoint_path), tmp_path / "c.json"
    numbers = load_checkpoint(checkpoint)
    path.write_text(
        calibration_text(fit_calibrations(runs(checkpoint, simulated=simulated), numbers), numbers)
    )
    given = {"checkpoint": checkpoint, "calibration": str(path)}
    notes = predict(**REQUEST, **given).notes
    table = predict_frame(pd.DataFrame([REQUEST]), **given)["notes"][0]
    assert any("no GPU drew this energy" in note for note in notes) == says
    assert ("no GPU drew this energy" in table) == says


@pytest.mark.parametrize("origin", [-1, 1.5, None, "three"])
def test_a_damaged_origin_is_refused(tmp_path: Path, random_checkpoint_path: Path, origin: object) -> None:
    checkpoint, path = str(random_checkpoint_path), tmp_path / "c.json"
    numbers = load_checkpoint(checkpoint)
    path.write_text(calibration_text(fit_calibrations(runs(checkpoint, simulated=0), numbers), numbers))
    content = json.loads(path.read_text())
    content["entries"][0]["simulated"] = origin
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="expected true or false"):
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
