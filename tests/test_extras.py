"""A plain install predicts, compares and monitors; what needs more names its extra in one line and leaves with 2."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llmco2 import extras
from llmco2.cli.doctor import _OPTIONAL
from llmco2.cli.main import COMMANDS
from llmco2.errors import MissingExtraError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# What no plain install has: importing one fails as if it were not there, whatever this environment holds.
ABSENT = ("torch", "torch_geometric", "lightning", "jsonargparse", "tensorboard", "zeus", "transformers", "accelerate",
          "pyarrow", "matplotlib", "ecologits", "scipy", "sklearn")  # fmt: skip
PLAIN = f"""
import importlib.util, sys
from importlib.abc import MetaPathFinder
ABSENT = {ABSENT!r}

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ABSENT else found(name, package)
sys.meta_path.insert(0, Absent())
from llmco2.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def plain(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command line where only the base's packages can be imported."""
    (folder / "requests.csv").write_text("model,gpu\nQwen/Qwen3-8B,A100-SXM4-80GB\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", PLAIN, *argv], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "Qwen/Qwen3-8B", "--gpu", "H100"],
        ["predict", "Qwen/Qwen3-8B", "--gpu", "H100,L4", "--batch-size", "1..4"],
        ["predict", "--requests", "requests.csv", "--output", "answers.csv"],
        ["monitor", "--replay", "--once"],
        ["monitor", "--simulate", "--once"],
    ],
    ids=" ".join,
)
def test_a_plain_install_answers(argv: list[str], tmp_path: Path) -> None:
    done = plain(tmp_path, *argv)
    assert (done.returncode, "rror" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plain_install_helps(command: str, tmp_path: Path) -> None:
    done = plain(tmp_path, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"llmco2 {command}" in done.stdout


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train", "fit", "--config", "smoke"], "llmco2 train needs an extra: got no module 'lightning'; {train}"),
        (["measure", "Qwen/Qwen3-0.6B", "--simulate", "--output", "runs.jsonl"],
         "llmco2 measure needs an extra: got no module 'zeus'; {measure}"),
        (["predict", "--requests", "requests.csv", "--output", "answers.parquet"],
         "a Parquet table needs an extra: got no module 'pyarrow'; {parquet}"),
        (["predict", "--requests", "requests.parquet"],
         "a Parquet table needs an extra: got no module 'pyarrow'; {parquet}"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_what_needs_an_extra_names_it(argv: list[str], line: str, tmp_path: Path) -> None:
    done = plain(tmp_path, *argv)
    remedies = {name: f"pip install 'llmco2[{name}]'" for name in ("train", "measure", "parquet")}
    assert done.stderr == f"llmco2: {line.format(**remedies)}\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["requests.csv"]


def test_help_of_training_names_its_extra(tmp_path: Path) -> None:
    done = plain(tmp_path, "train", "fit", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("pip install 'llmco2[train]'\n")


def test_every_module_is_brought_by_the_extra_that_is_named() -> None:
    distributions = {"torch_geometric": "torch-geometric", "opentelemetry": "opentelemetry-sdk"}
    brought = {
        extra: {line.split(">=")[0].split("[")[0] for line in lines}
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    for module, extra in extras._EXTRA_OF.items():
        assert distributions.get(module, module) in brought[extra], module
    for distribution, extra in _OPTIONAL.items():
        assert distribution in brought[extra], distribution
    base = {line.split(">=")[0] for line in PROJECT["dependencies"]}
    assert base.isdisjoint(set().union(*brought.values()))


def test_a_module_that_no_extra_brings_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError):
        extras.imported("llmco2_no_such_module", "a test")
    assert extras.missing_extra("a test", ModuleNotFoundError("No module named 'x'", name="x")) is None
    error = extras.missing_extra("a test", ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert isinstance(error, MissingExtraError)
    assert str(error) == "a test needs an extra: got no module 'torch'; pip install 'llmco2[measure]'"
