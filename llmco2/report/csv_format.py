"""A footprint as CSV: a header and one row, the columns of a table of answers."""

from __future__ import annotations

import csv
import io

from llmco2.records.columns import FRAME_COLUMNS
from llmco2.records.footprint import Footprint
from llmco2.report.rows import footprint_row


def footprint_csv(footprint: Footprint) -> str:
    """Return header and row, each ended by a newline; an empty cell is an absent value."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FRAME_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerow(footprint_row(footprint))
    return text.getvalue()
