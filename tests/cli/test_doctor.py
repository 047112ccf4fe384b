"""``llmco2 doctor``: each finding with its fix; a problem fails the command, a note does not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import pytest

from llmco2.cli import doctor
from llmco2.cli.doctor import Finding
from tests.cli.conftest import Outcome


def checks(*findings: Finding) -> tuple[Callable[[], tuple[Finding, ...]], ...]:
    return (lambda: findings,)


def test_a_note_is_shown_with_its_fix_and_is_no_failure(
    llmco2: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Finding(status="note", subject="host", found="no counter", fix="run zeusd")
    monkeypatch.setattr(doctor, "CHECKS", checks(note))
    outcome = llmco2("doctor")
    assert outcome.status == 0
    assert [line.split() for line in outcome.out.splitlines()] == [
        ["note", "host", "no", "counter"],
        ["fix:", "run", "zeusd"],
    ]


def test_a_problem_fails(llmco2: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Finding(status="problem", subject="GPU 0", found="MIG is on")
    monkeypatch.setattr(doctor, "CHECKS", checks(problem))
    outcome = llmco2("doctor")
    assert outcome.status == 1
    assert outcome.out == "PROBLEM  GPU 0  MIG is on\n"


def test_a_missing_package_is_a_problem_and_the_old_pynvml_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "zeus":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    problems = [finding for finding in doctor.check_packages() if finding.status == "problem"]
    assert [finding.subject for finding in problems] == ["zeus", "pynvml"]
    assert all(finding.fix for finding in problems)


def test_the_tables_are_counted() -> None:
    found = {finding.subject: finding for finding in doctor.check_tables()}
    assert {found[name].status for name in ("models", "GPUs", "grid zones")} == {"ok"}
    assert int(found["GPUs"].found.split()[0]) >= 39
