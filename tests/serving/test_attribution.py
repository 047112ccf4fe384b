"""Joules of a meter are shared out by a stated rule, and the parts add up to the meter."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmco2
from llmco2.errors import InputError
from llmco2.records.request import InferenceRequest
from llmco2.serving.attribution import Attribution, MeterReadings, PhaseCosts, RequestLog, attribute
from llmco2.serving.phase_costs import phase_costs

COSTS = PhaseCosts(prefill_token_j=0.1, decode_step_j=2.0, decode_token_j=0.5, context_token_j=0.001)
PREFILL_ONLY = PhaseCosts(prefill_token_j=1.0, decode_step_j=0.0, decode_token_j=0.0, context_token_j=0.0)
Row = tuple[float, float, float, float, float]  # start, end, first token, prompt, output


def log_of(*rows: Row, cached: float = 0.0) -> RequestLog:
    start, end, first, prompt, output = np.array(rows, dtype=np.float64).reshape(len(rows), 5).T
    return RequestLog(
        start_s=start, end_s=end, first_token_s=first, prompt_tokens=prompt - cached,
        output_tokens=output, context_tokens=prompt,
    )  # fmt: skip


def steady(power_w: float, seconds: float, start_s: float = 0.0) -> MeterReadings:
    t_s = start_s + np.linspace(0.0, seconds, 11)
    return MeterReadings(t_s=t_s, energy_j=7e6 + power_w * (t_s - start_s))


def test_one_request_alone_by_hand() -> None:
    # 10 s at 500 W of which 100 W are idle; it runs from 2 to 8 s, its first token at 3 s
    found = attribute(log_of((2, 8, 3, 1000, 51)), steady(500.0, 10.0), COSTS, 100.0)
    assert found.idle_j[0] == pytest.approx(600.0)
    assert found.prefill_j[0] == pytest.approx(400.0)  # one second, nothing but prefill
    # decoding at 10 tokens/s: the step 20 W, itself 10 × (0.5 + 0.001 × 1025.5) = 15.255 W
    assert found.shared_j[0] == pytest.approx(2000.0 * 20.0 / 35.255)
    assert found.own_j[0] == pytest.approx(2000.0 * 15.255 / 35.255)
    assert (found.unused_idle_j, found.unused_active_j) == (pytest.approx(400.0), pytest.approx(1600.0))
    assert found.total_j == pytest.approx(5000.0)


def test_equal_requests_pay_the_same_and_share_the_weights() -> None:
    rows = [(0.0, 10.0, 1.0, 100.0, 91.0)] * 4
    four = attribute(log_of(*rows), steady(400.0, 10.0), COSTS, 0.0)
    one = attribute(log_of(rows[0]), steady(400.0, 10.0), COSTS, 0.0)
    assert np.allclose(four.energy_j, four.energy_j[0])
    share = four.shared_j[0] / (four.shared_j[0] + four.own_j[0])
    alone = one.shared_j[0] / (one.shared_j[0] + one.own_j[0])
    own_j = 0.5 + 0.001 * (100 + 45.5)
    assert share == pytest.approx((2.0 / 4) / (2.0 / 4 + own_j))
    assert alone == pytest.approx(2.0 / (2.0 + own_j))


def test_a_long_prompt_pays_for_itself_in_prefill_and_in_context() -> None:
    rows = [(0.0, 10.0, 1.0, 100.0, 91.0), (0.0, 10.0, 1.0, 10_000.0, 91.0)]
    found = attribute(log_of(*rows), steady(400.0, 10.0), COSTS, 0.0)
    assert found.prefill_j[1] == pytest.approx(100 * found.prefill_j[0])
    assert found.shared_j[1] == pytest.approx(found.shared_j[0])
    assert found.own_j[1] / found.own_j[0] == pytest.approx((0.5 + 10.0455) / (0.5 + 0.1455))


def test_cached_prompt_tokens_cost_no_prefill_but_are_attended_to() -> None:
    plain = attribute(log_of((0, 10, 1, 1000, 91)), steady(400.0, 10.0), COSTS, 0.0)
    cached = attribute(log_of((0, 10, 1, 1000, 91), cached=1000.0), steady(400.0, 10.0), COSTS, 0.0)
    assert cached.prefill_j[0] == 0.0
    assert cached.own_j[0] == pytest.approx(plain.own_j[0])
    assert cached.idle_j[0] == pytest.approx(plain.prefill_j[0])  # drawn while it only waited: it was held


def test_a_request_that_reaches_over_the_meters_span_pays_for_what_was_metered() -> None:
    found = attribute(log_of((-5, 5, 0, 100, 11), (20, 30, 21, 5, 5)), steady(100.0, 10.0), COSTS, 0.0)
    assert found.energy_j[0] == pytest.approx(500.0)
    assert found.energy_j[1] == 0.0
    assert found.n_outside == 1
    assert found.unused_active_j == pytest.approx(500.0)


def test_without_the_first_tokens_time_both_phases_take_the_whole_request() -> None:
    found = attribute(log_of((0, 10, np.nan, 100, 100)), steady(100.0, 10.0), COSTS, 0.0)
    total_w = 10 * 0.1 + 10 * 2.0 + 10 * (0.5 + 0.001 * 150)
    assert found.prefill_j[0] == pytest.approx(1000.0 * 1.0 / total_w)
    assert found.shared_j[0] == pytest.approx(1000.0 * 20.0 / total_w)


def test_a_failed_request_pays_for_being_held() -> None:
    found = attribute(log_of((0, 10, np.nan, 0, 0)), steady(100.0, 10.0), COSTS, 60.0)
    assert found.energy_j[0] == pytest.approx(1000.0)
    assert found.idle_j[0] == pytest.approx(1000.0)


def parts_of(found: Attribution) -> float:
    return float(found.energy_j.sum()) + found.unused_idle_j + found.unused_active_j


times = st.floats(-20.0, 120.0, allow_nan=False)
requests = st.lists(
    st.tuples(times, st.floats(1e-3, 60.0), st.floats(-0.5, 1.5), st.integers(0, 5000), st.integers(0, 3000)),
    max_size=25,
)
readings = st.lists(st.tuples(st.floats(1e-3, 10.0), st.floats(0.0, 7000.0)), min_size=1, max_size=25)


@settings(max_examples=100, derandomize=True)
@given(requests, readings, st.floats(0.0, 700.0), st.sampled_from([COSTS, PREFILL_ONLY]))
def test_parts_add_up_to_the_meter_and_none_is_negative(
    asked: list[tuple[float, float, float, int, int]],
    read: list[tuple[float, float]],
    idle_w: float,
    costs: PhaseCosts,
) -> None:
    rows = [(start, start + held, start + share * held, p, o) for start, held, share, p, o in asked]
    seconds, joules = np.array([(0.0, 0.0), *read]).T
    meter = MeterReadings(t_s=np.cumsum(seconds), energy_j=np.cumsum(joules))
    found = attribute(log_of(*rows), meter, costs, idle_w)
    assert parts_of(found) == pytest.approx(meter.total_j, rel=1e-9, abs=1e-9)
    least = -1e-9 * max(1.0, meter.total_j)
    for part in (found.idle_j, found.prefill_j, found.shared_j, found.own_j):
        assert np.all(part >= least)
    assert found.unused_idle_j >= 0
    assert found.unused_active_j >= 0


def test_many_requests_over_many_days_still_add_up() -> None:
    rng = np.random.default_rng(3)
    start = 1.7e9 + np.sort(rng.uniform(0, 3 * 86_400, 20_000))
    held = rng.lognormal(2.0, 1.0, 20_000)
    log = RequestLog(
        start_s=start, end_s=start + held, first_token_s=start + 0.1 * held,
        prompt_tokens=rng.integers(1, 8000, 20_000).astype(float),
        output_tokens=rng.integers(1, 2000, 20_000).astype(float),
        context_tokens=np.full(20_000, 4000.0),
    )  # fmt: skip
    t_s = 1.7e9 + np.arange(0.0, 3 * 86_400, 60.0)
    meter = MeterReadings(t_s=t_s, energy_j=np.cumsum(rng.uniform(4e3, 4e4, len(t_s))))
    found = attribute(log, meter, COSTS, 560.0)
    assert parts_of(found) == pytest.approx(meter.total_j, rel=1e-9)


@pytest.mark.parametrize(
    ("t_s", "energy_j", "says"),
    [
        ([0.0], [0.0], "too few readings"),
        ([0.0, 0.0], [0.0, 1.0], "times do not rise"),
        ([0.0, 1.0], [5.0, 1.0], "energy falls"),
    ],
)
def test_a_meter_that_cannot_be_is_refused(t_s: list[float], energy_j: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MeterReadings(t_s=np.array(t_s), energy_j=np.array(energy_j))


def test_a_request_without_time_and_a_negative_cost_are_refused() -> None:
    with pytest.raises(InputError, match="request 2 takes no time"):
        attribute(log_of((0, 1, 0.5, 1, 1), (3, 3, 3, 1, 1)), steady(1.0, 1.0), COSTS, 0.0)
    with pytest.raises(InputError, match="decode_step_j is out of range"):
        replace(COSTS, decode_step_j=-1.0)
    with pytest.raises(InputError, match="idle power"):
        attribute(log_of((0, 1, 0.5, 1, 1)), steady(1.0, 1.0), COSTS, float("nan"))


def test_costs_come_from_the_predictor_and_give_its_step_back() -> None:
    request = InferenceRequest(
        model="meta-llama/Llama-3.1-8B", gpu="H100", batch_size=16, prompt_tokens=1000, output_tokens=200
    )

    def predict(asked: InferenceRequest) -> llmco2.Footprint:
        return llmco2.predict(**asdict(asked))

    costs = phase_costs(request, predict)
    here = predict(replace(request, serving="continuous"))
    step_j = costs.decode_step_j + 16 * (costs.decode_token_j + costs.context_token_j * 1100)
    assert step_j == pytest.approx(here.decode.energy_j / 199, rel=1e-6)
    assert costs.prefill_token_j == pytest.approx(here.prefill.energy_j / 16_000)
    assert costs.decode_step_j > costs.decode_token_j  # an 8B model: the weights outweigh one more sequence
    assert costs.context_token_j > 0
