"""The data card beside a run log: what the labels are, how they were measured, and what to distrust.

Invariant: the part between the two markers is rewritten from the rows each time; what a person wrote outside
them is never touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.campaigns.output_file import replace_text
from llmco2.records.run import REFERENCE_KERNELS, MeasuredRun

BEGIN: Final = "<!-- written by llmco2 from the rows; edits between these marks are lost -->"
END: Final = "<!-- end of what llmco2 writes -->"
WHY: Final = "**Why was this measured?**"
WHERE: Final = "**Where does the machine stand** (cooling, who else uses it, power cap on purpose)?"
FLAWS: Final = "**Known flaws.** What a reader would want to know before training on it."
CONTACT: Final = "**Licence and contact.**"
_WHICH_WEIGHTS: Final = (
    "**Which weights?** Random ones where the notes say so; else which revision of which checkpoint."
)


def card_path(log_path: Path) -> Path:
    """Return where the card of a log lies: ``runs.jsonl`` has ``runs.md``."""
    return log_path.with_suffix(".md")


def write_card(log_path: Path, rows: Sequence[MeasuredRun]) -> Path:
    """Write or refresh the card of ``rows`` and return its path; see :func:`write_facts`."""
    return write_facts(log_path, _facts(log_path, rows), (WHY, WHERE, _WHICH_WEIGHTS, FLAWS, CONTACT))


def write_facts(log_path: Path, facts: str, questions: Sequence[str]) -> Path:
    """Write or refresh a log's card with Markdown ``facts`` between the marks, and return its path.

    ``questions`` are for a person, below the marks of a new card.

    Raises:
        MeasurementError: the card cannot be written, or a file of that name is no card of ours.
    """
    path = card_path(log_path)
    body = f"{BEGIN}\n{facts}\n{END}\n"
    old = _old_card(log_path)
    if old is not None:
        before, _, rest = old.partition(BEGIN)
        text = before + body + rest.partition(END)[2].lstrip("\n")
    else:
        asked = "".join(f"- {question}\n" for question in questions)
        text = f"# Data card of {log_path.name}\n\n{body}\n## For you to fill in\n\n{asked}"
    replace_text(path, text)
    return path


def check_card(log_path: Path) -> None:
    """Refuse a log whose card would take the place of something else: before measuring, not after.

    Raises:
        InputError: a file of the card's name is no card of ours, or the log itself has that name.
    """
    if card_path(log_path) == log_path:
        raise InputError(
            explain(
                f"the data card of {log_path} would have its name",
                expected="another ending than .md",
                remedy="choose another --output, such as runs.jsonl",
            )
        )
    try:
        _old_card(log_path)
    except MeasurementError as error:
        raise InputError(str(error)) from error


def _old_card(log_path: Path) -> str | None:
    """Return the text of the card that is there, if one is."""
    path = card_path(log_path)
    if not path.exists():
        return None
    try:
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "bytes that are no UTF-8 text"
        raise MeasurementError(explain(f"cannot read {path}", got=reason)) from error
    if BEGIN not in old or END not in old:
        raise MeasurementError(
            explain(f"{path} is no data card", remedy="move it, or choose another --output")
        )
    return old


def _facts(log_path: Path, rows: Sequence[MeasuredRun]) -> str:
    good = [row for row in rows if row.status == "ok"]
    failed = [row for row in rows if row.status != "ok"]
    lines = []
    if any(row.simulated for row in rows):
        lines += ["> **SIMULATED.** No real GPU drew any of this. It tests tools; it is not data.", ""]
    lines += [
        f"{len(rows)} rows in `{log_path.name}`: {len(good)} measured, {len(failed)} failed.",
        "",
        "| what | value |",
        "| --- | --- |",
        f"| campaign | {distinct(r.source for r in rows)} |",
        f"| GPU (as the driver names it) | {distinct(r.device_name for r in rows)} |",
        f"| driver | {distinct(r.driver_version for r in rows)} |",
        f"| power limit, W | {value_range(r.power_limit_w for r in good)} |",
        f"| idle of one GPU, bare / workload loaded, W | {value_range(r.idle_power_w for r in good)} / "
        f"{value_range(r.context_idle_power_w for r in good)} |",
        f"| models | {distinct(r.model for r in rows)} |",
        f"| engine | {distinct(r.engine for r in rows)}; {distinct(r.engine_version for r in good)} |",
        f"| attention | {distinct(r.attention_backend for r in good)} |",
        f"| energy | {distinct(r.energy_method for r in good)}; {distinct(r.energy_includes for r in good)} |",
        f"| counter period, s | {value_range(r.counter_period_s for r in good)} |",
        f"| windows, s | {value_range(r.window_s for r in good)} |",
        f"| runs inside them | {value_range(float(r.repeats) for r in good)} |",
        f"| spread between windows, % (median) | {_spread(good)} |",
        f"| parts against whole, % (median, worst) | {_parts(good)} |",
        f"| flags | {counts(f.strip() for r in rows for f in r.flags.split(';') if f.strip())} |",
        f"| failures | {counts((r.failure_reason or '').split(':')[0] for r in failed)} |",
        f"| measured | {time_span([r.measured_at for r in rows if r.measured_at])} |",
        "",
        "An energy is joules of all GPUs in use for the whole batch, idle included. Prefill is one pass",
        "over the prompt and makes the first output token; decode makes the rest. Each phase was repeated",
        "inside one window until it spanned enough ticks of the energy counter; mean and spread are over",
        "windows. Failed rows carry no label and say why.",
        *_reference_code(good),
    ]
    return "\n".join(lines)


def _reference_code(rows: Sequence[MeasuredRun]) -> list[str]:
    """Return a warning about rows whose model ran without its kernels, where there are any."""
    flagged = [row for row in rows if REFERENCE_KERNELS in [flag.strip() for flag in row.flags.split(";")]]
    if not flagged:
        return []
    return [
        "",
        f"**Reference code.** {len(flagged)} rows ({distinct(row.model for row in flagged)}) were measured",
        f"without the fast kernels of their models, which were not installed: flag `{REFERENCE_KERNELS}`, with",
        "the packages in the notes. Their time and energy are those of a fallback in plain torch, often many",
        "times as much. Training and calibration leave them out unless asked.",
    ]


def distinct(values: Iterable[object]) -> str:
    """Return the different values that are known, the first eight by name."""
    known = list(dict.fromkeys(str(value) for value in values if value is not None))
    shown = ", ".join(known[:8]) or "not known"
    return shown + (f" and {len(known) - 8} more" if len(known) > 8 else "")


def value_range(values: Iterable[float | None]) -> str:
    """Return the least and the largest of the values that are known."""
    known = [value for value in values if value is not None]
    if not known:
        return "not known"
    low, high = min(known), max(known)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def counts(values: Iterable[str]) -> str:
    """Return each value with how often it occurs, the commonest first."""
    return ", ".join(f"{name} ({count})" for name, count in Counter(values).most_common()) or "none"


def time_span(times: list[str]) -> str:
    """Return the first and the last of some times."""
    return f"{min(times)} to {max(times)}" if times else "not known"


def _spread(rows: Sequence[MeasuredRun]) -> str:
    known = [100 * r.energy_std_j / r.energy_j for r in rows if r.energy_j and r.energy_std_j is not None]
    return f"{median(known):.2f}" if known else "not known"


def _parts(rows: Sequence[MeasuredRun]) -> str:
    off = [
        100 * abs(r.prefill_energy_j + r.decode_energy_j - r.energy_j) / r.energy_j
        for r in rows
        if r.energy_j and r.prefill_energy_j is not None and r.decode_energy_j is not None
    ]
    return f"{median(off):.2f}, {max(off):.2f}" if off else "not known"
