"""Running the command line in this process, and a predictor whose answers are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from llmco2.cli.main import main
from llmco2.errors import UnknownNameError
from llmco2.records.columns import ANSWER_COLUMNS
from llmco2.records.footprint import Carbon, Footprint, Interval, PhaseEnergy
from llmco2.records.request import InferenceRequest
from llmco2.report.rows import footprint_row


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def llmco2(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*argv: str) -> Outcome:
        try:
            status = main(argv)
        except SystemExit as leaving:  # argparse leaves by itself after --help, --version and its own errors
            status = int(leaving.code or 0)
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


def _phase(energy_j: float) -> PhaseEnergy:
    return PhaseEnergy(
        energy_j=energy_j,
        energy_interval_j=Interval(low=energy_j * 0.8, high=energy_j * 1.25),
        energy_bounds_j=Interval(low=energy_j * 0.5, high=energy_j * 2.0, coverage=1.0),
        time_s=energy_j / 500.0,
        average_power_w=500.0,
    )


@dataclass
class KnownPredictor:
    """Answers one joule a token, half of it in prefill; knows the GPU "H100-SXM5-80GB" only."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def predict(self, **given: Any) -> Footprint:
        self.calls.append(given)
        names = [column.name for column in dataclasses.fields(InferenceRequest)]
        request = InferenceRequest(**{name: given[name] for name in names if name in given})
        if request.gpu != "H100-SXM5-80GB":
            raise UnknownNameError("GPU", request.gpu, ["H100-SXM5-80GB"])
        energy_j = float(request.batch_size * (request.prompt_tokens + request.output_tokens))
        return Footprint(
            request=request,
            n_gpus=request.n_gpus,
            prefill=_phase(energy_j / 2),
            decode=_phase(energy_j / 2),
            total=_phase(energy_j),
            ttft_s=0.1,
            tpot_s=0.01,
            latency_s=1.0,
            energy_per_output_token_j=energy_j / (request.batch_size * request.output_tokens),
            energy_per_total_token_j=1.0,
            carbon=Carbon(
                operational_gco2e=0.02,
                embodied_gco2e=0.01,
                operational_interval_gco2e=Interval(low=0.01, high=0.04),
                embodied_interval_gco2e=Interval(low=0.005, high=0.02),
                facility_energy_kwh=0.001,
                factors=(),
            ),
            memory_needed_bytes=2.0**34,
            memory_available_bytes=80 * 2.0**30,
            in_domain=True,
        )

    def predict_frame(self, requests: pd.DataFrame, **overrides: Any) -> pd.DataFrame:
        rows = []
        for request in requests.to_dict("records"):
            try:
                rows.append(footprint_row(self.predict(**request, **overrides)))
            except ValueError as error:
                rows.append({**request, **dict.fromkeys(ANSWER_COLUMNS), "error": str(error)})
        return pd.DataFrame(rows)


@pytest.fixture
def predictor() -> KnownPredictor:
    return KnownPredictor()
