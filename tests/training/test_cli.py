"""``llmco2 train``: every shipped configuration runs, and a mistake is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import llmco2
from llmco2.data.schema import canonical_frame
from llmco2.data.tables import write_kernels
from llmco2.data.tensors import LABELS
from llmco2.errors import UnknownNameError
from llmco2.predictor.checkpoint import load_checkpoint
from llmco2.records.run import KernelMeasurement
from llmco2.resources import configs_dir
from llmco2.training import cli

SHORT = ("--trainer.callbacks=[]", "--trainer.enable_progress_bar=false")
CONFIGS = cli.shipped_configs()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kernel_file(tmp_path: Path) -> str:
    rows = [{"source": "test", "gpu": "A100-SXM4-80GB", "precision": "bf16", "kind": "gemm", "m": m, "n": 4096.0,
             "k": 4096.0, "latency_s": 1e-5 * m} for m in (8.0, 64.0, 512.0)]  # fmt: skip
    return str(
        write_kernels(canonical_frame(pd.DataFrame(rows), KernelMeasurement), tmp_path / "kernels.csv")
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_every_shipped_configuration_trains(config: str, kernel_file: str, own_folder: Path) -> None:
    options = [f"--data.kernels.path={kernel_file}"] if config == "kernels_first" else []
    epochs = [] if config == "smoke" else ["--trainer.max_epochs=2"]
    assert cli.main(["fit", "--config", config, *epochs, *options]) == 0
    version = own_folder / "logs" / "training" / "version_0"
    assert (version / "config.yaml").is_file()
    losses = pd.read_csv(version / "metrics.csv")["train/loss"].dropna()
    assert len(losses) >= 2
    assert (losses < float("inf")).all()
    assert (version / "checkpoint.json").is_file()
    assert list((own_folder / "logs" / "tensorboard" / "version_0").glob("events.*"))


def test_fit_test_and_predict_follow_each_other(
    own_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert cli.main(["fit", "--config=smoke", "--seed_everything=3"]) == 0
    first = own_folder / "logs/training/version_0"
    checkpoint = str(first / "checkpoints/last.ckpt")
    torch.load(checkpoint, weights_only=True)
    for command in ("validate", "test", "predict"):
        assert cli.main([command, "--ckpt_path", checkpoint]) == 0
    assert "test/energy_at_large/mape_percent" in capsys.readouterr().out
    assert caplog.text.count("SIMULATED DATA") == 4
    table = pd.read_csv(own_folder / "logs/training/version_3/predictions.csv")
    assert len(table) == 384
    assert [c for c in table if c.startswith("predicted_")] == [f"predicted_{name}" for name in LABELS]
    # What the trained network says is what the exported numbers say, through the front door.
    run = table[table["run_id"] == "simulated/0000"].iloc[0]
    answer = llmco2.predict(model="Qwen/Qwen3-32B", gpu="A100-SXM4-80GB", engine="vllm-0.11", precision="bf16",
                            batch_size=4, prompt_tokens=18, output_tokens=319,
                            checkpoint=str(first / "checkpoint.json"))  # fmt: skip
    assert answer.total.energy_j == pytest.approx(run["predicted_energy_j"], rel=1e-4)
    assert answer.latency_s == pytest.approx(run["predicted_latency_s"], rel=1e-4)


def test_an_export_says_how_it_was_made(own_folder: Path) -> None:
    assert cli.main(["fit", "--config=smoke", "--data.split.kind=gpu", "--data.split.held_out=L4"]) == 0
    path = own_folder / "logs/training/version_0/checkpoint.json"
    held = json.loads(path.read_text())
    assert held["data"]["n_simulated"] == held["data"]["n_runs"] == 384
    assert held["data"]["split"]["name"] == "gpu=L4"
    assert set(held["data"]["split"]["sha256"]) == {"train", "validation", "test"}
    assert held["recipe"]["network"]["hidden_dim"] == 8
    assert held["recipe"]["epochs"] == held["recipe"]["steps"] == 6
    assert "L4" not in held["domain"]["gpus"]
    assert 0 < held["metrics"]["validation"]["energy_at_large"]["mape_percent"] < 300  # after six steps
    assert held["intervals"]["cases"]["known"]["low"] < 0 < held["intervals"]["cases"]["known"]["high"]
    assert load_checkpoint(str(path)).network["hidden_dim"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--model.network.hiden_dim=3"], "did you mean model.network.hidden_dim"),
        (["fit", "--trainer.max_epoch=3"], "did you mean trainer.max_epochs"),  # no abbreviation either
        (["fit", "--data.batch_size=many"], "data.batch_size"),
        (["fit", "--model.network.kind=tree"], "model.network.kind"),
        (["fit", "--model.network.hidden_dim=-3"], "got -3, expected 0 or more"),
        (["fit", "--config=smok"], "did you mean smoke"),
        (["fit", "--data.runs=absent.csv"], "no such file"),
        (["fit", "--data.split.kind=gpu"], "data.split.held_out"),
        (["fitt"], "fitt"),
        ([], "subcommand"),
        (["fit", "--trainer.devices=0"], "devices"),
        (["fit", "--config=kernels_first"], "data.kernels.path"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, *(SHORT if arguments[:1] == ["fit"] else ())]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("llmco2: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_a_misspelt_key_of_a_file_is_named(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_folder / "mine.yaml").write_text("model:\n  network: {hiden_dim: 3}\n")
    assert cli.main(["fit", "--config", "mine.yaml"]) == 2
    assert "hiden_dim" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_that_cannot_be_is_one_line_and_exit_code_2(
    command: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, own_folder / "foreign.ckpt")
    (own_folder / "torn.ckpt").write_bytes((own_folder / "foreign.ckpt").read_bytes()[:200])
    for name in ("absent.ckpt", "torn.ckpt", "foreign.ckpt", "."):
        assert cli.main([command, "--ckpt_path", name]) == 2
        error = capsys.readouterr().err
        assert error.startswith("llmco2: ")
        assert error.count("\n") == 1
        assert "checkpoint" in error


def test_an_untrained_network_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["test", *SHORT]) == 0
    assert "untrained network" in caplog.text


def test_a_name_is_a_shipped_configuration_and_a_path_is_a_path(own_folder: Path) -> None:
    shipped = str(configs_dir() / "smoke.yaml")
    assert cli.with_shipped_configs(["fit", "--config", "smoke"]) == ["fit", "--config", shipped]
    assert cli.with_shipped_configs(["fit", "-c", "smoke.yaml"]) == ["fit", "-c", shipped]
    assert cli.with_shipped_configs(["--config=smoke"]) == [f"--config={shipped}"]
    (own_folder / "smoke.yaml").write_text("{}")  # one's own file of that name comes first
    assert cli.with_shipped_configs(["--config=smoke.yaml"]) == ["--config=smoke.yaml"]
    assert cli.with_shipped_configs(["--data.runs", "smoke"]) == ["--data.runs", "smoke"]
    with pytest.raises(UnknownNameError, match="did you mean formula"):
        cli.with_shipped_configs(["--config", "formular"])


def test_an_overlay_changes_only_what_it_names(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--config=formula", "--print_config"]) == 0
    shown: dict[str, Any] = _yaml(capsys.readouterr().out)
    default = _yaml((configs_dir() / "default.yaml").read_text())
    assert shown["model"]["network"]["hidden_dim"] == 0
    assert shown["model"]["network"]["n_rounds"] == default["model"]["network"]["n_rounds"]
    assert shown["trainer"]["max_epochs"] == 600
    assert shown["trainer"]["gradient_clip_val"] == default["trainer"]["gradient_clip_val"]


def test_the_default_configuration_is_what_the_classes_do_by_themselves() -> None:
    """Training from Python without options and training from the command line are one recipe."""
    from llmco2.data.module import EnergyDataModule  # noqa: PLC0415
    from llmco2.training.module import EnergyModule  # noqa: PLC0415

    default = _yaml((configs_dir() / "default.yaml").read_text())
    module, data = EnergyModule(), EnergyDataModule()
    for name, value in default["model"]["network"].items():
        assert getattr(module.network_options, name) == value, name
    for name, value in default["model"]["optimizer"].items():
        assert getattr(module.optimizer_options, name) == value, name
    for name, value in default["model"]["unknown_share"].items():
        assert getattr(module.unknown_share, name) == value, name
    for name, value in default["data"]["split"].items():
        assert getattr(data.split_options, name) == value, name


def _yaml(text: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.slow
def test_two_processes_train_as_one(own_folder: Path) -> None:
    """Gloo on one machine: both ranks finish, and each took half of the rows' batches."""
    command = [sys.executable, "-m", "llmco2.cli.main", "train", "fit", "--config=smoke", "--trainer.devices=2",
               "--trainer.strategy=ddp", "--data.batch_size=32"]  # fmt: skip
    where = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=own_folder, env={**os.environ, **where}, capture_output=True, text=True,
                          timeout=540, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = pd.read_csv(own_folder / "logs/training/version_0/metrics.csv")
    assert metrics["step"].max() + 1 == 6 * -(-270 // (2 * 32))  # six epochs of 270 rows in two shards of 32
    assert (own_folder / "logs/training/version_0/checkpoint.json").is_file()
