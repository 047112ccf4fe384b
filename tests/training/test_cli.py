"""``llmco2 train``: every shipped configuration runs, and a mistake is one line."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from llmco2.data.kernel_module import KernelDataModule
from llmco2.errors import UnknownNameError
from llmco2.resources import configs_dir
from llmco2.training import cli
from llmco2.training.kernel_module import KernelModule
from llmco2.training.shipped_configs import shipped_configs, with_shipped_configs

CONFIGS = shipped_configs()
FEW = "--data.kinds=[gemm,collective]"
SHORT = ("--trainer.callbacks=[]", "--trainer.enable_progress_bar=false")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_shipped_configuration_runs_and_a_development_run_writes_nothing(
    config: str, own_folder: Path
) -> None:
    assert cli.main(["fit", "--config", config, "--trainer.fast_dev_run=true", "--data.batch_size=64"]) == 0
    assert not list(own_folder.iterdir())


def test_fit_test_and_predict_follow_each_other(
    own_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = "--trainer.default_root_dir=mine"
    assert cli.main(["fit", "--config=smoke", FEW, root, "--model.learning_rate=0.01"]) == 0
    checkpoint = "mine/lightning_logs/version_0/checkpoints/last.ckpt"
    config = _yaml(Path("mine/lightning_logs/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["learning_rate"] == 0.01
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["hyper_parameters"]["kinds"] == ["gemm", "collective"]
    assert KernelModule.load_from_checkpoint(checkpoint).learning_rate == 0.01
    for command in ("validate", "test", "predict"):
        assert cli.main([command, FEW, root, "--ckpt_path", checkpoint]) == 0
    assert "test/gemm/median_ape_percent" in capsys.readouterr().out
    assert "SIMULATED DATA" in caplog.text
    tables = own_folder / "mine/lightning_logs/version_3/predictions"
    assert files(tables) == {"gemm.parquet", "collective.parquet"}
    table = pd.read_parquet(tables / "gemm.parquet")
    assert len(table) == 400
    ratio = np.log(table["predicted_latency_s"] / table["latency_s"])
    assert ratio.abs().median() < 0.5  # after thirty steps; the latencies span four orders of magnitude
    assert {str(path.parts[0]) for path in map(Path, files(own_folder))} == {"mine"}


def test_an_export_is_written_where_it_is_asked_for(own_folder: Path) -> None:
    assert cli.main(["fit", "--config=smoke", "--config=release", FEW]) == 0
    with np.load(own_folder / "lightning_logs/version_0/node_functions.npz") as arrays:
        assert arrays["kernel.gemm.weight0"].shape[0] == 32
    assert (own_folder / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()


def test_optimizer_scheduler_and_class_are_chosen_as_in_every_lightning_cli(own_folder: Path) -> None:
    chosen = ["--optimizer=SGD", "--optimizer.lr=0.01", "--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"]
    assert cli.main(["fit", "--config=smoke", FEW, *SHORT, *chosen]) == 0
    (path,) = own_folder.rglob("*.ckpt")
    stored = torch.load(path, weights_only=True)
    assert stored["lr_schedulers"][0]["step_size"] == 1
    (group,) = stored["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(0.01 * 0.1**3)
    own = "tests.training.own_module.OwnModule"
    assert cli.main(["fit", "--config=smoke", FEW, *SHORT, f"--model={own}", "--model.width=8"]) == 0
    newest = torch.load(max(own_folder.rglob("*.ckpt"), key=os.path.getmtime), weights_only=True)
    assert newest["hyper_parameters"]["_class_path"] == own
    assert newest["hyper_parameters"]["width"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--model.init_args.widht=3"], "KernelModule has no option 'widht'; did you mean width"),
        (["fit", "--data.batch_sise=3"], "did you mean batch_size"),
        (["fit", "--trainer.max_epoch=3"], "did you mean trainer.max_epochs"),  # no abbreviation either
        (["fit", "--data.batch_size=many"], "batch_size"),
        (["fit", "--config=smok"], "did you mean smoke"),
        (["fit", "--data.path=absent"], "cannot read the gemm kernels"),
        (["fit", "--data.floor=0"], "bad floor: got 0.0, expected above 0"),
        (["fit", "--data.kinds=[gem]"], "did you mean gemm"),
        (["fitt"], "fitt"),
        ([], "subcommand"),
        (["fit", "--trainer.devices=0"], "devices"),
        (["test", "--data.test_share=0"], "no shape is held out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, *(SHORT if arguments[:1] in (["fit"], ["test"]) else ())]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("llmco2: ")]
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_that_cannot_be_is_one_line_and_exit_code_2(
    command: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, own_folder / "foreign.ckpt")
    (own_folder / "torn.ckpt").write_bytes((own_folder / "foreign.ckpt").read_bytes()[:200])
    for name in ("absent.ckpt", "torn.ckpt", "foreign.ckpt", ".") if command == "fit" else ("torn.ckpt",):
        assert cli.main([command, "--ckpt_path", name]) == 2
        error = capsys.readouterr().err
        assert error.startswith("llmco2: ")
        assert error.count("\n") == 1
        assert "checkpoint" in error


def test_a_name_is_a_shipped_configuration_and_a_path_is_a_path(own_folder: Path) -> None:
    shipped = str(configs_dir() / "smoke.yaml")
    assert with_shipped_configs(["fit", "--config", "smoke"]) == ["fit", "--config", shipped]
    assert with_shipped_configs(["fit", "-c", "smoke.yaml"]) == ["fit", "-c", shipped]
    assert with_shipped_configs(["--config=smoke"]) == [f"--config={shipped}"]
    (own_folder / "smoke.yaml").write_text("{}")  # one's own file of that name comes first
    assert with_shipped_configs(["--config=smoke.yaml"]) == ["--config=smoke.yaml"]
    assert with_shipped_configs(["--data.path", "smoke"]) == ["--data.path", "smoke"]
    with pytest.raises(UnknownNameError, match="did you mean release"):
        with_shipped_configs(["--config", "relase"])


def test_an_overlay_changes_only_what_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--config=smoke", "--print_config"]) == 0
    shown = _yaml(capsys.readouterr().out)
    default = _yaml((configs_dir() / "default.yaml").read_text())
    assert shown["model"]["init_args"]["width"] == 32
    assert shown["model"]["init_args"]["beta"] == default["model"]["init_args"]["beta"]
    assert shown["trainer"]["max_epochs"] == 3
    assert shown["trainer"]["gradient_clip_val"] == default["trainer"]["gradient_clip_val"]


@pytest.mark.parametrize(("part", "made"), [("model", KernelModule), ("data", KernelDataModule)])
def test_the_default_configuration_is_what_the_classes_do_by_themselves(part: str, made: type) -> None:
    """Training from Python without options and training from the command line are one recipe."""
    default = _yaml((configs_dir() / "default.yaml").read_text())[part]
    assert default["class_path"] == f"{made.__module__}.{made.__name__}"
    for name, parameter in inspect.signature(made).parameters.items():
        if part == "model" and name == "kinds":  # linked to those of the data
            continue
        plain = list(parameter.default) if name == "kinds" else parameter.default
        assert default["init_args"][name] == plain, name


def _yaml(text: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.slow
def test_two_processes_train_as_one(own_folder: Path) -> None:
    """Gloo on one machine: each rank takes half of an epoch's rows, and both agree on the scales."""
    command = [sys.executable, "-m", "llmco2.cli.main", "train", "fit", "--config=smoke", FEW, "--trainer.devices=2",
               "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1",
               "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"]  # fmt: skip
    where = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=own_folder, env={**os.environ, **where}, capture_output=True, text=True,
                          timeout=540, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (metrics,) = own_folder.rglob("metrics.csv")
    assert pd.read_csv(metrics)["step"].max() + 1 == 3 * 10 // 2  # three epochs of ten batches in two shards
    (checkpoint,) = own_folder.rglob("last.ckpt")
    module = KernelModule.load_from_checkpoint(checkpoint)
    assert all(module.network.node(kind).is_fitted for kind in ("gemm", "collective"))
