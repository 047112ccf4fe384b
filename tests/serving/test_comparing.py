"""Predicted and measured are of the same tokens and seconds, and what is not known is said, not guessed."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmco2
from llmco2.carbon.factors import resolve_factors
from llmco2.errors import InputError
from llmco2.records.footprint import Footprint, PhaseEnergy
from llmco2.records.footprint import Interval as Range
from llmco2.records.request import InferenceRequest
from llmco2.serving import sample as q
from llmco2.serving.comparing import compare_interval, operational_gco2e, predict_energy
from llmco2.serving.interval import Interval
from llmco2.serving.reading import read_sample
from llmco2.serving.sample import Histogram
from llmco2.serving.workload import Deployment, Workload, decode_seconds, on_grid, running_requests, workload
from tests.serving.conftest import page

SERVED = Deployment(
    model="meta-llama/Llama-3.1-8B", gpu="H100-SXM5-80GB", engine="vllm-0.11", idle_power_w=70.0
)
NEWEST = read_sample(page("vllm_0_32"), 100.0)


def itl(seconds: float, tokens: float) -> Histogram:
    return Histogram(series="itl", total=seconds, count=tokens)


def busy(**changes: object) -> Interval:
    """Ten seconds in which 8 requests ran together, 40 finished, each of 200 prompt and 100 output tokens."""
    counts = {q.PROMPT_TOKENS: 8000.0, q.GENERATION_TOKENS: 4000.0, q.FINISHED_REQUESTS: 40.0}
    base = Interval(start_s=0.0, end_s=10.0, counts=counts, running=8.0, energy_j=5000.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def work_of(short: Interval, deployment: Deployment = SERVED) -> Workload:
    found = workload(short, short, NEWEST, deployment)
    assert isinstance(found, Workload), found
    return found


def test_the_work_of_an_interval_holds_its_tokens() -> None:
    work = work_of(busy())
    request = work.request
    assert request.serving == "continuous"
    assert request.batch_size == pytest.approx(8, rel=0.021)
    assert request.prompt_tokens == pytest.approx(200, rel=0.021)
    assert request.output_tokens == pytest.approx(100, rel=0.021)
    assert work.prefill_batches * request.batch_size * request.prompt_tokens == pytest.approx(8000)
    assert work.decode_batches * request.batch_size * request.output_tokens == pytest.approx(4000)
    assert work.idle_s == 0.0


def test_cached_prompt_tokens_are_not_prefilled_but_keep_the_prompt_long() -> None:
    cached = busy(counts={**busy().counts, q.CACHED_PROMPT_TOKENS: 6000.0})
    work, plain = work_of(cached), work_of(busy())
    assert work.request == plain.request
    assert work.prefill_batches == pytest.approx(plain.prefill_batches / 4)


def test_replicas_share_the_running_requests() -> None:
    work = work_of(busy(), replace(SERVED, replicas=2, tensor_parallel=2))
    assert work.request.batch_size == pytest.approx(4, rel=0.021)
    assert work.n_gpus == 4


def test_request_seconds_correct_a_gauge_that_looked_at_quiet_moments() -> None:
    quiet = busy(running=1.0, histograms={q.ITL: itl(60.0, 4000)})
    assert running_requests(quiet) == 6.0
    assert running_requests(busy(running=None, histograms={q.ITL: itl(60.0, 4000)})) == 6.0
    assert running_requests(busy(running=None)) is None


def test_idle_time_is_what_decoding_does_not_fill() -> None:
    light = busy(
        running=2.0, histograms={q.ITL: itl(6.0, 400)}
    )  # 6 request-seconds by two at a time: 3 s of 10
    assert decode_seconds(light, 2.0) == 3.0
    assert work_of(light).idle_s == 7.0
    assert decode_seconds(busy(counts={q.DECODE_SECONDS: 4.0}), 8.0) == 4.0
    assert decode_seconds(busy(counts={q.GENERATION_TOKENS: 0.0}), 8.0) == 0.0


@pytest.mark.parametrize(
    ("short", "says"),
    [
        (busy(counts={q.PROMPT_TOKENS: 1.0}), "no count of generated tokens"),
        (busy(counts={q.GENERATION_TOKENS: 1.0}), "no count of prompt tokens"),
        (busy(running=None), "neither running requests nor the time between tokens"),
    ],
)
def test_what_an_engine_does_not_tell_is_the_reason(short: Interval, says: str) -> None:
    reason = workload(short, short, NEWEST, SERVED)
    assert isinstance(reason, str)
    assert says in reason


def test_lengths_come_from_finished_requests_then_from_the_engines_life() -> None:
    none_finished = busy(counts={q.PROMPT_TOKENS: 10.0, q.GENERATION_TOKENS: 900.0, q.FINISHED_REQUESTS: 0.0})
    found = work_of(none_finished)  # the page: 10 requests of 200 and 100 tokens since it started
    assert found.request.output_tokens == pytest.approx(100, rel=0.021)
    assert found.notes == ("request lengths are means over the engine's life: too few finished since",)
    fresh = read_sample(page("vllm_0_32").replace(b"} 10.0", b"} 0.0"), 0.0)
    assert workload(none_finished, none_finished, fresh, SERVED) == (
        "no request has finished yet, so their lengths are not known"
    )


def test_an_engine_without_requests_is_asked_for_lengths_or_they_are_assumed_aloud() -> None:
    newest = read_sample(page("llamacpp"), 0.0)
    short = busy(counts={q.COMPUTED_PROMPT_TOKENS: 400.0, q.GENERATION_TOKENS: 1000.0})
    assumed = workload(short, short, newest, SERVED)
    given_it = workload(short, short, newest, replace(SERVED, output_tokens=300.0))
    assert isinstance(assumed, Workload)
    assert isinstance(given_it, Workload)
    assert assumed.notes == ("llamacpp counts no requests: 129 output tokens a request, assumed",)
    assert given_it.notes == ("llamacpp counts no requests: 300 output tokens a request, as given",)
    ratio = given_it.request.prompt_tokens / given_it.request.output_tokens
    assert ratio == pytest.approx((1234570 + 201344) / 987654, rel=0.045)


def test_speculation_is_predicted_where_the_predictor_knows_it_and_named_where_not() -> None:
    drafting = busy(counts={**busy().counts, q.DRAFT_TOKENS: 500.0, q.ACCEPTED_TOKENS: 300.0})
    assert work_of(drafting).request.engine == "vllm-speculative"
    newest = read_sample(page("sglang_0_5"), 0.0)
    other = workload(drafting, drafting, newest, replace(SERVED, engine="sglang"))
    assert isinstance(other, Workload)
    assert other.notes == ("speculative decoding is on, and the prediction leaves it out",)


@given(st.floats(1.0, 1e6))
def test_the_grid_of_requests_is_two_percent_fine(value: float) -> None:
    assert on_grid(value, 1e7) == pytest.approx(value, rel=0.0205)
    assert on_grid(on_grid(value, 1e7), 1e7) == on_grid(value, 1e7)


def phase(energy_j: float, time_s: float) -> PhaseEnergy:
    return PhaseEnergy(
        energy_j=energy_j,
        energy_interval_j=Range(low=0.5 * energy_j, high=2.0 * energy_j),
        energy_bounds_j=Range(low=0.0, high=1e9),
        time_s=time_s,
        average_power_w=energy_j / time_s,
    )


def test_each_phase_scales_with_its_own_tokens_and_idle_stands_apart() -> None:
    real = llmco2.predict(
        model=SERVED.model, gpu=SERVED.gpu, batch_size=8, prompt_tokens=200, output_tokens=100
    )
    footprint = replace(real, prefill=phase(10.0, 0.1), decode=phase(90.0, 0.9), total=phase(100.0, 1.0))
    work = Workload(request=real.request, prefill_batches=3.0, decode_batches=5.0, idle_s=4.0, n_gpus=1)
    found = predict_energy(work, footprint, 10.0, 70.0)
    assert (found.prefill_j, found.decode_j) == (30.0, 450.0)
    assert found.idle_j == pytest.approx((4.0 - 0.3) * 70.0)
    assert found.low_j == pytest.approx(240.0 + found.idle_j)
    assert found.high_j == pytest.approx(960.0 + found.idle_j)
    assert predict_energy(work, footprint, 10.0, None).idle_j == 0.0


def predict(request: InferenceRequest) -> Footprint:
    return llmco2.predict(**asdict(request))


def test_predicted_and_measured_stand_beside_each_other_with_their_grams() -> None:
    factors = resolve_factors(SERVED.gpu, zone="FRA")
    found = compare_interval(busy(), work_of(busy()), predict, n_gpus=1, idle_power_w=70.0, factors=factors)
    assert found.predicted is not None
    footprint = predict(found.workload.request)  # type: ignore[union-attr]
    work = found.workload
    assert work is not None
    expected = (
        work.prefill_batches * footprint.prefill.energy_j + work.decode_batches * footprint.decode.energy_j
    )
    assert found.predicted.prefill_j + found.predicted.decode_j == pytest.approx(expected)
    assert found.error_percent == pytest.approx(100 * (found.predicted.energy_j / 5000.0 - 1))
    assert found.joules_per_output_token == 5000.0 / 4000
    assert found.joules_per_total_token == 5000.0 / 12000
    grams = operational_gco2e(5000.0, 10.0, 1, factors)
    host_j = factors.host_power.value * 10.0
    kwh = (5000.0 + host_j) * factors.pue.value / 3.6e6
    assert grams == pytest.approx(kwh * factors.carbon_intensity.value)
    assert found.gco2e_per_1k_tokens == pytest.approx(grams / 4)


def test_a_request_that_cannot_be_predicted_leaves_its_reason_and_the_measurement() -> None:
    def refuse(request: InferenceRequest) -> Footprint:
        raise InputError("unknown model: got 'x'")

    found = compare_interval(busy(), work_of(busy()), refuse, n_gpus=1, idle_power_w=None, factors=None)
    assert (found.predicted, found.why_not, found.measured_j) == (None, "unknown model: got 'x'", 5000.0)
    assert found.error_percent is None
    assert found.measured_gco2e is None


def test_nothing_measured_is_no_figure_per_token() -> None:
    found = compare_interval(
        busy(energy_j=None), "no reason", predict, n_gpus=1, idle_power_w=None, factors=None
    )
    assert (found.joules_per_output_token, found.gco2e_per_1k_tokens, found.error_percent) == (
        None,
        None,
        None,
    )
    empty = compare_interval(
        busy(counts={q.GENERATION_TOKENS: 0.0}), "idle", predict, n_gpus=1, idle_power_w=None, factors=None
    )
    assert empty.joules_per_output_token is None
