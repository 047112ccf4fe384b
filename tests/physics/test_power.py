"""Power of a GPU: by hand, within its bounds, and rising with work and time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.physics.power import LIMIT_SHARE, PowerColumns, Work, gpu_power_w, power_columns

BOARDS = (
    "V100-SXM2-16GB",
    "A100-SXM4-80GB",
    "H100-SXM5-80GB",
    "GH200-96GB",
    "B200-SXM-180GB",
    "MI355X",
    "A2",
    "L40S",
)


def work(weights: float = 0.0, flops: float = 0.0) -> Work:
    return Work(
        flops16=np.array([flops]),
        weight_bytes=np.array([weights]),
        cache_bytes=np.zeros(1),
        activation_bytes=np.zeros(1),
        network_bytes=np.zeros(1),
    )


def watts(device: PowerColumns, done: Work, seconds: float, busy: float) -> float:
    return float(gpu_power_w(device, done, np.array([seconds]), np.array([busy]))[0])


def test_nothing_to_do_draws_idle_power_with_a_context() -> None:
    h100 = power_columns([resolve_gpu("H100-SXM5-80GB")])
    assert watts(h100, work(), 1.0, 0.0) == 121.0


def test_far_below_the_limit_demands_add_up_by_hand() -> None:
    h100 = power_columns([resolve_gpu("H100-SXM5-80GB")])
    demand = 0.30 * 700 * 0.1 + 84e-12 * 1e12 + 0.48e-12 * 1e13
    assert watts(h100, work(1e12, 1e13), 1.0, 0.1) == pytest.approx(121.0 + demand, rel=1e-3)


def test_a_module_limit_is_not_the_gpus() -> None:
    assert power_columns([resolve_gpu("GH200-96GB")]).limit_w[0] == 700.0


@given(
    st.sampled_from(BOARDS), st.floats(0, 5e13), st.floats(0, 1e16), st.floats(1e-3, 1e3), st.floats(0, 1),
    st.floats(1.0, 10.0),
)  # fmt: skip
def test_bounds_hold_and_more_never_draws_less(  # noqa: PLR0917 - drawn by hypothesis
    board: str, weights: float, flops: float, seconds: float, busy: float, factor: float
) -> None:
    device = power_columns([resolve_gpu(board)])
    drawn = watts(device, work(weights, flops), seconds, busy)
    assert device.idle_w[0] <= drawn <= LIMIT_SHARE * device.limit_w[0] * (1 + 1e-9)
    assert watts(device, work(weights * factor, flops), seconds, busy) >= drawn * (1 - 1e-12)
    # The same work over a longer time takes more energy: it idles in between.
    longer = watts(device, work(weights, flops), seconds * factor, busy / factor) * seconds * factor
    assert longer >= drawn * seconds * (1 - 1e-9)


def test_every_board_of_the_catalog_idles_below_its_limit() -> None:
    device = power_columns(list(load_gpus().values()))
    assert np.all(device.idle_w < LIMIT_SHARE * device.limit_w)
    assert np.all(device.reference_w >= 0.5 * device.limit_w)
