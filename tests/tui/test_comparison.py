"""Predicted and measured are sums over the same batches, and grams follow the zone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.errors import UnknownNameError
from llmco2.records.footprint import Interval
from llmco2_tui.comparison import ABOVE, BELOW, INSIDE, Comparison, Quantity, compare
from llmco2_tui.grid import GridAccount, age_years
from llmco2_tui.measured import DECODE, PREFILL, WHOLE, compacted

from .conftest import DECODE_J, PREFILL_J, REQUEST, TODAY, account, entry, find_zone, fixed_factors, footprint

ANSWERS = {REQUEST: footprint(REQUEST)}


def rows(view: Comparison) -> dict[str, tuple[float, float | None]]:
    return {row.phase: (row.energy.predicted, row.energy.measured) for row in view.rows}


def test_two_batches_by_hand() -> None:
    entries = [entry(PREFILL, 1.0, 150.0, batches=2.0), entry(DECODE, 2.0, 1200.0, batches=2.0)]
    view = compare(REQUEST, entries, ANSWERS, account("FRA"))
    assert rows(view) == {
        "prefill": (2 * PREFILL_J, 150.0),
        "decode": (2 * DECODE_J, 1200.0),
        "total": (2 * (PREFILL_J + DECODE_J), 1350.0),
    }
    total = view.total
    assert total is not None
    assert total.energy.error_percent == pytest.approx(100 * (1400 - 1350) / 1350)
    assert total.energy.low == pytest.approx(1400 * 0.75)
    # 1350 J × 1.2 / 3.6e6 kWh × 48 g/kWh
    assert total.carbon is not None
    assert total.carbon.measured == pytest.approx(0.0216)
    assert total.output_tokens == 2 * 8 * 256
    assert total.energy_per_token.measured == pytest.approx(1350 / 4096)
    assert view.batches == 2.0
    assert view.verdict.startswith("INSIDE")


def test_per_token_adds_up_though_phases_were_measured_over_different_numbers_of_batches() -> None:
    entries = [entry(PREFILL, 1.0, 700.0, batches=10.0), entry(DECODE, 2.0, 600.0)]
    total = compare(REQUEST, entries, ANSWERS, account("FRA")).total
    assert total is not None
    assert total.energy_per_token.measured == pytest.approx(70.0 / 2048 + 600.0 / 2048)


@pytest.mark.parametrize(("measured_j", "word"), [(2000.0, "above"), (100.0, "below")])
def test_a_measurement_that_leaves_the_interval_is_said(measured_j: float, word: str) -> None:
    view = compare(REQUEST, [entry(DECODE, 1.0, measured_j)], ANSWERS, account("FRA"))
    assert view.verdict.startswith(f"OUTSIDE the 90 % interval: measured {word} it")


def test_the_interval_includes_its_ends() -> None:
    quantity = Quantity(predicted=10.0, low=8.0, high=12.0)
    assert [replace(quantity, measured=value).place for value in (8.0, 12.0, 7.9, 12.1)] == [
        INSIDE,
        INSIDE,
        BELOW,
        ABOVE,
    ]


@given(st.lists(st.tuples(st.sampled_from((PREFILL, DECODE)), st.floats(1.0, 1e5)), min_size=1, max_size=30))
def test_the_chart_ends_where_the_table_does(parts: list[tuple[str, float]]) -> None:
    entries = [entry(name, float(place), joules) for place, (name, joules) in enumerate(parts)]
    view = compare(REQUEST, entries, ANSWERS, account("FRA"))
    assert view.total is not None
    assert view.points[-1].measured_j == pytest.approx(view.total.energy.measured)
    assert view.points[-1].predicted_j == pytest.approx(view.total.energy.predicted)
    assert all(a.measured_j <= b.measured_j for a, b in zip(view.points, view.points[1:], strict=False))


def test_every_gram_follows_the_zone() -> None:
    entries = [entry(PREFILL, 1.0, 75.0), entry(DECODE, 2.0, 600.0)]
    france = compare(REQUEST, entries, ANSWERS, account("FRA"))
    poland = compare(REQUEST, entries, ANSWERS, account("POL"))
    for here, there in zip(france.rows, poland.rows, strict=True):
        assert here.carbon is not None
        assert there.carbon is not None
        assert here.energy == there.energy
        for name in ("predicted", "low", "high", "measured"):
            assert getattr(there.carbon, name) == pytest.approx(15.0 * getattr(here.carbon, name))


def test_one_predicted_batch_stands_alone_before_anything_is_measured() -> None:
    view = compare(REQUEST, [], ANSWERS, account("FRA"))
    assert rows(view) == {"prefill": (70.0, None), "decode": (630.0, None), "total": (700.0, None)}
    assert view.verdict == "nothing measured yet"
    assert view.batches == 0.0


def test_no_prediction_says_why_and_a_foreign_request_is_left_out() -> None:
    other = replace(REQUEST, batch_size=64)
    assert compare(other, [], {other: "it does not fit"}, account("FRA")).why_not == "it does not fit"
    entries = [entry(DECODE, 1.0, 600.0), replace(entry(DECODE, 2.0, 9999.0), request=other)]
    view = compare(REQUEST, entries, {**ANSWERS, other: "it does not fit"}, account("FRA"))
    assert rows(view)["total"] == (DECODE_J, 600.0)
    assert (view.unpredicted, view.others) == (0, 1)
    together = [replace(found, group="a server") for found in entries]
    view = compare(REQUEST, together, {**ANSWERS, other: "it does not fit"}, account("FRA"))
    assert (view.unpredicted, view.others) == (1, 0)
    assert compare(REQUEST, [], {}, account("FRA")).waiting


def test_a_batch_measured_as_a_whole_has_no_phases() -> None:
    view = compare(REQUEST, [entry(WHOLE, 1.0, 800.0)], ANSWERS, account("FRA"))
    assert rows(view) == {"total": (700.0, 800.0)}


def test_compacting_keeps_every_sum() -> None:
    entries = [entry((PREFILL, DECODE)[n % 2], float(n), 1.0 + n, batches=2.0) for n in range(5000)]
    small = compacted(compacted(entries))
    assert len(small) < len(entries)
    for name in ("energy_j", "time_s", "batches"):
        assert sum(getattr(e, name) for e in small) == pytest.approx(sum(getattr(e, name) for e in entries))


def test_a_figure_is_stale_after_two_years() -> None:
    assert age_years("2019", TODAY) == 7
    assert age_years("Ember 2023, tabulated 2025", TODAY) == 1
    assert age_years("a release without a year", TODAY) is None
    assert account("POL").view.stale
    assert not account("FRA").view.stale


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="FRA"):
        GridAccount("FRAA", today=TODAY, find_zone=find_zone, resolve=fixed_factors)


def test_embodied_is_a_share_by_time() -> None:
    # 876.6 kg over 5 years × 8766 h × half use = 21915 h: 40 g an hour
    assert account("FRA").embodied_g("any", 3600.0, 1) == pytest.approx(40.0)


def test_the_total_has_the_predictors_own_interval_where_phases_are_whole_batches() -> None:
    both = replace(footprint(REQUEST).total, energy_interval_j=Interval(low=650.0, high=750.0))
    narrow = replace(footprint(REQUEST), total=both)
    paired = [entry(PREFILL, 1.0, 75.0, batches=3.0), entry(DECODE, 2.0, 600.0, batches=3.0)]
    total = compare(REQUEST, paired, {REQUEST: narrow}, account("FRA")).total
    assert total is not None
    assert (total.energy.low, total.energy.high) == (1950.0, 2250.0)
    alone = compare(REQUEST, paired[:1], {REQUEST: narrow}, account("FRA")).total
    assert alone is not None
    assert (alone.energy.low, alone.energy.high) == (3 * PREFILL_J * 0.75, 3 * PREFILL_J * 1.25)
