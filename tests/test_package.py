"""What an import drags in, and what a tracked file may say."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import pytest

import llmco2

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "torch_geometric",
    "lightning",
    "pandas",
    "pyarrow",
    "zeus",
    "textual",
    "transformers",
    "numpy",
    "rich",
)
# What one prediction may not load: seconds of import, none of it needed for arithmetic.
NOT_FOR_ONE_PREDICTION = ("ecologits", *(name for name in HEAVY if name not in ("numpy", "rich")))


def loaded_after(code: str, *names: str) -> list[str]:
    """Return which of ``names`` are loaded after ``code`` ran in a fresh interpreter."""
    script = f"import sys\n{code}\nprint('LOADED', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import llmco2", *HEAVY) == []


@pytest.mark.parametrize("command", ["gpus", "zones", "models"])
def test_a_listing_loads_no_numerical_library(command: str) -> None:
    code = f"from llmco2.cli.main import main; assert main([{command!r}]) == 0"
    assert loaded_after(code, *NOT_FOR_ONE_PREDICTION) == []


def test_one_prediction_loads_no_framework() -> None:
    code = (
        "import llmco2\n"
        "llmco2.predict(model='Qwen/Qwen3-8B', gpu='A100-SXM4-80GB', tensor_parallel=2, batch_size=16)"
    )
    assert loaded_after(code, *NOT_FOR_ONE_PREDICTION) == []


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_nor_does_its_report(kind: str) -> None:
    argv = ["predict", "Qwen/Qwen3-8B", "--gpu", "A100-SXM4-80GB", "--zone", "FRA", "--format", kind]
    code = f"from llmco2.cli.main import main; assert main({argv!r}) == 0"
    assert loaded_after(code, *NOT_FOR_ONE_PREDICTION) == []


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    assert loaded_after("import llmco2.cli.main", *HEAVY) == []


def test_the_package_names_its_front_door_and_nothing_else() -> None:
    assert dir(llmco2) == [
        "Choice",
        "Footprint",
        "InputError",
        "LLMCO2Error",
        "__version__",
        "choose",
        "predict",
        "predict_frame",
    ]
    assert all(getattr(llmco2, name).__doc__ for name in dir(llmco2))
    with pytest.raises(AttributeError, match="has no attribute 'predicts'"):
        llmco2.predicts  # noqa: B018


def test_what_the_package_says_of_a_footprint_holds() -> None:
    footprint = llmco2.predict(model="Qwen/Qwen3-8B", gpu="H100-SXM5-80GB", engine="vllm", batch_size=8)
    assert isinstance(footprint, llmco2.Footprint)
    assert pickle.loads(pickle.dumps(footprint)) == footprint  # noqa: S301 - our own bytes
    assert {footprint: 1}[footprint] == 1
    for expression in re.findall(r"^    (footprint\.[\w.]+)", llmco2.__doc__ or "", flags=re.MULTILINE):
        assert attrgetter(expression.removeprefix("footprint."))(footprint) is not None
    with pytest.raises(llmco2.InputError, match="zone is not a name: got 3, expected text"):
        llmco2.predict(model="Qwen/Qwen3-8B", gpu="H100-SXM5-80GB", zone=3)  # type: ignore[arg-type]


def test_threads_answer_as_one_does() -> None:
    def energy_j(batch_size: int) -> float:
        return llmco2.predict(
            model="Qwen/Qwen3-8B", gpu="H100-SXM5-80GB", batch_size=batch_size
        ).total.energy_j

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(energy_j, range(1, 33))) == list(map(energy_j, range(1, 33)))


def tracked_files() -> list[Path]:
    """Return the files of the repository that are text, or skip outside of one."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("the sources are no git checkout, so there is no list of tracked files")
    names = [name for name in done.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file() and Path(name).suffix not in BINARY]


BINARY = {".npz", ".parquet", ".gz", ".png", ".whl"}
# Folders of one person's machine, and addresses of package registries: neither means anything to anyone else.
FORBIDDEN = re.compile(
    r"(?<![\w.~])/(?:root|work|home/\w+|Users/\w+)/"
    r"|(?:files\.)?python" + r"hosted\.org|(?<![\w.-])py" + r"pi\.org/simple|download\.py" + r"torch\.org"
    r"|(?:extra-)?index-url\s*=?\s*\w+://"
)


def test_no_tracked_file_names_a_machine_path_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if (match := FORBIDDEN.search(line))
    ]
    assert found == []
