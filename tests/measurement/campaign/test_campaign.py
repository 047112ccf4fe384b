"""A campaign goes on past every failure, resumes where it stopped, and never mixes simulated with real."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from llmco2.errors import DoesNotFitError, InputError, MeasurementError
from llmco2.measurement.acquisition import choose_next, novelty
from llmco2.measurement.campaign import Tools, run_campaign
from llmco2.measurement.campaign_file import Campaign, Focus
from llmco2.measurement.configuration import RunConfiguration
from llmco2.measurement.data_card import BEGIN, card_path, write_card
from llmco2.measurement.phases import MeasurePlan
from llmco2.measurement.run_log import RunLog, read_runs
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts
from llmco2.records.run import MeasuredRun

TOKEN_J, TOKEN_S = 0.01, 0.0005
STEP_J, STEP_S = 2.0, 0.02
MEASURED = [
    "prefill_energy_j",
    "prefill_energy_std_j",
    "decode_energy_j",
    "decode_energy_std_j",
    "energy_j",
    "energy_std_j",
    "ttft_s",
    "tpot_s",
    "latency_s",
    "average_power_w",
    "host_energy_j",
    "repeats",
    "window_s",
    "integrated_energy_j",
    "notes",
]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class TokenWorkload:
    """Costs a fixed energy per prompt token and per decode step; fails as its configuration's seed says."""

    decodes_alone = True

    def __init__(self, configuration, meter, faults, loads):
        self.c, self.meter, self.fault = configuration, meter, faults.get(configuration.batch_size)
        loads.append(configuration)
        self.loads = loads
        self.closed = False
        self.facts = WorkloadFacts(
            engine_version="engine 1.0",
            attention_backend="sdpa",
            cuda_graphs=False,
            flags=("cache_copied",),
            notes=("n",),
        )

    def load(self):
        if isinstance(self.fault, BaseException):
            raise self.fault
        if self.fault == "lost":
            self.meter.lost = True

    def prefill(self, repeats):
        tokens = self.c.prompt_tokens * repeats
        self.meter.spend(TOKEN_J * tokens, TOKEN_S * tokens)
        return ()

    def decode(self, repeats):
        steps = (self.c.output_tokens - 1) * repeats
        self.meter.spend(STEP_J * steps, STEP_S * steps)

    def whole(self, repeats):
        self.prefill(repeats)
        self.decode(repeats)
        return ()

    def step_time_batch1_s(self):
        return STEP_S

    def close(self):
        self.closed = True


@pytest.fixture
def rig(formula_meter):
    class Rig:
        def __init__(self):
            self.meters, self.loads, self.faults = [], [], {}
            self.shared = False
            self.fits = lambda configuration, gpu, memory_bytes: None
            self.scores = None
            self.device_name = "NVIDIA H100 80GB HBM3"
            self.simulated = True

        def tools(self):
            return Tools(
                open_meter=self.open_meter,
                make_workload=lambda c, meter: TokenWorkload(c, meter, self.faults, self.loads),
                gpu_name=lambda name: "H100-SXM5-80GB" if "H100" in name else name,
                idle_power_w=lambda meter, bare: 70.0 if bare else 115.0,
                check_memory=self.fits,
                scores=self.scores,
                now=lambda: NOW,
            )

        def open_meter(self, gpus):
            if gpus > 2:
                raise InputError("too few GPUs: got 2")
            self.meters.append(formula_meter(devices=gpus, shared=self.shared, name=self.device_name))
            self.meters[-1].simulated = self.simulated
            return self.meters[-1]

    return Rig()


def campaign_of(*configurations, focus=None):
    return Campaign(name="test", configurations=configurations, focus=focus, plan=MeasurePlan())


def batches(*sizes):
    return [
        RunConfiguration(model="m", batch_size=size, prompt_tokens=100, output_tokens=11) for size in sizes
    ]


def run(path, campaign, rig, **options):
    with RunLog(path) as log:
        return run_campaign(campaign, log, rig.tools(), **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.jsonl"


def test_a_row_carries_label_and_provenance(path, rig):
    summary = run(path, campaign_of(*batches(4)), rig)
    assert (summary.measured, summary.failed, summary.left, summary.stopped_because) == (1, 0, 0, None)
    (row,) = read_runs(path)
    prefill_j, decode_j = 100 * TOKEN_J, 10 * STEP_J
    energies = pytest.approx((prefill_j, decode_j, prefill_j + decode_j))
    assert (row.prefill_energy_j, row.decode_energy_j, row.energy_j) == energies
    assert row.integrated_energy_j == pytest.approx(1.01 * row.energy_j)
    assert row.host_energy_j == pytest.approx(0.1 * row.energy_j)
    assert (row.ttft_s, row.tpot_s, row.latency_s) == pytest.approx((0.05, STEP_S, 0.25))
    assert row.average_power_w == pytest.approx(row.energy_j / row.latency_s)
    assert row.energy_std_j == pytest.approx(0.0, abs=1e-9)
    assert row.window_s == pytest.approx(row.repeats * row.latency_s)
    assert re.fullmatch(r"prefill repeats 7[2-8]; n", row.notes)  # 3 windows of 1.2 s, 0.05 s each
    expected = MeasuredRun(
        run_id=batches(4)[0].run_id(gpu="H100-SXM5-80GB", simulated=True),
        source="test",
        simulated=True,
        flags="cache_copied",
        model="m",
        gpu="H100-SXM5-80GB",
        engine="hf-eager",
        engine_version="engine 1.0",
        precision="bf16",
        batch_size=4.0,
        prompt_tokens=100.0,
        output_tokens=11.0,
        energy_method="counter_slope",
        counter_period_s=0.02,
        idle_power_w=70.0,
        context_idle_power_w=115.0,
        power_limit_w=700.0,
        sm_clock_mhz=1980.0,
        memory_clock_mhz=2619.0,
        temperature_c=50.0,
        gpu_utilization_percent=99.0,
        throttle_reasons="",
        attention_backend="sdpa",
        cuda_graphs=False,
        step_time_batch1_s=STEP_S,
        driver_version="570.1",
        device_name="NVIDIA H100 80GB HBM3",
        measured_at="2026-01-02T03:04:05+00:00",
    )
    measured = {name: getattr(row, name) for name in MEASURED}
    assert row == replace(expected, **measured)


def test_two_gpus_are_summed_and_the_hottest_counts(path, rig):
    run(path, campaign_of(replace(batches(1)[0], tensor_parallel=2)), rig)
    (row,) = read_runs(path)
    assert row.energy_j == pytest.approx(21.0)
    assert row.temperature_c == 51.0
    assert row.sm_clock_mhz == 1979.5
    assert row.n_gpus == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            WorkloadError("out_of_memory", "tried to allocate 20 GiB"),
            "out_of_memory: tried to allocate 20 GiB",
        ),
        (
            WorkloadError("server_dead", "the server cannot be reached"),
            "server_dead: the server cannot be reached",
        ),
        (MeasurementError("NVML error 999"), "measurement: NVML error 999"),
        (ZeroDivisionError("a bug in\nan engine"), "unexpected: ZeroDivisionError: a bug in an engine"),
        ("lost", "measurement: GPU 0 is lost: got NVML error 15; reboot the machine"),
    ],
)
def test_a_failing_configuration_has_its_reason_on_record_and_the_rest_goes_on(path, rig, fault, reason):
    rig.faults = {2: fault}
    summary = run(path, campaign_of(*batches(1, 2, 4)), rig)
    assert (summary.measured, summary.failed, summary.left) == (2, 1, 0)
    rows = read_runs(path)
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].failure_reason == reason
    assert rows[1].energy_j is None
    assert rows[1].repeats == 0
    assert all(meter.closed for meter in rig.meters)


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(path, rig):
    def fits(configuration, gpu, memory_bytes):
        assert (gpu, memory_bytes) == ("H100-SXM5-80GB", 80 * 2**30)
        if configuration.batch_size == 2:
            raise DoesNotFitError(
                "m does not fit: got weights 70 + KV cache 20 = 90 GB, expected at most 80 GB"
            )

    rig.fits = fits
    run(path, campaign_of(*batches(1, 2)), rig)
    assert [c.batch_size for c in rig.loads] == [1]
    assert read_runs(path)[1].failure_reason.startswith("does_not_fit: m does not fit: got weights 70")


def test_too_few_gpus_fail_their_configuration_only(path, rig):
    wide = [replace(c, tensor_parallel=8) for c in batches(1, 2, 4, 8)]
    summary = run(path, campaign_of(*wide, *batches(1)), rig)
    assert (summary.measured, summary.failed, summary.stopped_because) == (1, 4, None)
    assert read_runs(path)[0].failure_reason == "refused: too few GPUs: got 2"


def test_a_machine_that_fails_again_and_again_stops_the_campaign(path, rig):
    rig.faults = dict.fromkeys((1, 2, 4, 8, 16), MeasurementError("GPU 0 is lost"))
    summary = run(path, campaign_of(*batches(1, 2, 4, 8, 16)), rig)
    assert (summary.measured, summary.failed, summary.left) == (0, 3, 2)
    assert summary.stopped_because == "the machine failed 3 times in a row: measurement: GPU 0 is lost"
    assert len(rig.meters) == 3  # each failure dropped its driver handle


def test_an_interrupt_leaves_a_valid_file_and_the_next_run_goes_on(path, rig):
    rig.faults = {4: KeyboardInterrupt()}
    summary = run(path, campaign_of(*batches(1, 2, 4, 8)), rig)
    assert (summary.measured, summary.left, summary.stopped_because) == (2, 2, "interrupted")
    assert [row.batch_size for row in read_runs(path)] == [1, 2]
    assert rig.meters[-1].closed
    rig.faults, rig.loads[:] = {}, []
    summary = run(path, campaign_of(*batches(1, 2, 4, 8)), rig)
    assert (summary.measured, summary.left) == (2, 0)
    assert [c.batch_size for c in rig.loads] == [4, 8]
    assert [row.batch_size for row in read_runs(path)] == [1, 2, 4, 8]


def test_an_interrupt_before_the_first_configuration_is_a_stop_like_any(path, rig):
    def interrupted(gpus):
        raise KeyboardInterrupt

    rig.open_meter = interrupted
    summary = run(path, campaign_of(*batches(1, 2)), rig)
    assert (summary.measured, summary.left, summary.stopped_because) == (0, 2, "interrupted")
    assert not path.exists()


def test_failures_are_run_again_only_when_asked(path, rig):
    rig.faults = {2: WorkloadError("server_dead", "gone")}
    run(path, campaign_of(*batches(1, 2)), rig)
    rig.faults, rig.loads[:] = {}, []
    assert run(path, campaign_of(*batches(1, 2)), rig).measured == 0
    assert run(path, campaign_of(*batches(1, 2)), rig, retry_failed=True).measured == 1
    assert [(row.batch_size, row.status) for row in read_runs(path)] == [(1, "ok"), (2, "failed"), (2, "ok")]


def test_another_kind_of_gpu_is_another_configuration(path, rig):
    run(path, campaign_of(*batches(1)), rig)
    rig.device_name = "NVIDIA L4"
    assert run(path, campaign_of(*batches(1)), rig).measured == 1
    assert {row.gpu for row in read_runs(path)} == {"H100-SXM5-80GB", "NVIDIA L4"}


def test_a_shared_gpu_is_refused_unless_asked_and_then_flagged(path, rig):
    rig.shared = True
    with pytest.raises(InputError, match="--allow-shared"):
        run(path, campaign_of(*batches(1)), rig)
    run(path, campaign_of(*batches(1)), rig, allow_shared=True)
    assert read_runs(path)[0].flags == "cache_copied; shared_gpu"


def test_simulated_and_real_rows_never_share_a_file(path, rig):
    run(path, campaign_of(*batches(1)), rig)
    rig.simulated = False
    with pytest.raises(InputError, match="holds simulated runs: got a real campaign"):
        run(path, campaign_of(*batches(2)), rig)


def test_the_bare_idle_of_a_gpu_under_a_server_is_not_known(path, rig):
    server = RunConfiguration(model="m", workload="server", server_url="http://127.0.0.1:1", output_tokens=2)
    run(path, campaign_of(server), rig)
    (row,) = read_runs(path)
    assert row.idle_power_w is None
    assert row.context_idle_power_w == 115.0


def test_a_server_row_takes_its_times_and_tokens_from_the_stream(path, rig, monkeypatch):
    timing = RequestTiming(ttft_s=0.06, latency_s=0.26, output_tokens=9)
    monkeypatch.setattr(TokenWorkload, "decodes_alone", False)
    usual = TokenWorkload.whole
    monkeypatch.setattr(
        TokenWorkload, "whole", lambda self, repeats: usual(self, repeats) or (timing,) * repeats
    )
    monkeypatch.setattr(
        TokenWorkload,
        "load",
        lambda self: setattr(
            self, "facts", WorkloadFacts(prompt_tokens=103.0, output_tokens=9.0, flags=("early_stop",))
        ),
    )
    run(path, campaign_of(*batches(1)), rig)
    (row,) = read_runs(path)
    assert (row.ttft_s, row.tpot_s, row.latency_s) == pytest.approx((0.06, 0.2 / 8, 0.26))
    assert (row.prompt_tokens, row.output_tokens) == (103.0, 9.0)
    assert row.flags == "decode_by_difference; early_stop"
    assert row.decode_energy_j == pytest.approx(10 * STEP_J)


# focused acquisition


def test_a_focused_campaign_measures_its_budget_and_resumes_to_the_same_choices(tmp_path, rig):
    pool = [replace(c, prompt_tokens=p) for c in batches(1, 2, 4, 8, 16, 32) for p in (64, 256, 1024)]
    campaign = campaign_of(*pool, focus=Focus(runs=8, exploration_share=0.3))
    rig.scores = lambda gpu: lambda candidates: [float(c.batch_size) for c in candidates]
    run(tmp_path / "whole.jsonl", campaign, rig)
    chosen = [row.run_id for row in read_runs(tmp_path / "whole.jsonl")]
    assert len(set(chosen)) == 8

    stop_at = len(rig.loads) + 3
    parts = tmp_path / "parts.jsonl"
    usual = rig.tools()

    def make_workload(configuration, meter):
        if len(rig.loads) == stop_at:
            raise KeyboardInterrupt
        return usual.make_workload(configuration, meter)

    with RunLog(parts) as log:
        assert run_campaign(campaign, log, replace(usual, make_workload=make_workload)).left == 5
    run(parts, campaign, rig)
    assert {row.run_id for row in read_runs(parts)} == set(chosen)


def test_exploration_reaches_what_scores_call_worthless():
    pool = batches(*range(1, 21))
    focus = Focus(runs=20, exploration_share=0.5)
    scores = lambda candidates: [1.0 if c.batch_size <= 2 else 0.0 for c in candidates]  # noqa: E731
    drawn = {choose_next(pool, [], replace(focus, seed=seed), scores).batch_size for seed in range(400)}
    assert drawn == set(range(1, 21))
    focused = [choose_next(pool, [], replace(focus, seed=seed), scores).batch_size for seed in range(400)]
    # half explore over 20 sizes, half pick one of two: 0.5 + 0.5 · 2/20 = 55 % are small
    assert 0.47 < sum(size <= 2 for size in focused) / 400 < 0.63


def test_novelty_grows_with_the_distance_to_what_is_measured():
    one, two, eight = batches(1, 2, 8)
    assert novelty(one, []) == 1.0
    assert novelty(one, [one]) == 0.0
    assert novelty(two, [one]) == pytest.approx(0.632, abs=1e-3)
    assert novelty(eight, [one, two]) == pytest.approx(0.865, abs=1e-3)  # two doublings from the nearer
    assert novelty(one, [replace(one, model="other")]) == 1.0


def test_scores_that_are_not_usable_are_refused():
    for bad in ([1.0], [float("nan")] * 3, [-1.0] * 3):
        with pytest.raises(InputError, match="scores are not usable"):
            choose_next(batches(1, 2, 4), [], Focus(runs=1, exploration_share=1e-9), lambda c, bad=bad: bad)


def test_a_focused_campaign_without_a_model_says_so(path, rig):
    with pytest.raises(InputError, match="a focused campaign needs a model's uncertainty"):
        run(path, campaign_of(*batches(1), focus=Focus(runs=1)), rig)


# the data card


def test_the_card_states_the_facts_and_keeps_what_a_person_wrote(path, rig):
    rig.faults = {2: WorkloadError("out_of_memory", "too big")}
    run(path, campaign_of(*batches(1, 2)), rig)
    card = write_card(path, read_runs(path))
    assert card == card_path(path) == path.with_suffix(".md")
    text = card.read_text()
    assert "2 rows in `runs.jsonl`: 1 measured, 1 failed" in text
    assert "SIMULATED" in text
    assert "| failures | out_of_memory (1) |" in text
    assert "| driver | 570.1 |" in text
    assert "| parts against whole, % (median, worst) | 0.00, 0.00 |" in text
    card.write_text("Mine.\n" + text.replace("**Known flaws.**", "**Known flaws.** The fan was broken."))
    rig.faults = {}
    run(path, campaign_of(*batches(1, 2, 4)), rig)
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
