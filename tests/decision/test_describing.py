"""The sentences of a choice, on made-up options."""

from __future__ import annotations

import pandas as pd

from llmco2.decision.choice import Choice
from llmco2.decision.describing import verdict_lines, year_line
from llmco2.decision.ranking import Objective
from llmco2.decision.targets import Missed, Shortfall, Targets

FRONT = ("gco2e_per_million_output_tokens", "tpot_s", "gpus_needed")


def choice(
    energies: list[float], equal: list[bool], shortfall: Shortfall | None = None, **first: object
) -> Choice:
    """Return options of 100 Wh and so on, each with an interval of -20 to +30 %."""
    frame = pd.DataFrame(
        {
            "gpu": ["H100", "B200", "L40S"][: len(energies)],
            "running_requests": 8.0,
            "energy_per_million_output_tokens_wh": energies,
            "energy_relative_low": 0.8,
            "energy_relative_high": 1.3,
            "equal_to_best": equal,
            "surely_meets": True,
            "verdict": "misses" if shortfall else "meets",
        }
    ).assign(**first)
    return Choice(
        frame=frame,
        objective=Objective.ENERGY,
        targets=Targets(),
        requests_per_s=None,
        varied=("gpu", "batch_size"),
        shortfall=shortfall,
        front_columns=FRONT,
    )


def test_the_margin_is_that_to_the_next_and_to_the_first_outside_the_band() -> None:
    assert verdict_lines(choice([1000.0, 1120.0, 2500.0], [True, True, False])) == [
        "Least energy: H100, 8 requests running.",
        "1,000 Wh per million output tokens (90% interval 800 – 1,300); the next option takes 12% more. 1 other option "
        "is equal: within the error band. The first outside it takes 2.5 times that.",
    ]
    assert verdict_lines(choice([1000.0, 1400.0], [True, False]))[1].endswith(
        "the next option takes 40% more, outside the error band."
    )
    assert verdict_lines(choice([1000.0], [True], surely_meets=False))[1:] == [
        "1,000 Wh per million output tokens (90% interval 800 – 1,300); no other option meets the targets.",
        "It meets the targets by the middle of its prediction, not at the slow end of its 90% interval.",
    ]


def test_a_shortfall_names_the_option_that_sets_the_target() -> None:
    tpot = Missed(target="max_tpot_s", asked=0.01, nearest=0.020001)
    gpus = Missed(target="max_gpus", asked=2, nearest=4.0)
    both = Shortfall(binding=(tpot, gpus), alone=False, closest=0)
    assert verdict_lines(choice([1000.0], [False], both)) == [
        "No option meets the targets.",
        "--max-tpot 0.01 binds: a time per output token of 0.0201 s can be met, which is needed with the others.",
        "--max-gpus 2 binds: a number of GPUs of 4 can be met, which is needed with the others.",
        "Closest: H100, 8 requests running.",
    ]
    alone = verdict_lines(choice([1000.0], [False], Shortfall(binding=(tpot, gpus), alone=True, closest=0)))
    assert alone[1].endswith("of 0.0201 s can be met, which would do alone.")
    single = verdict_lines(choice([1000.0], [False], Shortfall(binding=(tpot,), alone=True, closest=0)))
    assert single[1].endswith("of 0.0201 s can be met, which would do.")


def test_the_year_is_a_sum_that_can_be_checked() -> None:
    """(10 + 2 + 3) MWh x 1.2 are 18 MWh; at 50 kg/MWh 0.9 t."""
    year = choice(
        [1000.0], [True], request_energy_per_year_kwh=10e3, idle_energy_per_year_kwh=2e3,
        host_energy_per_year_kwh=3e3, pue=1.2, facility_energy_per_year_kwh=18e3, carbon_intensity_gco2e_per_kwh=50.0,
        operational_per_year_kgco2e=900.0, embodied_per_year_kgco2e=1100.0,
    )  # fmt: skip
    assert year_line(year) == (
        "A year: (10 MWh requests + 2 idle + 3 host) x PUE 1.2 = 18 MWh; x 50 kg/MWh = 0.9 t CO2e, "
        "+ 1.1 t embodied = 2 t."
    )
