"""``llmco2 doctor``: a verdict for predicting and one for measuring, each finding with its fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata

import pytest

from llmco2.cli import doctor
from llmco2.measurement.doctor import diagnosis as machine
from llmco2.measurement.doctor.finding import FAIL, OK, WARN, Finding
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the machine have the given findings, and the installation a single good one."""
    monkeypatch.setattr(doctor, "check_packages", lambda: [Finding(name="Python", status=OK, found="3.11")])
    monkeypatch.setattr(doctor, "check_shipped", list)

    def machine_has(*findings: Finding) -> None:
        monkeypatch.setattr(machine, "run_checks", lambda **_: findings)

    return machine_has


def test_a_warning_is_shown_with_its_fix_and_is_no_failure(llmco2: Run, found: Callable[..., None]) -> None:
    found(Finding(name="RAPL", status=WARN, found="no counter", fix="run zeusd"))
    assert llmco2("doctor") == Outcome(
        0,
        "To predict: ready\n"
        "  ok    Python  3.11\n"
        "To measure: ready, with warnings\n"
        "  warn  RAPL    no counter\n"
        "                fix: run zeusd\n",
        "",
    )


def test_a_machine_that_cannot_be_measured_still_predicts(llmco2: Run, found: Callable[..., None]) -> None:
    found(Finding(name="driver", status=FAIL, found="no GPU", fix="install the driver", gpu_index=0))
    outcome = llmco2("doctor", "--json")
    assert outcome.status == 1
    report = json.loads(outcome.out)
    assert report["predict"]["verdict"] == "ready"
    assert report["measure"]["verdict"] == "not ready"
    assert report["measure"]["findings"][0]["fix"] == "install the driver"


def test_a_missing_package_fails_and_so_does_the_old_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in {"rich", "zeus"}:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    findings = {finding.name: finding for finding in doctor.check_packages()}
    failures = {name: finding.fix for name, finding in findings.items() if finding.status == FAIL}
    assert set(failures) == {"rich", "pynvml"}
    assert failures["rich"] == "pip install rich"
    assert findings["extra measure"].fix == "pip install 'llmco2[measure]'"
    assert failures["pynvml"].startswith("pip uninstall pynvml")


def test_everything_that_ships_loads() -> None:
    shipped = {finding.name: finding for finding in doctor.check_shipped()}
    assert {finding.status for finding in shipped.values()} == {OK}
    assert int(shipped["GPUs"].found.split()[0]) >= 39
    assert int(shipped["models"].found.split()[0]) >= 133
