"""The model card that ships says what its checkpoint holds, and follows it when the checkpoint is made again."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from benchmarks.release.card import BEGIN, CARD_FILE, END, card_numbers, refreshed_card
from llmco2.errors import InputError
from llmco2.physics.hosts import HOST_CONSTANTS
from llmco2.resources import checkpoint_dir


def shipped() -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((checkpoint_dir() / "default.json").read_text("utf-8"))
    return metadata


def card() -> str:
    return (checkpoint_dir() / CARD_FILE).read_text("utf-8")


def cells(text: str, engine: str) -> list[str]:
    """Return the cells of an engine's row in the first table that has one."""
    (row, *_) = (line for line in text.splitlines() if line.startswith(f"| `{engine}` |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_card_that_ships_agrees_with_the_checkpoint_that_ships() -> None:
    assert refreshed_card(card(), shipped()) == card()


def test_another_checkpoint_changes_the_numbers_and_no_other_line() -> None:
    other = shipped()
    other["hosts"]["vllm"]["step_s"] *= 2.0
    changed = refreshed_card(card(), other)
    pairs = zip(card().splitlines(), changed.splitlines(), strict=True)
    assert [before for before, after in pairs if before != after] == [
        line for line in card().splitlines() if line.startswith("| `vllm` |") and "powertrace" in line
    ]


def test_constants_are_shown_in_their_units() -> None:
    metadata = shipped()
    metadata["hosts"] = {"vllm": {"step_s": 0.0012, "sequence_s": 3.4e-6, "kernel_factor": 1.25}}
    assert cells(card_numbers(metadata), "vllm")[2:] == ["1.20", "3.4", "1.25"]


@pytest.mark.parametrize("constant", HOST_CONSTANTS)
def test_every_constant_of_a_host_has_a_column(constant: str) -> None:
    """But a board's, which belongs to no engine."""
    metadata = copy.deepcopy(shipped())
    metadata["hosts"] = {"vllm": {constant: 0.5}}
    assert len(cells(card_numbers(metadata), "vllm")) == 2 + (constant != "board_factor")


def test_intervals_are_percent_of_the_prediction() -> None:
    metadata = shipped()
    metadata["hosts"] = {}
    metadata["intervals"]["engines"] = {"vllm": {"energy": [-0.6931, 0.6931], "time": [-0.1054, 0.0953]}}
    assert cells(card_numbers(metadata), "vllm")[1:] == ["-50 %", "+100 %", "-10 %", "+10 %"]


@pytest.mark.parametrize("text", ["no marks", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_a_card_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="lacks its marks"):
        refreshed_card(text, shipped())
