"""``--explain`` and JSON say where an answer's time and energy go, in parts that add up to it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from llmco2.cli.main import main

REQUEST = ["predict", "Qwen/Qwen3-30B-A3B", "--gpu", "H100", "--tensor-parallel", "2", "--engine", "vllm"]


def test_json_has_the_parts_of_both_phases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REQUEST, "--format", "json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    details = answer["details"]
    for phase in ("prefill", "decode"):
        parts = details[f"{phase}_parts"]
        assert sum(parts["energy_j"].values()) == pytest.approx(details[phase]["energy_j"], rel=1e-9)
        assert sum(parts["time_s"].values()) == pytest.approx(details[phase]["time_s"], rel=1e-9)
        assert parts["time_s"]["communication"] > 0.0  # two GPUs reduce every layer
    assert answer["tpot_low_s"] < answer["tpot_s"] < answer["tpot_high_s"]


def test_explain_adds_a_table_and_its_absence_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(REQUEST) == 0
    plain = capsys.readouterr().out
    assert main([*REQUEST, "--explain"]) == 0
    explained = capsys.readouterr().out
    assert explained.startswith(plain)
    added = explained.removeprefix(plain)
    for part in ("experts", "attention", "communication", "host", "weights", "idle in host"):
        assert part in added
    assert all(len(line) <= 80 for line in explained.splitlines())


def test_twins_answer_alike() -> None:
    """bf16 and fp16 have equal bytes and rates, so they have one answer, in a process of their own each."""
    energies = set()
    for precision in ("bf16", "fp16"):
        command = [
            sys.executable,
            "-m",
            "llmco2.cli.main",
            *REQUEST,
            "--precision",
            precision,
            "--format",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        energies.add(json.loads(done.stdout)[0]["energy_j"])
    assert len(energies) == 1
