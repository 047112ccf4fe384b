"""Methods are found by name, none twice, and a missing extra is one line with its remedy."""

from __future__ import annotations

import pytest

from benchmarks.accuracy import registry
from benchmarks.accuracy.baselines.nine_constants import METHOD_GROUP as NINE_CONSTANTS
from benchmarks.accuracy.fingerprint import method_group_fingerprint, reachable_modules
from benchmarks.accuracy.shipped import SHIPPED_METHODS
from llmco2.errors import InputError, LLMCO2Error, UnknownNameError


def test_no_method_is_evaluated_twice() -> None:
    every = registry.method_groups()
    names = [name for method_group in every for name in method_group.names]
    assert len(names) == len(set(names))
    assert set(names) == set(registry.method_names(every))


def test_methods_are_chosen_without_regard_to_case() -> None:
    both = (SHIPPED_METHODS, NINE_CONSTANTS)
    assert registry.chosen_methods(" RAW trees, formula", both) == ("formula", "raw trees")
    assert registry.chosen_methods(None, both) == registry.method_names(both)
    with pytest.raises(UnknownNameError, match="did you mean formula"):
        registry.chosen_methods("formulae", both)
    with pytest.raises(InputError, match="names nothing"):
        registry.chosen_methods(" , ", both)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "sklearn" else found(name))
    with pytest.raises(
        LLMCO2Error, match=r"got no module sklearn; pip install 'llmco2\[plots]' scikit-learn"
    ):
        registry.method_groups()


def test_results_depend_on_code_that_fits_and_not_on_code_that_shows() -> None:
    reached = reachable_modules(SHIPPED_METHODS.fold_errors.__module__)
    assert {"llmco2.training.loss", "llmco2.physics.readout", "llmco2.data.splits"} <= reached
    assert not {name for name in reached if name.startswith(("llmco2.cli", "benchmarks.accuracy.tables"))}
    assert method_group_fingerprint(SHIPPED_METHODS) != method_group_fingerprint(NINE_CONSTANTS)
    assert method_group_fingerprint(SHIPPED_METHODS) == method_group_fingerprint(SHIPPED_METHODS)
