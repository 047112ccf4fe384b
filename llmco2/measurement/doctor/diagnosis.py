"""What stands between this machine and an honest measurement, each finding with its exact fix.

Invariant: a check never raises and never changes the machine; ``fail`` means that measuring will be refused
or wrong, ``warn`` that a label will be weaker or flagged, and both carry a fix.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.doctor import gpu_findings, host_findings
from llmco2.measurement.doctor.finding import FAIL, OK, WARN, Finding
from llmco2.measurement.meters.clock import PollingClock
from llmco2.measurement.meters.nvml import NvmlDriver

_MARKS: Final = {OK: "ok  ", WARN: "warn", FAIL: "FAIL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All findings in one word: ``ready``, ``ready with warnings`` or ``not ready``."""

    text: str
    n_warnings: int
    n_failures: int


def run_checks(
    *,
    environ: Mapping[str, str] | None = None,
    root: Path = Path("/"),
    import_torch: bool = True,
    clock: PollingClock | None = None,
) -> tuple[Finding, ...]:
    """Look at driver, GPUs, host and software; takes up to two seconds, most of it watching counters tick.

    ``environ``, ``root`` (where /proc, /sys and /run are) and ``clock`` are this process's own unless given;
    importing torch to ask it for CUDA takes seconds more and can be left out.
    """
    environ = os.environ if environ is None else environ
    findings: list[Finding] = []
    try:
        driver = NvmlDriver({})  # all GPUs: which of them are in use is a finding of its own
    except MeasurementError as error:
        what, _, fix = str(error).partition("; ")
        findings.append(Finding(name="driver", status=FAIL, found=what, fix=fix))
    else:
        try:
            findings += gpu_findings.check_gpus(driver, environ, clock)
        finally:
            driver.close()
    findings += host_findings.check_host(environ, root)
    findings.append(host_findings.check_compiler())
    if import_torch:
        findings.append(host_findings.check_torch())
    return tuple(findings)


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the findings in one word."""
    statuses = [finding.status for finding in findings]
    n_warnings, n_failures = statuses.count(WARN), statuses.count(FAIL)
    text = "not ready to measure" if n_failures else "ready to measure"
    if n_warnings and not n_failures:
        text += ", with warnings"
    return Verdict(text=text, n_warnings=n_warnings, n_failures=n_failures)


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text: status, name, what was found, and the fix below it."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.status]}  {finding.name:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':<{width + 6}}  fix: {finding.fix}")
    whole = verdict(findings)
    return "\n".join([*lines, f"{whole.text} ({whole.n_failures} failures, {whole.n_warnings} warnings)"])


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings and the verdict as JSON."""
    body = {"verdict": asdict(verdict(findings)), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(body, indent=2)


def doctor_report(*, json_format: bool = False, import_torch: bool = True) -> tuple[str, int]:
    """Check this machine; return the report and the exit code (1 where something fails)."""
    findings = run_checks(import_torch=import_torch)
    report = as_json(findings) if json_format else as_text(findings)
    return report, 1 if verdict(findings).n_failures else 0


def main(argv: Sequence[str] = ()) -> int:
    """Print the report; ``argv`` may hold ``--json`` and ``--no-torch``. Returns the exit code."""
    unknown = sorted(set(argv) - {"--json", "--no-torch"})
    if unknown:
        raise InputError(explain("unknown option of doctor", got=unknown[0], expected="--json or --no-torch"))
    report, code = doctor_report(json_format="--json" in argv, import_torch="--no-torch" not in argv)
    sys.stdout.write(report + "\n")
    return code
