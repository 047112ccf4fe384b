"""The data module of kernels: sides that share no shape, a test set that stays, loaders of every kind."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from llmco2.data.kernel_module import KernelDataModule
from llmco2.data.kernel_rows import kernel_inputs
from llmco2.data.simulated_kernels import (
    EFFICIENCY,
    LAUNCH_S,
    NOISE,
    simulate_kernels,
    write_simulated_kernels,
)
from llmco2.errors import FileFormatError, InputError, UnknownNameError
from llmco2.kernel_model.features import KINDS
from llmco2.resources import datasets_dir


def module_of(**options: Any) -> KernelDataModule:
    return KernelDataModule(
        **{"kinds": ["gemm", "collective"], "batch_size": 32, "batches_per_epoch": 3, **options}
    )


def targets(data: KernelDataModule, side: str, kind: str) -> set[float]:
    return set(data.rows[side][kind].target.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_kernels_are_those_of_the_rule_and_say_so(kind: str) -> None:
    shipped = pd.read_parquet(datasets_dir() / "simulated_kernels" / f"{kind}.parquet")
    pd.testing.assert_frame_equal(shipped, simulate_kernels(kind), check_dtype=False)
    assert shipped["simulated"].all()
    expected = kernel_inputs(kind, shipped).roofline_s / EFFICIENCY[kind] + LAUNCH_S
    assert np.std(np.log(shipped["latency_s"] / expected)) == pytest.approx(NOISE, rel=0.15)


def test_every_table_of_the_rule_is_written(tmp_path: Path) -> None:
    folder = write_simulated_kernels(tmp_path / "new", 10)
    assert {path.stem for path in folder.iterdir()} == set(KINDS)


def test_a_step_has_a_batch_of_every_kind() -> None:
    data = module_of()
    data.setup("fit")
    loaders = data.train_dataloader()
    assert set(loaders) == {"gemm", "collective"}
    for kind, loader in loaders.items():
        batches = list(loader)
        assert [len(batch) for batch in batches] == [32, 32, 32]
        rows = data.rows["train"][kind]
        assert torch.equal(batches[0].features, rows.features[batches[0].row])


def test_sides_share_no_row_and_make_up_the_table() -> None:
    data = module_of(test_share=0.3, validation_share=0.2)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    for kind in data.kinds:
        sides = [targets(data, side, kind) for side in ("train", "validation", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(targets(data, "all", kind))


def test_the_test_set_depends_on_shapes_alone() -> None:
    one, other = module_of(), module_of(seed=5, validation_share=0.3, batch_size=8, focus=0.0)
    for data in (one, other):
        data.setup("test")
    assert torch.equal(one.rows["test"]["gemm"].features, other.rows["test"]["gemm"].features)


def test_nothing_held_out_leaves_nothing_to_validate_or_test() -> None:
    data = module_of(test_share=0.0, validation_share=0.0)
    data.setup("fit")
    assert len(data.rows["train"]["gemm"]) == 400
    assert data.val_dataloader() == []
    with pytest.raises(InputError, match=r"no shape is held out to test on.*data\.test_share"):
        data.test_dataloader()


def test_simulated_tables_say_so(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    module_of().setup("validate")
    assert "SIMULATED DATA" in caplog.text
    caplog.clear()
    simulate_kernels("gemm", 50).drop(columns="simulated").to_parquet(tmp_path / "gemm.parquet")
    with caplog.at_level(logging.INFO):
        module_of(path=str(tmp_path), kinds=["gemm"]).setup("fit")
    assert caplog.text == ""


def test_limits_are_by_kind() -> None:
    data = module_of(max_rows=1000, max_rows_of={"collective": 350})
    data.setup("predict")
    assert len(data.rows["all"]["gemm"]) == 400
    assert 200 < len(data.rows["all"]["collective"]) <= 350


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kinds": ["gem"]}, UnknownNameError, "did you mean gemm"),
        ({"max_rows_of": {"gem": 3}}, UnknownNameError, "did you mean gemm"),
        ({"test_share": 0.7, "validation_share": 0.3}, InputError, "0.7 and 0.3"),
        ({"test_share": -0.1}, InputError, "-0.1"),
        ({"floor": 0.0}, InputError, "bad floor"),
        ({"batch_size": 0}, InputError, "1 or more"),
    ],
)
def test_options_that_cannot_be_are_named(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        module_of(**options)


def test_a_kind_without_a_table_or_without_rows_to_train_on_is_named(tmp_path: Path) -> None:
    simulate_kernels("gemm", 50).assign(n=1024.0, k=1024.0).to_parquet(tmp_path / "gemm.parquet")
    with pytest.raises(FileFormatError, match="cannot read the collective kernels"):
        module_of(path=str(tmp_path)).setup("fit")
    lonely = module_of(path=str(tmp_path), kinds=["gemm"], test_share=0.99, validation_share=0.0)
    with pytest.raises(InputError, match="every shape of gemm is held out"):
        lonely.setup("fit")
