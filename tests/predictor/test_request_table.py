"""A cell means the same in any dtype; columns are named, gaps filled, and what is none of ours is kept."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llmco2.errors import InputError
from llmco2.predictor.api import predict_frame
from llmco2.predictor.request_table import read_request_table
from llmco2.records.columns import ANSWER_COLUMNS

PLAIN = pd.DataFrame(
    {
        "model": ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-8B", "no/such-model"],
        "gpu": ["H100-SXM5-80GB", "A100-SXM4-80GB", "H100-SXM5-80GB", "A100-SXM4-80GB"],
        "tensor_parallel": [1, 2, 4, 1],
        "engine": ["vllm", "hf-eager", "unknown", "vllm"],
        "batch_size": [1, 8, 32, 1],
        "prompt_tokens": [100, 1020, 512, 7],
        "output_tokens": [129, 16, 1, 9],
        "serving": ["static", "continuous", "static", "static"],
    }
)
NUMBERS = ("tensor_parallel", "batch_size", "prompt_tokens", "output_tokens")
TEXTS = ("model", "gpu", "engine", "serving")


def each(names: tuple[str, ...], dtype: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.astype(dict.fromkeys(names, dtype))


DTYPES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "int32": each(NUMBERS, "int32"),
    "uint64": each(NUMBERS, "uint64"),
    "float32": each(NUMBERS, "float32"),
    "float16": each(NUMBERS, "float16"),
    "nullable integers": each(NUMBERS, "Int64"),
    "nullable floats": each(NUMBERS, "Float32"),
    "pyarrow integers": each(NUMBERS, pd.ArrowDtype(pa.int16())),
    "pyarrow floats": each(NUMBERS, pd.ArrowDtype(pa.float64())),
    "numbers as text": each(NUMBERS, "str"),
    "numbers as objects": each(NUMBERS, object),
    "numbers as categories": each(NUMBERS, "category"),
    "numbers as pyarrow text": lambda table: table.astype(dict.fromkeys(NUMBERS, str)).astype(
        dict.fromkeys(NUMBERS, pd.ArrowDtype(pa.string()))
    ),
    "decimals": lambda table: table.assign(batch_size=table["batch_size"].map(Decimal)),
    "names as objects": each(TEXTS, object),
    "names as categories": each(TEXTS, "category"),
    "names as pyarrow text": each(TEXTS, pd.ArrowDtype(pa.string())),
    "names as a pyarrow dictionary": each(TEXTS, pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    "names with blanks around": lambda table: table.assign(**{n: " " + table[n] + "\t" for n in TEXTS}),
    "all objects": lambda table: table.astype(object),
    "convert_dtypes": lambda table: table.convert_dtypes(),
    "a pyarrow table": lambda table: table.convert_dtypes(dtype_backend="pyarrow"),
}


@pytest.mark.parametrize("kind", DTYPES)
def test_a_cell_means_the_same_in_any_dtype(kind: str, random_checkpoint_path: Path) -> None:
    expected = predict_frame(PLAIN, checkpoint=str(random_checkpoint_path))
    answers = predict_frame(DTYPES[kind](PLAIN), checkpoint=str(random_checkpoint_path))
    pd.testing.assert_frame_equal(answers[list(ANSWER_COLUMNS)], expected[list(ANSWER_COLUMNS)])
    assert expected["error"].str.len().gt(0).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "gaps",
    [
        [None, 129],
        [np.nan, 129.0],
        ["", "129"],
        ["  ", 129],
        pd.array([None, 129], dtype="Int64"),
        pd.Series([None, 129], dtype=pd.ArrowDtype(pa.int64())),
        pd.Categorical([None, 129]),
        pd.array([None, "129"], dtype=pd.StringDtype()),
        [pd.NaT, 129],
    ],
    ids=str,
)
def test_an_empty_cell_takes_the_default(gaps: Any, random_checkpoint_path: Path) -> None:
    table = pd.DataFrame({"model": "Qwen/Qwen3-8B", "gpu": ["H100-SXM5-80GB"] * 2, "output_tokens": gaps})
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].tolist() == ["", ""]
    assert answers["energy_j"].iloc[0] == answers["energy_j"].iloc[1]  # 129 is the default


@pytest.mark.parametrize("gap", [None, np.nan, "", "  ", pd.NA])
def test_an_empty_name_is_missing_where_it_is_required_and_unknown_elsewhere(
    gap: Any, random_checkpoint_path: Path
) -> None:
    sound = {"model": "Qwen/Qwen3-8B", "gpu": "H100-SXM5-80GB", "engine": "unknown"}
    table = pd.DataFrame([{**sound, name: gap} for name in sound], dtype=object)
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].tolist() == [
        "model is missing: expected a name (llmco2 models lists them)",
        "gpu is missing: expected a name (llmco2 gpus lists them)",
        "",
    ]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("many", "prompt_tokens is not a number: got 'many', expected 1 to 10,000,000"),
        (True, "prompt_tokens is not a number: got True, expected 1 to 10,000,000"),
        (np.False_, "prompt_tokens is not a number: got False, expected 1 to 10,000,000"),
        ([5], "prompt_tokens is not a number: got [5], expected 1 to 10,000,000"),
        (1j, "prompt_tokens is not a number: got 1j, expected 1 to 10,000,000"),
        (b"5", "prompt_tokens is not a number: got b'5', expected 1 to 10,000,000"),
        (-1, "prompt_tokens is out of range: got -1, expected from 1 to 10,000,000"),
        ("0", "prompt_tokens is out of range: got 0, expected from 1 to 10,000,000"),
        (10**400, "prompt_tokens is out of range: got more than 1e+300, expected from 1 to 10,000,000"),
        ("inf", "prompt_tokens is not a number: got inf, expected 1 to 10,000,000"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_cell_that_is_no_size_is_its_rows_error(
    cell: Any, message: str, random_checkpoint_path: Path
) -> None:
    table = pd.DataFrame(
        {
            "model": "Qwen/Qwen3-8B",
            "gpu": "H100-SXM5-80GB",
            "prompt_tokens": pd.Series([cell, 7, "7"], dtype=object),
        }
    )
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].iloc[0].startswith(message)
    assert answers["error"].tolist()[1:] == ["", ""]


def test_a_column_of_truth_values_is_no_column_of_counts(random_checkpoint_path: Path) -> None:
    table = pd.DataFrame({"model": ["Qwen/Qwen3-8B"], "gpu": "H100-SXM5-80GB", "batch_size": [True]})
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert answers["error"].iloc[0].startswith("batch_size is not a number: got True")


def test_a_name_that_is_no_text_is_looked_up_as_it_prints(random_checkpoint_path: Path) -> None:
    table = pd.DataFrame({"model": [["a", "b"], 5, "Qwen/Qwen3-8B"], "gpu": "H100-SXM5-80GB"})
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    assert "unknown model: got \"['a', 'b']\"" in answers["error"].iloc[0]
    assert "unknown model: got '5'" in answers["error"].iloc[1]
    assert answers["error"].iloc[2] == ""


@pytest.mark.parametrize(
    "index",
    [
        [7, 7, 7, 7],
        ["d", "c", "b", "a"],
        pd.MultiIndex.from_product([[1, 2], ["x", "y"]]),
        pd.date_range("2026-01-01", periods=4),
        [np.nan, 1.0, np.nan, 2.0],
    ],
    ids=["repeated", "text", "two levels", "dates", "with gaps"],
)
def test_the_index_is_kept_and_means_nothing(index: Any, random_checkpoint_path: Path) -> None:
    expected = predict_frame(PLAIN, checkpoint=str(random_checkpoint_path))
    answers = predict_frame(PLAIN.set_axis(index, axis=0), checkpoint=str(random_checkpoint_path))
    pd.testing.assert_index_equal(answers.index, PLAIN.set_axis(index, axis=0).index)
    pd.testing.assert_frame_equal(answers.reset_index(drop=True), expected)


def test_an_empty_table_is_answered_with_an_empty_one(random_checkpoint_path: Path) -> None:
    for table in (PLAIN.iloc[:0], pd.DataFrame({"model": [], "gpu": []})):
        answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
        assert len(answers) == 0
        assert set(ANSWER_COLUMNS) <= set(answers.columns)


def test_a_table_of_bad_rows_alone_is_answered_with_their_errors(random_checkpoint_path: Path) -> None:
    answers = predict_frame(PLAIN.assign(batch_size=0), checkpoint=str(random_checkpoint_path))
    assert answers["error"].str.startswith("batch_size is out of range: got 0").all()
    assert answers["energy_j"].isna().all()


def test_an_answer_can_be_asked_again(random_checkpoint_path: Path) -> None:
    once = predict_frame(PLAIN, checkpoint=str(random_checkpoint_path))
    pd.testing.assert_frame_equal(predict_frame(once, checkpoint=str(random_checkpoint_path)), once)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["model"], "lacks a column: got model, expected gpu"),
        ([], "lacks a column: got no columns, expected model and gpu"),
        (["Model", "gpu"], "unknown column: got 'Model'; did you mean model"),
        (["model", "gpu", "batch size"], "unknown column: got 'batch size'; did you mean batch_size"),
        (["model", "gpu", "PromptTokens"], "unknown column: got 'PromptTokens'; did you mean prompt_tokens"),
        (["model", "gpu", "model"], "has the column 'model' twice"),
    ],
    ids=str,
)
def test_columns_that_are_not_those_of_requests_are_named(columns: list[str], message: str) -> None:
    table = pd.DataFrame([["x"] * len(columns)], columns=columns)
    with pytest.raises(InputError, match=message):
        read_request_table(table)


def test_columns_of_ones_own_are_kept_whatever_their_names(random_checkpoint_path: Path) -> None:
    table = PLAIN.assign(team="a", models_tried=3)
    table["cost per batch"] = 1.5
    table[0] = "a column without a name"
    answers = predict_frame(table, checkpoint=str(random_checkpoint_path))
    own = ["team", "models_tried", "cost per batch", 0]
    assert answers[own].equals(table[own])
