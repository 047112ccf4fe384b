"""``llmco2 doctor``: what this machine and this installation can do, and the fix for what they cannot.

Invariant: nothing is changed and nothing is guessed; a check that cannot be made says so. A missing GPU is a
note, not a problem: predicting needs none.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Final, Literal

from llmco2.errors import LLMCO2Error

Status = Literal["ok", "note", "problem"]
_MARKS: Final[dict[Status, str]] = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
_REQUIRED: Final = (
    *("numpy", "pandas", "pyarrow", "rich", "torch", "torch-geometric", "lightning", "jsonargparse"),
    *("nvidia-ml-py", "zeus", "textual", "ecologits"),
)
_OPTIONAL: Final = {"transformers": "in-process measurement", "accelerate": "in-process measurement"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: how it ended, what was looked at, what was found, and what mends it."""

    status: Status
    subject: str
    found: str
    fix: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``llmco2 doctor``."""
    text = "check this machine and installation, with a fix for each finding"
    subparsers.add_parser("doctor", help=text, description=text.capitalize() + ".")


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - every command takes its arguments
    """Print every finding; return 1 if one of them is a problem."""
    findings = [finding for check in CHECKS for finding in check()]
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{_MARKS[finding.status]:7}  {finding.subject:{width}}  {finding.found}\n")
        if finding.fix:
            sys.stdout.write(f"{'':7}  {'':{width}}  fix: {finding.fix}\n")
    return 1 if any(finding.status == "problem" for finding in findings) else 0


def check_packages() -> Iterable[Finding]:
    """Look for the packages that llmco2 stands on, without importing any."""
    yield Finding(
        status="ok", subject="Python", found=f"{platform.python_version()} on {platform.platform()}"
    )
    found = {name: _version(name) for name in (*_REQUIRED, *_OPTIONAL)}
    missing = [name for name in _REQUIRED if found[name] is None]
    present = ", ".join(f"{name} {found[name]}" for name in _REQUIRED if found[name] is not None)
    yield Finding(status="ok", subject="packages", found=present)
    for name in missing:
        yield Finding(status="problem", subject=name, found="not installed", fix="pip install llmco2")
    for name, purpose in _OPTIONAL.items():
        if found[name] is None:
            fix = "pip install 'llmco2[transformers]'"
            yield Finding(status="note", subject=name, found=f"not installed; {purpose} needs it", fix=fix)
    if _version("pynvml") is not None:
        yield Finding(
            status="problem",
            subject="pynvml",
            found="the old distribution of this name hides the module that zeus needs",
            fix="pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py",
        )


def check_tables() -> Iterable[Finding]:
    """Load the shipped tables and the checkpoint."""
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
    for subject, load in loaders.items():
        try:
            yield Finding(status="ok", subject=subject, found=load())
        except LLMCO2Error as error:
            yield Finding(status="problem", subject=subject, found=str(error), fix="reinstall llmco2")


def check_gpus() -> Iterable[Finding]:
    """Ask the driver what it can measure."""
    from llmco2.measurement.nvml import NvmlDriver  # noqa: PLC0415

    try:
        driver = NvmlDriver()
    except LLMCO2Error as error:
        yield Finding(status="note", subject="GPU", found=f"{error}; predicting needs none")
        return
    try:
        if driver.simulated:
            yield Finding(status="note", subject="driver", found="SIMULATED: no figure here is a measurement")
        devices = driver.devices()
    except LLMCO2Error as error:
        yield Finding(status="problem", subject="GPU", found=str(error))
        return
    finally:
        driver.close()
    for device in devices:
        subject = f"GPU {device.index}"
        limit = "limit unknown" if device.power_limit_w is None else f"limit {device.power_limit_w:g} W"
        yield Finding(
            status="ok", subject=subject, found=f"{device.name}, {limit}, driver {device.driver_version}"
        )
        if device.mig:
            found = "MIG is on: joules of a slice cannot be had"
            fix = f"sudo nvidia-smi -i {device.nvml_index} -mig 0"
            yield Finding(status="problem", subject=subject, found=found, fix=fix)
        if not device.has_energy_counter:
            found = "no energy counter: energy is integrated from power, and rows say so"
            yield Finding(status="note", subject=subject, found=found)
        if device.shared:
            found = "other processes are on it: their energy would be counted too"
            fix = f"nvidia-smi -i {device.nvml_index} lists them; stop them, or choose another GPU"
            yield Finding(status="note", subject=subject, found=found, fix=fix)


def check_host() -> Iterable[Finding]:
    """Ask whether CPU and memory energy can be read."""
    from llmco2.measurement.host import find_host_energy  # noqa: PLC0415

    host = find_host_energy()
    if host.reason is None:
        parts = "CPU and memory" if host.has_dram else "CPU"
        way = "through zeusd" if host.through_zeusd else "from RAPL"
        yield Finding(status="ok", subject="host", found=f"{parts} energy {way}")
        return
    fix = "run zeusd as root, or allow reading: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    yield Finding(
        status="note",
        subject="host",
        found=f"CPU energy cannot be measured: {host.reason}",
        fix=fix if "root" in host.reason else "",
    )


CHECKS: Final = (check_packages, check_tables, check_gpus, check_host)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
