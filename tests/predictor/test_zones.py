"""A column ``zone`` gives each row its grid: carbon follows it row by row, energy does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from llmco2.errors import InputError
from llmco2.predictor.api import predict, predict_frame

ONE = {"model": "Qwen/Qwen3-8B", "gpu": "H100-SXM5-80GB", "engine": "vllm"}
CARBON = ["operational_gco2e", "embodied_gco2e"]


def test_each_row_has_the_carbon_of_its_zone_and_an_empty_cell_that_of_the_call() -> None:
    zones = ["FRA", "usa", None, "aws:eu-west-3", ""]
    answers = predict_frame(pd.DataFrame([ONE | {"zone": zone} for zone in zones]), zone="DEU")
    for zone, row in zip(["FRA", "USA", "DEU", "aws:eu-west-3", "DEU"], answers.itertuples(), strict=True):
        carbon = predict(**ONE, zone=zone).carbon
        assert row.operational_gco2e == pytest.approx(carbon.operational_gco2e, rel=1e-6)
        assert row.embodied_gco2e == pytest.approx(carbon.embodied_gco2e, rel=1e-6)
    assert np.ptp(answers["energy_j"]) < 1e-6 * answers["energy_j"].mean()
    assert answers["zone"].iloc[1] == "usa"  # kept as written


def test_a_zone_that_nobody_knows_is_its_row_s_error() -> None:
    answers = predict_frame(pd.DataFrame([ONE | {"zone": "FRA"}, ONE | {"zone": "Atlantis"}]))
    assert answers["error"].iloc[0] == ""
    assert answers["error"].iloc[1].startswith("unknown grid zone: got 'Atlantis'")
    assert answers[CARBON].iloc[1].isna().all()


@pytest.mark.parametrize("requests", ["requests.csv", [ONE], {"model": ["m"], "gpu": ["g"]}, None])
def test_what_is_no_table_is_named(requests: object) -> None:
    with pytest.raises(
        InputError, match=r"no pandas DataFrame: got (str|list|dict|NoneType); pandas\.DataFrame"
    ):
        predict_frame(requests)  # type: ignore[arg-type]


def test_a_slip_in_the_column_s_name_is_no_column_of_one_s_own() -> None:
    with pytest.raises(InputError, match="unknown column: got 'Zone'; did you mean zone"):
        predict_frame(pd.DataFrame([ONE | {"Zone": "FRA"}]))
