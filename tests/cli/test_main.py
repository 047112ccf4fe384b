"""Exit codes and one-line errors, whatever goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import llmco2 as package
from llmco2.cli import main as main_module
from llmco2.errors import CheckpointError, InstallationError, RequestError
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]


def command_that(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Make ``llmco2 doctor`` do ``action``."""
    module = ModuleType("stand_in")

    def add_parser(subparsers: Any) -> None:
        subparsers.add_parser("doctor")

    def run(args: Any) -> Any:
        return action()

    module.add_parser = add_parser  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llmco2.cli.doctor", module)


def raising(error: BaseException) -> Callable[[], Any]:
    def action() -> Any:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RequestError("zero tokens"), 2, "llmco2: zero tokens\n"),
        (CheckpointError("a damaged\n  checkpoint"), 2, "llmco2: a damaged checkpoint\n"),
        (InstallationError("a table is missing"), 1, "llmco2: a table is missing\n"),
        (
            OSError(28, "No space left on device", "x.csv"),
            1,
            "llmco2: [Errno 28] No space left on device: 'x.csv'\n",
        ),
        (KeyboardInterrupt(), 130, "llmco2: interrupted\n"),
    ],
)
def test_each_failure_is_one_line_with_its_exit_code(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str
) -> None:
    command_that(monkeypatch, raising(error))
    assert llmco2("doctor") == Outcome(status, "", line)


def test_a_bug_of_ours_is_not_dressed_up_as_an_input_error(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command_that(monkeypatch, raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        llmco2("doctor")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["prdict"], "unknown command: got 'prdict'; did you mean predict?"),
        (["predict", "m", "--gpu", "g", "--batchsize", "8"], "got --batchsize; did you mean --batch-size"),
        (
            ["predict", "m", "--gpu", "g", "--batch-size=eight"],
            "argument --batch-size: not a number: got 'eight'",
        ),
        (
            ["predict", "m", "--gpu", "g", "--tensor-parallel", "1.5"],
            "--tensor-parallel: not a whole number: got '1.5'",
        ),
        (["predict", "m", "--gpu", "g", "--format", "xml"], "--format"),
        (["predict", "m", "extra", "--gpu", "g"], "unexpected argument: got 'extra'"),
        (["predict", "m", "--gpu"], "argument --gpu: expected one argument"),
        (
            ["predict", "m"],
            "--gpu GPU is missing: expected llmco2 predict MODEL --gpu GPU, or --requests FILE",
        ),
        (["predict", "--gpu", "g"], "MODEL is missing"),
        (["gpus", "H1O0"], "did you mean"),
        (["zones", "atlantis-9"], "no entry of zones matches"),
        (["--batch-size", "8"], "llmco2"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    llmco2: Run, argv: list[str], says: str
) -> None:
    outcome = llmco2(*argv)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("llmco2: ")
    assert says in outcome.err


def test_no_command_prints_the_help_and_fails(llmco2: Run) -> None:
    outcome = llmco2()
    assert outcome.status == 2
    assert all(f"\n    {command} " in outcome.err for command in main_module.COMMANDS)


def test_every_line_of_the_commands_own_wording_fits_eighty_columns(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for argv in ((), ("predict",), ("calibrate",)):
        out = llmco2(*argv, "--help").out
        assert max(map(len, out.splitlines())) <= 80, argv
    listed = llmco2("--help").out.partition("COMMAND\n")[2].partition("\n\n")[0]
    assert re.findall(r"^    (\w+)", listed, flags=re.MULTILINE) == list(main_module.COMMANDS)


def test_version(llmco2: Run) -> None:
    assert llmco2("--version") == Outcome(0, f"llmco2 {package.__version__}\n", "")


def test_a_part_that_is_not_installed_is_named(llmco2: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llmco2_tui.cli", None)
    outcome = llmco2("monitor")
    assert outcome.status == 1
    assert outcome.err.startswith("llmco2: llmco2 monitor cannot run here: ")
    assert outcome.err.count("\n") == 1


def test_train_hands_its_arguments_on_untouched(llmco2: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    training, cli = ModuleType("llmco2.training"), ModuleType("llmco2.training.cli")
    cli.main = seen.append  # type: ignore[attr-defined]
    cli.SUBCOMMANDS = ("fit",)  # type: ignore[attr-defined]
    training.cli = cli  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llmco2.training", training)
    monkeypatch.setitem(sys.modules, "llmco2.training.cli", cli)
    argv = ["fit", "--help", "--config", "x.yaml", "--trainer.max_epochs=1"]
    assert llmco2("train", *argv).status == 0
    assert seen == [argv]


def test_a_model_is_found_by_its_other_names_too(llmco2: Run) -> None:
    lines = llmco2("models", "llama-3.3").out.splitlines()
    (line,) = (line for line in lines if line.startswith("meta-llama/Llama-3.3-70B-Instruct "))
    assert line.split()[1:3] == ["llama", "80"]
    assert line.endswith(" bf16  shape of meta-llama/Llama-3.1-70B")
    assert "shape of" not in llmco2("models").out


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            "meta-llama/Llama-3.3-70B-Instruct",
            ["meta-llama/Llama-3.3-70B-Instruct has the shape of meta-llama/Llama-3.1-70B"],
        ),
        ("llama3.1:70b", []),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic", []),
    ],
)
def test_a_model_that_shares_anothers_shape_keeps_its_name_and_says_whose(
    llmco2: Run, model: str, says: list[str]
) -> None:
    outcome = llmco2("predict", model, "--gpu", "H100", "--tensor-parallel", "4", "--format", "json")
    (answer,) = json.loads(outcome.out)
    assert (outcome.status, outcome.err) == (0, "")
    assert [note for note in answer["details"]["notes"] if "shape of" in note] == says
    assert answer["model"] == ("meta-llama/Llama-3.3-70B-Instruct" if says else "meta-llama/Llama-3.1-70B")


def test_the_first_line_says_what_was_assumed_of_a_model(llmco2: Run, tmp_path: Path) -> None:
    shape = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    config = shape | {"model_type": "brandnew", "architectures": ["BrandNewForCausalLM"], "vocab_size": 32000}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    first = " ".join(llmco2("predict", str(tmp_path), "--gpu", "H100").out.split("batch 1")[0].split())
    assert "'brandnew' is not known here and is read as a Llama-like decoder of 8.05B parameters" in first


@pytest.mark.parametrize(("pattern", "found"), [("fra", "FRA "), ("eu-west-3", "aws:eu-west-3")])
def test_zones_are_found_by_any_part_of_their_line(llmco2: Run, pattern: str, found: str) -> None:
    outcome = llmco2("zones", pattern)
    assert outcome.status == 0
    assert found in outcome.out


def test_one_model_is_shown_with_its_size_and_the_format_of_each_part(llmco2: Run, tmp_path: Path) -> None:
    facts = dict(line.split("  ", 1) for line in llmco2("models", "show", "llama-3.1-8b").out.splitlines())
    assert facts["model"].strip() == "meta-llama/Llama-3.1-8B"
    assert facts["layers"].strip() == "full_attention 32, dense_mlp 32"
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 128,
        "quantization_config": {"quant_method": "fp8", "modules_to_not_convert": ["self_attn"]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (shown,) = json.loads(llmco2("models", "show", str(tmp_path), "--format", "json").out)
    attention, mlp, tables, norms = 2 * 4 * 64 * 64, 2 * 3 * 64 * 96, 2 * 128 * 64, 5 * 64
    assert shown["total_parameters"] == shown["active_parameters"] == attention + mlp + tables + norms
    assert shown["weight_bytes"] == 2 * (attention + tables + norms) + mlp
    assert shown["bytes_read_per_token"] == shown["weight_bytes"] - 2 * 127 * 64
    assert shown["kv_bytes_per_token"] == 2 * 2 * 64 * 2
    assert shown["precision"] == {
        "attention": "bf16",
        "dense_mlp": "fp8",
        "lm_head": "bf16",
        "embedding": "bf16",
    }
    assert (shown["kv_precision"], shown["confidence"]) == ("bf16", "high")


def test_one_gpu_is_shown_with_its_figures_and_sources(llmco2: Run) -> None:
    facts = dict(line.split("  ", 1) for line in llmco2("gpus", "show", "gpu:h100:4").out.splitlines())
    facts = {name: text.strip() for name, text in facts.items()}
    assert facts["gpu"] == "H100-SXM5-80GB"
    assert (facts["n_gpus"], facts["said_by"]) == ("4", "gpu:h100:4")
    assert "bf16 989.4" in facts["dense_peak_tflops"]
    (shown,) = json.loads(llmco2("gpus", "show", "GH200", "--format", "json").out)
    assert (shown["gpu"], shown["n_gpus"], shown["power_limit_w"]) == ("GH200-96GB", 1, 700)
    assert shown["dense_peak_tflops"]["fp8"] == 1979
    assert shown["source"]
    assert shown["note"]


def test_engines_precisions_and_every_listing_are_shown_to_machines_too(llmco2: Run) -> None:
    engines = json.loads(llmco2("engines", "--format", "json").out)
    assert {"unknown", "vllm", "sglang", "llama.cpp"} <= {row["engine"] for row in engines}
    (fp8,) = json.loads(llmco2("precisions", "fp8-block", "--format", "json").out)
    assert (fp8["precision"], fp8["runs_on"]) == ("fp8-block", "fp8")
    for listing in ("models", "gpus", "zones", "engines", "precisions"):
        assert len(json.loads(llmco2(listing, "--format", "json").out)) > 10, listing


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("gpus", "show"), "the gpu to show is missing"),
        (("gpus", "show", "H20O"), "unknown GPU: got 'H20O'"),
        (("gpus", "H100", "H200"), "unexpected argument: got 'H200'"),
        (("gpus", "show", "x" * 5000), "(5,002 characters)"),
        (("engines", "vlm9"), "no entry of engines matches"),
    ],
)
def test_what_cannot_be_shown_is_one_line(llmco2: Run, argv: tuple[str, ...], message: str) -> None:
    outcome = llmco2(*argv)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err
    assert len(outcome.err) < 500


def test_the_listings_show_what_the_catalogs_hold(llmco2: Run) -> None:
    gpus = llmco2("gpus", "h100-sxm5").out.splitlines()
    assert gpus[0].split() == ["gpu", "architecture", "memory", "power", "limit", "precisions"]
    assert gpus[1].startswith("H100-SXM5-80GB")
    assert " 700 W " in gpus[1]
    (line,) = [line for line in llmco2("models", "Mixtral-8x7B").out.splitlines() if "/Mixtral-8x7B" in line][
        :1
    ]
    assert "2 of 8" in line
    assert "32/8" in line


def test_a_reader_that_leaves_the_pipe_is_no_error() -> None:
    code = "import sys; from llmco2.cli.main import main; sys.exit(main(['zones']))"
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=60
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == main_module.EXIT_BROKEN_PIPE


def test_a_console_that_lacks_a_character_gets_a_substitute(
    llmco2: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    command_that(monkeypatch, lambda: print("é") or 0)
    assert main_module.main(["doctor"]) == 0
    assert raw.getvalue() == b"?\n"
