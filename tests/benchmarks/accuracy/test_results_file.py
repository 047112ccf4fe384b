"""Finished jobs survive torn writes; results of other data or of other programs are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.results_file import JobKey, JobResult, ResultsFile, rounded
from llmco2.errors import FileFormatError, InputError

ERRORS = np.array([[np.nan, 0.123456789, -1.5], [0.0, np.nan, 2.0]])


def result(seed: int) -> JobResult:
    key = JobKey(
        fold="board A", test_sha256="t", train_sha256="r", methods=("formula",), seed=seed, code="0" * 16
    )
    return JobResult(key=key, errors={"formula": ERRORS})


def written(path: Path, n: int) -> bytes:
    with ResultsFile(path, "d" * 64) as results:
        for seed in range(n):
            results.add(result(seed))
    return path.read_bytes()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    written(path, 2)
    with ResultsFile(path, "d" * 64) as results:
        assert set(results.finished) == {result(0).key, result(1).key}
        np.testing.assert_array_equal(results.finished[result(1).key].errors["formula"], rounded(ERRORS))


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    whole = written(path, 3)
    path.write_bytes(whole[:-cut])
    with ResultsFile(path, "d" * 64) as results:
        assert set(results.finished) == {result(0).key, result(1).key}
        results.add(result(2))
    assert path.read_bytes() == whole


def test_a_torn_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"format":"llmco2 eval')
    assert written(path, 1).count(b"\n") == 2


def test_results_of_other_data_are_refused_in_one_line_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    before = written(path, 1)
    with pytest.raises(
        InputError, match=r"results of other data: got dddd.*expected eeee.*another --output"
    ) as caught:
        ResultsFile(path, "e" * 64)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_two_evaluations_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with ResultsFile(path, "d" * 64), pytest.raises(InputError, match="another evaluation writes"):
        ResultsFile(path, "d" * 64)
    written(path, 1)


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"format":"other"}\n'])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="holds no results"):
        ResultsFile(path, "d" * 64)


def test_damage_before_the_last_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = written(path, 2).splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken}\n" + lines[2])
    with pytest.raises(FileFormatError, match="line 2: damaged"):
        ResultsFile(path, "d" * 64)
