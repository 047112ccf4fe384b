"""What a person must find in the table, at 80 and at 120 columns, on a terminal and in a pipe."""

from __future__ import annotations

import dataclasses
import io

import pytest

from llmco2.records.footprint import Footprint
from llmco2.report.table import footprint_text, print_footprint


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


@pytest.fixture(params=[80, 120])
def text(request: pytest.FixtureRequest, footprint: Footprint) -> str:
    return footprint_text(footprint, request.param)


def line_of(text: str, start: str) -> str:
    """Return the first line that starts with ``start``, its words one space apart."""
    return " ".join(next(line for line in text.splitlines() if line.startswith(start)).split())


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_asked_nor_elided(footprint: Footprint, width: int) -> None:
    text = footprint_text(footprint, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_the_title_names_the_workload(text: str) -> None:
    first, second = text.splitlines()[:2]
    assert first == "meta-llama/Llama-3.1-8B-Instruct on 2 × H100-SXM5-80GB"
    assert second == "batch 8 · 512 prompt + 256 output tokens · static · vllm-0.11 · bf16 · TP 2"


def test_the_rows_of_the_phases(text: str) -> None:
    assert "energy, J" in text
    assert "90% interval" in text
    assert "physical bounds" in text
    assert line_of(text, "prefill") == "prefill 64.0 50.0 – 80.0 20.0 – 134 80.0 ms 800 W"
    assert line_of(text, "decode") == "decode 1,140 900 – 1,400 300 – 3,440 2.32 s 490 W"
    assert line_of(text, "total ") == "total 1,200 960 – 1,470 320 – 3,570 2.40 s 500 W"


@pytest.mark.parametrize(
    "words",
    [
        "first token (TTFT) 80.0 ms",
        "per token (TPOT) 9.06 ms",
        "latency 2.40 s",
        "mean power, all GPUs 500 W",
        "per output token 0.586 J",
        "per total token 0.195 J",
        "GPU energy 333 mWh",
        "memory per GPU 8.5 GiB of 80 GiB",
        "Carbon, for 520 mWh drawn by the facility",
        "operational 23.6 mgCO2e range 15.0 – 44.4",
        "embodied 11.8 mgCO2e range 3.00 – 80.5",
        "total 35.4 mgCO2e range 18.0 – 125",
        "grid intensity 45.4 gCO2e/kWh (41.4 – 56)",
        "FRA (France): Electricity Review, 2024",
        "PUE 1.2",
        "given by the user",
        "Inside the domain the predictor was trained on.",
        "- the interval is calibrated on runs of the same engine",
        "Predicted by the checkpoint 'default-2026-11'.",
    ],
)
def test_every_figure_is_there_with_its_unit(text: str, words: str) -> None:
    assert words in " ".join(text.split())


def test_the_answer_fits_one_screen_above_its_sources(footprint: Footprint) -> None:
    lines = footprint_text(footprint, 80).splitlines()
    assert lines.index("Carbon factors, with their ranges, sources and dates") <= 24


def test_outside_the_domain_the_verdict_is_followed_by_what_left_it(footprint: Footprint) -> None:
    notes = ("batch_size 4096 outside 1 to 256", "gpu T4 was not measured")
    text = footprint_text(dataclasses.replace(footprint, in_domain=False, notes=notes))
    verdict = text.splitlines().index("OUTSIDE the domain the predictor was trained on.")
    assert text.splitlines()[verdict + 1 : verdict + 3] == [
        "  - batch_size 4096 outside 1 to 256",
        "  - gpu T4 was not measured",
    ]


def test_a_kv_cache_of_another_precision_is_named(footprint: Footprint) -> None:
    request = dataclasses.replace(footprint.request, kv_precision="fp8", tensor_parallel=1)
    text = footprint_text(dataclasses.replace(footprint, request=request))
    assert text.splitlines()[1].endswith("vllm-0.11 · bf16 (KV fp8)")


def test_markup_in_a_name_is_shown_not_obeyed(footprint: Footprint) -> None:
    request = dataclasses.replace(footprint.request, model="[red]models[/red]/x")
    text = footprint_text(dataclasses.replace(footprint, request=request, notes=("[bold]read[/bold]",)))
    assert "[red]models[/red]/x on" in text
    assert "- [bold]read[/bold]" in text


def test_a_pipe_gets_plain_text_and_a_terminal_colour(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    pipe, terminal = io.StringIO(), Terminal()
    print_footprint(footprint, pipe)
    print_footprint(footprint, terminal)
    assert pipe.getvalue() == footprint_text(footprint, 80)
    assert "\x1b[32m" in terminal.getvalue()


def test_no_color_leaves_no_colour_on_a_terminal(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    print_footprint(footprint, terminal)
    assert "\x1b[3" not in terminal.getvalue()
    assert "Inside the domain" in terminal.getvalue()


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("100", 100), ("300", 120)])
def test_the_width_follows_the_terminal_within_reason(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    pipe = io.StringIO()
    print_footprint(footprint, pipe)
    assert pipe.getvalue() == footprint_text(footprint, width)


def test_a_console_without_unicode_gets_ascii(footprint: Footprint) -> None:
    pipe = AsciiPipe()
    print_footprint(footprint, pipe)
    assert pipe.getvalue().isascii()
    assert "on 2 x H100-SXM5-80GB" in pipe.getvalue()
    assert "50.0 - 80.0" in pipe.getvalue()
