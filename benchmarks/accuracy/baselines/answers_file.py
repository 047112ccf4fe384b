"""Answers of a tool that runs elsewhere, read from a CSV: AIConfigurator or AISimulate in an environment of its own.

Source: https://github.com/ai-dynamo/aiconfigurator (Apache-2.0), ``aiconfigurator.cli.api.cli_estimate``: measured
kernels over the layer graph with the stack's scheduling rules, nothing fitted to whole runs. Its packages are far
larger than this project, so it is never imported here: ask it for the rows of the file that ``--write-requests``
writes, and pass its answers with ``--answers NAME=FILE``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy.answers import ANSWER
from benchmarks.accuracy.workload import Workload
from llmco2.errors import FileFormatError, explain

KEY: Final = "request"


def write_requests(workload: Workload, path: Path) -> Path:
    """Write the requests with their number as ``request`` and return the path."""
    facts = workload.runs[["run_id", "source"]].iloc[workload.run_of_request].reset_index(drop=True)
    table = pd.concat([facts, workload.requests], axis=1)
    table.insert(0, KEY, np.arange(len(table)))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


def read_answers(path: Path, workload: Workload) -> pd.DataFrame:
    """Return answers, ``(n_requests,)`` rows of ANSWER, NaN for requests and columns that the file lacks.

    Raises:
        FileFormatError: no column ``request``, no column of an answer, a number that is no request's, or one twice.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise FileFormatError(explain(f"cannot read {path.name}", got=str(error).splitlines()[0])) from error
    known = [name for name in ANSWER if name in table]
    if KEY not in table or not known:
        raise FileFormatError(
            explain(f"{path.name} holds no answers", got=", ".join(map(str, table.columns)),
                    expected=f"{KEY} and some of {', '.join(ANSWER)}")
        )  # fmt: skip
    odd = table.loc[table[KEY].duplicated() | ~table[KEY].isin(range(len(workload.requests))), KEY]
    if len(odd):
        raise FileFormatError(
            explain(f"{path.name}: bad {KEY}", got=odd.iloc[0],
                    expected=f"0 to {len(workload.requests) - 1}, each once", remedy="write the requests again")
        )  # fmt: skip
    answers = pd.DataFrame(np.nan, index=range(len(workload.requests)), columns=list(ANSWER))
    answers.loc[table[KEY].to_numpy(), known] = table[known].to_numpy(dtype=np.float64)
    return answers
