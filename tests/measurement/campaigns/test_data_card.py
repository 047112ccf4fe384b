"""The card beside the runs states the facts and keeps what a person wrote."""

import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.campaigns.data_card import BEGIN, card_path, write_card
from llmco2.measurement.campaigns.run_log import read_runs
from llmco2.measurement.workloads.workload import WorkloadError
from tests.measurement.campaigns.conftest import batches, campaign_of, run


def test_the_card_states_the_facts_and_keeps_what_a_person_wrote(path, machine):
    machine.faults = {2: WorkloadError("out_of_memory", "too big")}
    run(path, campaign_of(*batches(1, 2)), machine)
    card = write_card(path, read_runs(path))
    assert card == card_path(path) == path.with_suffix(".md")
    text = card.read_text()
    assert "2 rows in `runs.jsonl`: 1 measured, 1 failed" in text
    assert "SIMULATED" in text
    assert "| failures | out_of_memory (1) |" in text
    assert "| driver | 570.1 |" in text
    assert "| parts against whole, % (median, worst) | 0.00, 0.00 |" in text
    card.write_text("Mine.\n" + text.replace("**Known flaws.**", "**Known flaws.** The fan was broken."))
    machine.faults = {}
    run(path, campaign_of(*batches(1, 2, 4)), machine)
    text = write_card(path, read_runs(path)).read_text()
    assert text.startswith("Mine.\n")
    assert "The fan was broken." in text
    assert "3 rows in `runs.jsonl`: 2 measured, 1 failed" in text
    assert text.count(BEGIN) == 1


def test_a_file_that_is_no_card_is_not_overwritten(path):
    card_path(path).write_text("my notes")
    with pytest.raises(MeasurementError, match="is no data card"):
        write_card(path, [])
    assert card_path(path).read_text() == "my notes"
