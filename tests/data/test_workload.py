"""The workload prior reproduces its quantile tables and is a proper density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.data.simulate import simulate_runs
from llmco2.data.workload import Marginal, azure_workload, workload_from_csv
from llmco2.errors import FileFormatError, UnknownNameError

# published quantiles of the traces, tokens
KNOWN = {"conv": ((1020, 129), (2734.5, 424)), "code": ((1469, 13), (5187.6, 55))}


@pytest.mark.parametrize("trace", ["conv", "code"])
def test_samples_have_the_quantiles_of_the_trace(trace: str) -> None:
    sample = azure_workload(trace).sample(40_000, np.random.default_rng(0))
    for share, (prompt, output) in zip((0.5, 0.9), KNOWN[trace], strict=True):
        assert np.quantile(sample.prompt_tokens, share) == pytest.approx(prompt, rel=0.06)
        assert np.quantile(sample.output_tokens, share) == pytest.approx(output, rel=0.12)


def test_prompt_and_output_are_drawn_independently() -> None:
    sample = azure_workload("conv").sample(40_000, np.random.default_rng(1))
    assert abs(np.corrcoef(np.log(sample.prompt_tokens), np.log(sample.output_tokens))[0, 1]) < 0.02


@pytest.mark.parametrize("trace", ["conv", "code", "all"])
def test_a_density_integrates_to_one(trace: str) -> None:
    prior = azure_workload(trace)
    x = np.linspace(-12, 22, 40_001)
    for marginal in (prior.batch, *(m for part in prior.components for m in (part.prompt, part.output))):
        assert np.trapezoid(marginal.density(np.exp(x)), x) == pytest.approx(1.0, abs=1e-3)
    assert sum(part.share for part in prior.components) == pytest.approx(1.0)


@given(prompt=st.floats(1, 1e7), output=st.floats(1, 1e7), batch=st.floats(1, 65536))
def test_a_density_is_positive_everywhere_and_the_product_of_its_parts(
    prompt: float, output: float, batch: float
) -> None:
    prior = azure_workload("conv")
    (part,) = prior.components
    density = float(prior.density(prompt, output, batch))
    assert density > 0
    product = part.prompt.density(prompt) * part.output.density(output) * prior.batch.density(batch)
    assert density == pytest.approx(float(product))


def test_common_requests_weigh_more_than_odd_ones() -> None:
    prior = azure_workload("conv")
    assert prior.density(1020, 129, 8) > 100 * prior.density(10, 8000, 8)


def test_an_unknown_length_counts_as_a_typical_one() -> None:
    prior = azure_workload("conv")
    typical = float(prior.density(np.nan, 129, 8))
    assert float(prior.density(6000, 129, 8)) < typical < float(prior.density(1100, 129, 8))


def test_weights_of_runs_sum_to_one() -> None:
    weights = azure_workload().weights(simulate_runs(50, seed=1))
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() > 0


def test_a_seed_fixes_the_sample() -> None:
    one, two = (azure_workload().sample(100, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(one.prompt_tokens, two.prompt_tokens)
    assert np.array_equal(one.batch_size, two.batch_size)
    assert one.batch_size.min() >= 1
    assert one.batch_size.max() <= 256


def test_a_jump_of_the_quantiles_is_an_atom() -> None:
    marginal = Marginal(log_knots=np.log([6.0, 6.0, 60.0]), cumulative=np.array([0.0, 0.5, 1.0]))
    assert float(marginal.quantile(0.3)) == pytest.approx(6.0)
    assert float(marginal.density(6.0)) > 4 * float(marginal.density(30.0))


def test_ones_own_requests_become_a_prior(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt_tokens,output_tokens,batch_size,user\n" + "100,10,4,a\n200,20,4,b\n300,30,4,c\n")
    prior = workload_from_csv(path)
    sample = prior.sample(500, np.random.default_rng(0))
    assert np.median(sample.prompt_tokens) == pytest.approx(200, rel=0.05)
    assert set(sample.batch_size) == {4.0}
    assert prior.density(200, 20, 4) > 1e3 * prior.density(5000, 20, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt_tokens\n5\n", r"mine\.csv is not a workload: got no column 'output_tokens'"),
        ("prompt_tokens,output_tokens\n5,5\n0,5\n", r"mine\.csv, line 3: bad prompt_tokens: got '0'"),
        ("prompt_tokens,output_tokens\n5,many\n", r"mine\.csv, line 2: bad output_tokens: got 'many'"),
        ("prompt_tokens,output_tokens\n5,\n", r"mine\.csv, line 2: bad output_tokens: got None"),
        ("prompt_tokens,output_tokens\n", r"mine\.csv is empty"),
    ],
)
def test_a_bad_workload_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        workload_from_csv(path)


def test_unknown_traces_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean conv"):
        azure_workload("convo")
    with pytest.raises(FileFormatError, match="no such file"):
        workload_from_csv(tmp_path / "none.csv")
