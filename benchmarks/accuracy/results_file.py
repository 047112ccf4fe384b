"""Finished jobs on disk: one JSON line each, written durably before the next is reported.

Invariant: a line is either whole or the last one; what a killed process tore is cut off when the file is opened again.
The first line names the data, and results of other data are refused, never mixed in.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from llmco2.errors import FileFormatError, InputError, explain

RESULTS_FILE: Final = "evaluation.jsonl"
_FORMAT: Final = "llmco2 evaluation results 1"
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKey:
    """What was evaluated: equal keys have equal results."""

    fold: str
    test_sha256: str  # over the sorted run ids of the test rows
    train_sha256: str
    methods: tuple[str, ...]
    seed: int
    code: str  # fingerprint of the method


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """Errors of one finished job; rows in the order of their run ids."""

    key: JobKey
    errors: Mapping[str, NDArray[np.float64]]  # method → (n_test, N_LABELS), NaN where unknown


class ResultsFile:
    """An append-only file of finished jobs; use as a context manager."""

    def __init__(self, path: Path, data_sha256: str) -> None:
        """Open or begin the file; what is on it already is in ``self.finished``.

        Raises:
            InputError: the file holds results of other data, or another process writes to it.
            FileFormatError: the file is something else, or damaged before its last line.
        """
        self.path = path
        self._stream: BinaryIO = path.open("a+b")
        try:
            _lock(path, self._stream)
            whole = _cut_torn_line(self._stream)
            lines = whole.decode("utf-8").splitlines()
            if not lines:
                self._append({"format": _FORMAT, "data_sha256": data_sha256})
            else:
                _check_header(path, lines[0], data_sha256)
            self.finished = {result.key: result for result in _results(path, lines[1:])}
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def add(self, result: JobResult) -> None:
        """Append a finished job; it survives a power cut once this returns."""
        key = result.key
        self._append(
            {
                "fold": key.fold,
                "test_sha256": key.test_sha256,
                "train_sha256": key.train_sha256,
                "methods": key.methods,
                "seed": key.seed,
                "code": key.code,
                "errors": {name: _rows(errors) for name, errors in result.errors.items()},
            }
        )
        self.finished[key] = result

    def _append(self, content: dict[str, Any]) -> None:
        self._stream.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def rounded(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the errors as the file keeps them, so that a resumed run and a straight one agree to the bit."""
    return np.round(errors, _DIGITS)


def _lock(path: Path, stream: BinaryIO) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            explain(f"another evaluation writes to {path}", remedy="wait for it or name another --output")
        ) from None


def _cut_torn_line(stream: BinaryIO) -> bytes:
    stream.seek(0)
    content = stream.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        stream.truncate(end)
        os.fsync(stream.fileno())
    return content[:end]


def _check_header(path: Path, line: str, data_sha256: str) -> None:
    try:
        header = json.loads(line)
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise FileFormatError(
            explain(
                f"{path} holds no results of an evaluation", got=line[:40], remedy="name another --output"
            )
        )
    if header["data_sha256"] != data_sha256:
        raise InputError(
            explain(
                f"{path} holds results of other data",
                got=str(header["data_sha256"])[:12],
                expected=data_sha256[:12],
                remedy="delete it or name another --output",
            )
        )


def _results(path: Path, lines: list[str]) -> Iterator[JobResult]:
    for number, line in enumerate(lines, start=2):
        try:
            row = json.loads(line)
            key = JobKey(
                fold=row["fold"],
                test_sha256=row["test_sha256"],
                train_sha256=row["train_sha256"],
                methods=tuple(row["methods"]),
                seed=row["seed"],
                code=row["code"],
            )
            errors = {name: np.array(rows, dtype=np.float64) for name, rows in row["errors"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                explain(f"{path}, line {number}: damaged", got=repr(error), remedy="delete that line")
            ) from error
        yield JobResult(key=key, errors=errors)


def _rows(errors: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in rounded(errors).tolist()]
