"""``llmco2 train``: what its parts are is said at once, before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from llmco2.cli import train
from llmco2.resources import configs_dir
from llmco2.training import cli as training
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]


def test_the_head_names_each_subcommand_and_each_shipped_configuration() -> None:
    lines = train.head().splitlines()
    assert max(map(len, lines)) <= 80
    first_words = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    configurations = sorted(path.stem for path in configs_dir().glob("*.yaml"))
    assert first_words == [*training.SUBCOMMANDS, *configurations, "llmco2"]
    assert "  smoke    Seconds, to see that everything runs" in train.head()


def test_help_is_the_head_and_then_every_option_of_lightning(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lightning(argv: list[str]) -> int:
        print("usage:", *argv)
        return 0

    monkeypatch.setattr(training, "main", lightning)
    outcome = llmco2("train", "--help")
    assert (outcome.status, outcome.out) == (0, f"{train.head()}\nusage: --help\n")
    assert llmco2("train", "fit", "--help").out == "usage: fit --help\n"


def test_no_subcommand_and_a_misspelt_one_are_told_without_torch() -> None:
    code = "import sys; from llmco2.cli.main import main; status = main(sys.argv[1:]); "
    code += "assert 'torch' not in sys.modules; sys.exit(status)"
    bare, misspelt = (
        subprocess.run(
            [sys.executable, "-c", code, "train", *argv], capture_output=True, text=True, check=False
        )
        for argv in ((), ("validat",))
    )
    assert (bare.returncode, bare.stdout, bare.stderr) == (2, "", train.head())
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert misspelt.stderr == (
        "llmco2: unknown subcommand of llmco2 train: got 'validat'; did you mean validate? "
        "there are fit, validate, test, predict\n"
    )
