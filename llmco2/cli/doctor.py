"""``llmco2 doctor``: is the installation whole, and can this machine be measured; each finding with its fix.

Invariant: nothing is changed and nothing is guessed. Predicting and measuring get a verdict each: a machine
without a GPU predicts as well as any other.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import metadata
from typing import Any, Final

from llmco2.errors import LLMCO2Error
from llmco2.measurement.doctor.finding import FAIL, OK, WARN, Finding

_MARKS: Final = {OK: "ok  ", WARN: "warn", FAIL: "FAIL"}
_REQUIRED: Final = (
    *("numpy", "pandas", "rich", "textual", "nvidia-ml-py", "httpx", "prometheus-client", "PyYAML"),
)
_OPTIONAL: Final = {  # the extra that brings it
    "pyarrow": "parquet",
    "zeus": "measure",
    "torch": "measure",
    "transformers": "measure",
    "accelerate": "measure",
    "lightning": "train",
    "torch-geometric": "train",
    "jsonargparse": "train",
    "tensorboard": "train",
    "matplotlib": "plots",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 doctor``."""
    text = "check this machine and installation, with a fix for each fault"
    parser = subparsers.add_parser("doctor", help=text, description=text.capitalize() + ".")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--no-torch", action="store_true", help="skip the check that loads torch (seconds)")


def run(args: argparse.Namespace) -> int:
    """Print every finding; return 1 if something fails, whether to predict or to measure."""
    from llmco2.measurement.doctor.diagnosis import run_checks  # noqa: PLC0415 - the driver, and up to two seconds

    parts = {
        "predict": [*check_packages(), *check_shipped()],
        "measure": list(run_checks(import_torch=not args.no_torch)),
    }
    sys.stdout.write(_as_json(parts) if args.json else _as_text(parts))
    return int(any(finding.status == FAIL for findings in parts.values() for finding in findings))


def check_packages() -> Iterable[Finding]:
    """Look for the packages that llmco2 stands on, without importing any."""
    yield Finding(name="Python", status=OK, found=f"{platform.python_version()} on {platform.platform()}")
    versions = {name: _version(name) for name in (*_REQUIRED, *_OPTIONAL)}
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    yield Finding(name="packages", status=OK, found=present)
    for name in _REQUIRED:
        if versions[name] is None:
            yield Finding(name=name, status=FAIL, found="not installed", fix=f"pip install {name}")
    for extra in dict.fromkeys(_OPTIONAL.values()):
        absent = [name for name, own in _OPTIONAL.items() if own == extra and versions[name] is None]
        if absent:
            found = f"not installed, and not needed to predict: {', '.join(absent)}"
            yield Finding(name=f"extra {extra}", status=OK, found=found, fix=f"pip install 'llmco2[{extra}]'")
    if _version("pynvml") is not None:
        yield Finding(
            name="pynvml",
            status=FAIL,
            found="the old distribution of this name hides the module that zeus needs",
            fix="pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py",
        )


def check_shipped() -> Iterable[Finding]:
    """Load the tables and the checkpoint that ship with the package."""
    from llmco2.catalog.gpus import load_gpus  # noqa: PLC0415
    from llmco2.catalog.grids import all_zones  # noqa: PLC0415
    from llmco2.catalog.models import load_models  # noqa: PLC0415
    from llmco2.predictor.checkpoint import load_checkpoint  # noqa: PLC0415

    loaders: dict[str, Callable[[], str]] = {
        "models": lambda: f"{len(load_models())} known",
        "GPUs": lambda: f"{len(load_gpus())} known",
        "grid zones": lambda: f"{len(all_zones())} known",
        "checkpoint": lambda: load_checkpoint().name,
    }
    for name, load in loaders.items():
        try:
            yield Finding(name=name, status=OK, found=load())
        except LLMCO2Error as error:
            fix = "pip install --force-reinstall llmco2"
            yield Finding(name=name, status=FAIL, found=str(error), fix=fix)


def _as_text(parts: dict[str, list[Finding]]) -> str:
    width = max(len(finding.name) for findings in parts.values() for finding in findings)
    lines = []
    for purpose, findings in parts.items():
        lines.append(f"To {purpose}: {_verdict(findings)}")
        for finding in findings:
            lines.append(f"  {_MARKS[finding.status]}  {finding.name:{width}}  {finding.found}")
            if finding.fix:
                lines.append(f"  {'':4}  {'':{width}}  fix: {finding.fix}")
    return "\n".join(lines) + "\n"


def _as_json(parts: dict[str, list[Finding]]) -> str:
    body: dict[str, Any] = {
        purpose: {"verdict": _verdict(findings), "findings": [asdict(finding) for finding in findings]}
        for purpose, findings in parts.items()
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _verdict(findings: Iterable[Finding]) -> str:
    statuses = {finding.status for finding in findings}
    if FAIL in statuses:
        return "not ready"
    return "ready, with warnings" if WARN in statuses else "ready"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
