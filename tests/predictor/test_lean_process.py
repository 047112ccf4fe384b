"""A cold prediction of one request loads nothing heavy, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = (
    "torch",
    "torch_geometric",
    "pandas",
    "lightning",
    "scipy",
    "zeus",
    "pynvml",
    "textual",
    "pyarrow",
    "sklearn",
    "transformers",
    "ecologits",
    "jsonargparse",
)
COMMAND = """
import sys
from llmco2.cli.main import main
status = main(["predict", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100-SXM5-80GB", "--zone", "FRA",
               "--checkpoint", sys.argv[1]])
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(status)
"""
LIBRARY = """
import sys
import llmco2
assert "numpy" not in sys.modules, "the package root is lazy"
footprint = llmco2.predict(model="Qwen/Qwen3-8B", gpu="A100-SXM4-80GB", checkpoint=sys.argv[1])
print(f"answered: {footprint.total.energy_j:.3g}")
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded_by(program: str, checkpoint: Path) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint)], capture_output=True, text=True, check=True
    )
    *shown, last = done.stdout.splitlines()
    assert last.startswith("loaded: ")
    assert done.stderr == ""
    return "\n".join(shown), set(last.split()[1:])


def test_the_command_line_answers_without_anything_heavy(random_checkpoint_path: Path) -> None:
    shown, loaded = loaded_by(COMMAND, random_checkpoint_path)
    assert "decode" in shown
    assert loaded.isdisjoint(HEAVY)


def test_the_library_answers_without_anything_heavy(random_checkpoint_path: Path) -> None:
    shown, loaded = loaded_by(LIBRARY, random_checkpoint_path)
    assert shown.startswith("answered: ")
    assert loaded.isdisjoint({*HEAVY, "rich"})
