"""Which configurations of a campaign are not worth a start, told from their attention alone.

Invariant: of configurations that would run alike, because their model has no attention to choose, the first in
the campaign's order stands for the others; what is known of a model is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from llmco2.errors import explain
from llmco2.measurement.workloads.configuration import RunConfiguration

SupportedAttention = Callable[[RunConfiguration], tuple[str, ...] | None]
_ANY: Final = "eager"  # which value stands for all is of no matter
_Key = tuple[str, str | None, str, str]


class AttentionScreen:
    """Says of each configuration of a campaign why it cannot run, or need not."""

    def __init__(self, configurations: Sequence[RunConfiguration], supported: SupportedAttention) -> None:
        """``supported`` says which values of ``attention`` a configuration's model takes, if that is known."""
        self._configurations = tuple(configurations)
        self._supported = cache(supported)
        self._stand_ins: dict[RunConfiguration, RunConfiguration] = {}

    def reason(self, configuration: RunConfiguration) -> str | None:
        """Return why ``configuration`` is not worth a start, ``None`` where nothing speaks against it."""
        known = self._known(configuration)
        if known is None or configuration.attention in known:
            return None
        if known:
            return explain(
                f"the class of {configuration.model} in transformers states no such attention",
                got=configuration.attention,
                expected=", ".join(known),
            )
        first = self._stand_in(configuration)
        if first == configuration:
            return None
        return explain(
            f"{configuration.model} has no attention to choose",
            got=configuration.attention,
            expected=f"{first.attention}, which stands for all",
        )

    def examples(self) -> list[RunConfiguration]:
        """Return one refused configuration of each model and attention: enough to put on record."""
        first: dict[_Key, RunConfiguration] = {}
        for configuration in self._configurations:
            if _key(configuration) not in first and self.reason(configuration) is not None:
                first[_key(configuration)] = configuration
        return list(first.values())

    def _known(self, configuration: RunConfiguration) -> tuple[str, ...] | None:
        """Ask about the model once, whatever the sizes."""
        model, path, weights, _ = _key(configuration)
        workload, url = configuration.workload, configuration.server_url
        return self._supported(
            RunConfiguration(model=model, model_path=path, weights=weights, workload=workload, server_url=url)
        )

    def _stand_in(self, configuration: RunConfiguration) -> RunConfiguration:
        """Return the first configuration of the campaign that runs just as this one."""
        if not self._stand_ins:
            for other in self._configurations:
                self._stand_ins.setdefault(replace(other, attention=_ANY), other)
        return self._stand_ins.get(replace(configuration, attention=_ANY), configuration)


def _key(configuration: RunConfiguration) -> _Key:
    return (configuration.model, configuration.model_path, configuration.weights, configuration.attention)
