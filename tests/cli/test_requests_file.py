"""Reading tables of requests: defaults, numbers, and a line for every damage."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.cli.answers_file import write_answers
from llmco2.cli.requests_file import read_requests
from llmco2.errors import FileFormatError, InputError
from llmco2.predictor.api import predict_frame
from llmco2.records.columns import ANSWER_COLUMNS, FRAME_COLUMNS
from llmco2.records.request import DEFAULT_PROMPT_TOKENS


def csv_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "requests.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_an_empty_cell_is_the_default_and_a_literal_nan_is_not(tmp_path: Path) -> None:
    frame = read_requests(csv_file(tmp_path, "model,gpu,prompt_tokens,engine\nm,g,,\nm,g,nan,vllm\n"))
    assert frame["engine"].tolist() == ["unknown", "vllm"]
    assert frame["prompt_tokens"][0] == DEFAULT_PROMPT_TOKENS
    assert frame["prompt_tokens"][1] == "nan"  # so that its row is refused, not answered by default


def test_numbers_are_numbers_and_what_is_none_stays_as_written(tmp_path: Path) -> None:
    frame = read_requests(
        csv_file(tmp_path, "gpu,model,batch_size,output_tokens\n g , m ,8,1e3\ng,m,9,many\n")
    )
    assert list(frame.columns) == ["gpu", "model", "batch_size", "output_tokens"]
    assert frame["gpu"].tolist() == ["g", "g"]
    assert frame["batch_size"].dtype.kind == "i"
    assert frame["output_tokens"].tolist() == [1000.0, "many"]


def test_a_byte_order_mark_quotes_and_blank_lines_are_no_damage(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"model","gpu"\r\n\r\n"a, b",g\r\n'
    assert read_requests(csv_file(tmp_path, content))["model"].tolist() == ["a, b"]


def test_truth_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    cells = ("true", '"4"', "NaN")
    path.write_text("".join(f'{{"model": "m", "gpu": "g", "batch_size": {cell}}}\n' for cell in cells))
    assert read_requests(path)["batch_size"].tolist() == ["True", 4.0, "NaN"]


def test_absent_keys_and_nulls_are_the_default(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    rows = [{"model": "m", "gpu": "g", "batch_size": 8}, {"model": "m", "gpu": "g", "batch_size": None}]
    path.write_text("\n".join(map(json.dumps, [*rows, {"model": "m", "gpu": "g"}])))
    assert read_requests(path)["batch_size"].tolist() == [8, 1, 1]
    parquet = tmp_path / "r.parquet"
    pd.DataFrame({"model": "m", "gpu": "g", "batch_size": [8.0, np.nan, 2.5]}).to_parquet(parquet)
    assert read_requests(parquet)["batch_size"].tolist() == [8.0, 1.0, 2.5]


def test_columns_of_ones_own_stay_as_they_are_and_where_they_are(tmp_path: Path) -> None:
    content = "id,model,measured_j,gpu,energy_j,batch_size\n007,m,1.50,g,9,8\n008,m,,g,9,4\n"
    frame = read_requests(csv_file(tmp_path, content))
    assert list(frame.columns) == ["id", "model", "measured_j", "gpu", "batch_size"]  # no earlier answer
    assert frame["id"].tolist() == ["007", "008"]
    assert frame["measured_j"].tolist() == ["1.50", None]
    assert frame["batch_size"].tolist() == [8, 4]


def test_a_second_spelling_beside_the_right_one_is_a_column_of_ones_own(tmp_path: Path) -> None:
    frame = read_requests(csv_file(tmp_path, "model,gpu,batch_size,batchsize\nm,g,8,large\n"))
    assert frame["batchsize"].tolist() == ["large"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_any_cell_of_ones_own_survives_to_any_format(tmp_path: Path, suffix: str) -> None:
    cells = [1, "one", None, [1, 2], {"a": 1}, True, 2**80, "\ud800", 0.5]
    source = tmp_path / "r.jsonl"
    source.write_text("".join(json.dumps({"mine": cell, "model": "m", "gpu": "g"}) + "\n" for cell in cells))
    target = tmp_path / f"a{suffix}"
    write_answers(read_requests(source), target)
    back = read_requests(target)
    assert list(back.columns) == ["mine", "model", "gpu"]
    given = ["1", "one", None, "[1, 2]", "{'a': 1}", "True", str(2**80), "?", "0.5"]
    assert [None if pd.isna(cell) else str(cell) for cell in back["mine"]] == given


def test_bytes_of_a_parquet_file_become_text(tmp_path: Path) -> None:
    source = tmp_path / "r.parquet"
    pd.DataFrame({"mine": [b"\xff"], "model": "m", "gpu": "g"}).to_parquet(source)
    write_answers(read_requests(source), tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text())["mine"] == r"b'\xff'"


def test_a_header_alone_is_a_table_of_no_requests(tmp_path: Path) -> None:
    assert len(read_requests(csv_file(tmp_path, "model,gpu\n"))) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1: got an empty file, expected a header with at least model and gpu"),
        (
            b"model,gpu\na,b\nc,d,e\n",
            "line 3: got 3 cells, expected 2, as in the header; the file may be truncated",
        ),
        (b'model,gpu\na,b\n"c,d\n', "line 3: got unexpected end of data"),
        (b"model,gpu\na,b\n\xff\xfe,d\n", "line 3: got bytes that are no UTF-8 text"),
        (
            b"PK\x03\x04\x14\x00\x08",
            r"line 1: got columns 'PK\x03\x04\x14\x00\x08', expected a column 'model'",
        ),
        (
            b",".join(b"c%d" % i for i in range(99)),
            "got columns c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, …,",
        ),
        (b"model,gpu,model\na,b,c\n", "line 1: got the column 'model' twice"),
        (b"model,gpu,batchsize\na,b,1\n", "unknown column 'batchsize'; did you mean batch_size?"),
        (b"model,gpu,Prompt-Token\na,b,1\n", "unknown column 'Prompt-Token'; did you mean prompt_tokens?"),
        (b"model,batch_size\na,1\n", "line 1: got columns model, batch_size, expected a column 'gpu'"),
    ],
)
def test_a_damaged_csv_names_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        read_requests(csv_file(tmp_path, content))
    assert says in str(caught.value)
    assert "requests.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: got an empty file"),
        ('{"model": "m", "gpu": "g"}\n{"model": "m", "g', "line 2: got Unterminated string"),
        ('{"model": "m", "gpu": "g"}\n\n[1, 2]\n', "line 3: got list, expected one JSON object a line"),
        ('{"model": "m", "gpus": "g"}\n', "unknown column 'gpus'; did you mean gpu?"),
    ],
)
def test_damaged_json_lines_name_their_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(content)
    with pytest.raises(FileFormatError) as caught:
        read_requests(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 50, -5])
def test_a_truncated_parquet_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "requests.parquet"
    pd.DataFrame({"model": ["m"], "gpu": ["g"]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="damaged or no Parquet file") as caught:
        read_requests(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "r.csv").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*r.csv: got Is a directory"):
        read_requests(tmp_path / "r.csv")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for suffix in (".csv", ".jsonl"):
        path = tmp_path_factory.mktemp("any") / f"r{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(FileFormatError):
            assert {"model", "gpu"} <= set(read_requests(path).columns)


def test_numbers_survive_json_lines_to_the_last_digit_that_counts(tmp_path: Path) -> None:
    row = dict.fromkeys(FRAME_COLUMNS) | {"model": "é", "energy_j": 0.1 + 0.2, "in_domain": True}
    write_answers(pd.DataFrame([row]), tmp_path / "a.jsonl")
    back = json.loads((tmp_path / "a.jsonl").read_text("utf-8"))
    assert back["energy_j"] == pytest.approx(0.3, rel=1e-14)
    assert back["model"] == "é"
    assert back["error"] is None
    assert set(ANSWER_COLUMNS) <= set(back)


def test_an_answer_is_readable_by_others_as_any_new_file_is(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_answers(pd.DataFrame({"model": ["m"]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_what_parts_the_cells_is_read_from_the_first_line(tmp_path: Path, separator: str) -> None:
    rows = [["model", "gpu", "batch_size", "my_joules"], ["Qwen/Qwen3-8B", "H100", "8", '"3,5"']]
    frame = read_requests(csv_file(tmp_path, "\n".join(separator.join(row) for row in rows) + "\n"))
    assert frame.to_dict("records") == [
        {"model": "Qwen/Qwen3-8B", "gpu": "H100", "batch_size": 8, "my_joules": "3,5"}
    ]


def test_a_decimal_comma_in_a_count_is_that_rows_error_and_no_guess(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "model;gpu;batch_size\nQwen/Qwen3-8B;H100;8,5\n")
    assert read_requests(path)["batch_size"].tolist() == ["8,5"]
    (error,) = predict_frame(read_requests(path))["error"]
    assert error == "batch_size is not a number: got '8,5', expected 1 to 65,536"


def test_an_array_of_objects_is_read_as_lines_of_them_are(tmp_path: Path) -> None:
    rows = [{"model": "m", "gpu": "g", "batch_size": 8}, {"gpu": "h", "model": "n", "mine": [1]}]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.testing.assert_frame_equal(read_requests(tmp_path / "r.json"), read_requests(tmp_path / "r.jsonl"))


def test_an_empty_cell_takes_the_gpus_that_a_name_counts(tmp_path: Path) -> None:
    content = "model,gpu,tensor_parallel,pipeline_parallel\nm,p5.48xlarge,,2\nm,gpu:h100:4,,\nm,8xH100,2,\nm,H100,,\n"
    assert read_requests(csv_file(tmp_path, content))["tensor_parallel"].tolist() == [4, 4, 2, 1]
