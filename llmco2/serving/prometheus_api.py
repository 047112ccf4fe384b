"""Asking a Prometheus for the newest values of series.

Invariant: an answer is a list of finite numbers with their labels, or one line; a NaN is no value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from llmco2.errors import explain
from llmco2.serving.client import Limits, PageClient
from llmco2.serving.errors import DAMAGED, REFUSED, ServerError
from llmco2.serving.exposition import printable

MAX_ANSWER_BYTES: Final = 64 << 20
MAX_SERIES: Final = 100_000
_SLOW: Final = Limits(connect_s=5.0, page_s=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One series: its labels, ``__name__`` among them where the query keeps it, and its value."""

    labels: Mapping[str, str]
    value: float


class PrometheusClient:
    """Asks one Prometheus; close it after use."""

    def __init__(self, url: str, *, limits: Limits = _SLOW) -> None:
        """``url`` is that of the web page, such as http://prom:9090, with its path prefix where it has one."""
        self._client = PageClient(url, limits=limits)
        self.url = str(self._client.url)
        self._prefix = self._client.url.path.rstrip("/")

    def query(self, expression: str) -> list[Value]:
        """Return the values of an instant query.

        Raises:
            ServerError: it cannot be reached, refuses the query, or answers with something else.
        """
        path = f"{self._prefix}/api/v1/query?query={quote(expression)}"
        answer = self._client.facts(path, limit=MAX_ANSWER_BYTES, refusals=True)
        return values_of(answer)

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def values_of(answer: Any) -> list[Value]:
    """Return the values of the API's answer to an instant query; raises ServerError for anything else."""
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        raise ServerError(DAMAGED, explain("no answer of a Prometheus", got=printable(repr(answer)[:80])))
    if answer["status"] == "error":
        got = printable(f"{answer.get('errorType')}: {answer.get('error')}", 200)
        raise ServerError(REFUSED, explain("Prometheus refuses the query", got=got))
    data = answer.get("data")
    result = data.get("result") if isinstance(data, dict) and data.get("resultType") == "vector" else None
    if not isinstance(result, list) or len(result) > MAX_SERIES:
        raise ServerError(
            DAMAGED, explain("no vector of a Prometheus", expected=f"at most {MAX_SERIES:,} series")
        )
    found = (_value(entry) for entry in result)
    return [value for value in found if value is not None]


def _value(entry: Any) -> Value | None:
    try:
        labels = {str(name): str(text) for name, text in entry["metric"].items()}
        value = float(entry["value"][1])
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        got = printable(repr(entry)[:80])
        raise ServerError(DAMAGED, explain("a damaged series of a Prometheus", got=got)) from error
    return Value(labels=labels, value=value) if math.isfinite(value) else None
