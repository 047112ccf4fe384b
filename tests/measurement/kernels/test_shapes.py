"""Shapes of kernels: their work by hand, what a file may say, and one line for everything it may not."""

from collections import Counter

import pytest

from llmco2.catalog.gpus import resolve_gpu
from llmco2.cli.main import main
from llmco2.errors import InputError
from llmco2.measurement.kernels.campaign_file import kernel_campaign_from, load_kernel_campaign
from llmco2.measurement.kernels.shapes import FIELDS_OF_KIND, KernelShape
from llmco2.measurement.kernels.simulated_kernel import simulated_launch
from llmco2.measurement.kernels.work import work_of
from llmco2.resources import datasets_dir

HEADS = {"n_heads": 8, "n_kv_heads": 2, "head_dim": 16}
SHIPPED = datasets_dir() / "campaigns" / "kernels.yaml"


@pytest.mark.parametrize(
    ("shape", "flops", "read_bytes", "written_bytes"),
    [
        # 2·3·5·7; (3·7 + 5·7) in and 3·5 out, two bytes each
        (KernelShape(kind="gemm", m=3, n=5, k=7), 210, 112, 30),
        (KernelShape(kind="gemm", precision="fp32", m=3, n=5, k=7), 210, 224, 60),
        # two sequences of 1 + 2 + 3 pairs, 8 heads × 16, four FLOP each; q 768, k and v 192 each; out 768
        (
            KernelShape(kind="prefill_attention", batch_size=2, context_tokens=3, **HEADS),
            4 * 8 * 16 * 12,
            2 * (768 + 2 * 192),
            2 * 768,
        ),
        # two queries of 8 × 16 against three keys each; the cache has 2·2·3·2·16 elements
        (
            KernelShape(kind="decode_attention", batch_size=2, context_tokens=3, **HEADS),
            4 * 2 * 8 * 16 * 3,
            2 * (256 + 384),
            2 * 256,
        ),
        # two tokens × 2 experts = 4 rows over 4 experts: 3·5·7 weights each; 3·5 elements a row in between
        (
            KernelShape(kind="moe", m=2, n=5, k=7, n_experts=4, experts_per_token=2),
            6 * 4 * 5 * 7,
            2 * (4 * 105 + 4 * 7 + 4 * 15),
            2 * (4 * 7 + 4 * 15),
        ),
        (KernelShape(kind="rms_norm", m=3, n=5), 4 * 15, 2 * (15 + 5), 30),
        (KernelShape(kind="layer_norm", m=3, n=5), 7 * 15, 2 * (15 + 10), 30),
        (KernelShape(kind="gated_activation", m=3, n=5), 8 * 15, 60, 30),
        (KernelShape(kind="embedding", m=3, n=5, k=11), 0, 2 * 15 + 8 * 3, 30),
        (KernelShape(kind="copy", precision="fp32", m=3, n=5), 0, 60, 60),
    ],
    ids=lambda value: value.label if isinstance(value, KernelShape) else "",
)
def test_work_of_one_launch_by_hand(shape, flops, read_bytes, written_bytes):
    work = work_of(shape)
    assert (work.flops, work.read_bytes, work.written_bytes) == (flops, read_bytes, written_bytes)
    assert work.bytes_moved == read_bytes + written_bytes


def test_an_embedding_stores_its_table_and_reads_its_rows():
    work = work_of(KernelShape(kind="embedding", m=3, n=5, k=1000))
    assert work.memory_bytes == 2 * 5000 + 8 * 3 + 2 * 15


def test_few_tokens_use_few_experts_and_many_use_all():
    experts = {"kind": "moe", "n": 4, "k": 4, "n_experts": 64, "experts_per_token": 8}
    few, many = KernelShape(m=1, **experts), KernelShape(m=256, **experts)
    assert (few.experts_in_use, few.rows_per_expert) == (8, 1)
    assert (many.experts_in_use, many.rows_per_expert) == (64, 32)


def test_the_same_shape_has_one_identity_and_every_other_its_own():
    gemm = {"kind": "gemm", "m": 1, "n": 2, "k": 3}
    shapes = [
        KernelShape(**gemm),
        KernelShape(**{**gemm, "k": 4}),
        KernelShape(**gemm, cold_cache=False),
        KernelShape(**gemm, seed=1),
        KernelShape(**gemm, precision="fp16"),
    ]
    assert len({shape.run_id(gpu="g", simulated=False) for shape in shapes}) == len(shapes)
    assert shapes[0].run_id(gpu="g", simulated=False) == "338441fb806fe34c"
    assert shapes[0].run_id(gpu="g", simulated=True) != shapes[0].run_id(gpu="h", simulated=True)


def test_a_simulated_launch_is_a_roofline():
    gpu = resolve_gpu("H100-SXM5-80GB")
    shape = KernelShape(kind="copy", m=2**20, n=2**10)  # 2 GiB in and 2 GiB out
    launch = simulated_launch(shape, gpu, idle_power_w=70.0)
    memory_s = 2**32 / (0.8 * gpu.memory_bandwidth_bytes_per_s)
    assert launch.time_s == pytest.approx(memory_s + 2e-6)
    assert launch.power_w == pytest.approx(70.0 + 0.5 * memory_s / launch.time_s * (gpu.tdp_w - 70.0))


def test_fields_go_in_step_and_the_rest_in_every_combination():
    campaign = kernel_campaign_from(
        {
            "defaults": {"precision": "fp16"},
            "kernels": [
                {"kind": "gemm", "m": [1, 2], "together": [{"n": 3, "k": 4}, {"n": 5, "k": 6}]},
                {"kind": "copy", "m": 1, "n": 2, "precision": "fp32"},
                {"kind": "copy", "m": [1], "n": 2, "precision": "fp32"},  # said before
            ],
        }
    )
    gemms = [(s.n, s.k, s.m) for s in campaign.shapes if s.kind == "gemm"]
    assert gemms == [(3, 4, 1), (3, 4, 2), (5, 6, 1), (5, 6, 2)]
    assert [s.precision for s in campaign.shapes] == ["fp16"] * 4 + ["fp32"]
    assert (campaign.plan.blocks, campaign.plan.minimum_periods) == (3, 50.0)


def test_the_order_is_drawn_by_the_seed_and_never_else():
    content = {"kernels": [{"kind": "copy", "m": list(range(1, 40)), "n": 2}]}
    plain = kernel_campaign_from(content).shapes
    drawn = kernel_campaign_from({**content, "shuffle": 3}).shapes
    assert [s.m for s in plain] == list(range(1, 40))
    assert drawn == kernel_campaign_from({**content, "shuffle": 3}).shapes
    assert drawn != plain
    assert set(drawn) == set(plain)


def test_the_shipped_campaign_has_hundreds_of_kernels_and_its_first_hundred_are_of_most_kinds():
    campaign = load_kernel_campaign(SHIPPED)
    assert campaign.name == "kernels"
    assert len(campaign.shapes) == 539
    assert {s.kind for s in campaign.shapes} == set(FIELDS_OF_KIND)
    share = Counter(s.kind for s in campaign.shapes[:100])
    whole = Counter(s.kind for s in campaign.shapes)
    for kind in ("gemm", "prefill_attention", "decode_attention"):
        assert share[kind] / 100 == pytest.approx(whole[kind] / 539, abs=0.1)
    assert max(work_of(s).memory_bytes for s in campaign.shapes) < 80e9


GEMM = "kind: gemm, m: 1, n: 2, k: 3"
BAD = [
    ("", "the file is not a mapping: got nothing"),
    ("kernels: []", "kernels is empty"),
    ("grid: {}", "campaign of kernels: unknown key: got 'grid'"),
    ("kernels: [{m: 1}]", "kernels[0]: kind is missing: expected gemm, "),
    ("kernels: [{kind: gem, m: 1, n: 2, k: 3}]", "kernels[0]: unknown kind: got 'gem'"),
    (f"kernels: [{{{GEMM}, precision: fp8}}]", "unknown precision: got 'fp8', expected bf16, fp16, fp32"),
    ("kernels: [{kind: gemm, m: 1, n: 2}]", "gemm: k is missing"),
    ("kernels: [{kind: copy, m: 1, n: 2, k: 3}]", "copy: k means nothing: got 3, expected m, n"),
    (
        f"kernels: [{{{GEMM}, batchsize: 2}}]",
        "kernels[0]: unknown key: got 'batchsize'; did you mean batch_size?",
    ),
    ("kernels: [{kind: gemm, m: 0, n: 2, k: 3}]", "m is out of range: got 0"),
    ("kernels: [{kind: gemm, m: 1.5, n: 2, k: 3}]", "m is out of range: got 1.5"),
    ("kernels: [{kind: gemm, m: [true], n: 2, k: 3}]", "m is out of range: got True"),
    ("kernels: [{kind: gemm, m: [], n: 2, k: 3}]", "kernels[0].m is empty"),
    (f"kernels: [{{{GEMM}, cold_cache: 1}}]", "cold_cache has the wrong type: got 1"),
    (f"kernels: [{{{GEMM}, together: [{{k: 4}}]}}]", "kernels[0].together: given twice: got k"),
    (f"kernels: [{{{GEMM}}}]\nshuffle: -1", "shuffle is out of range: got -1"),
    (f"kernels: [{{{GEMM}}}]\nmeasure: {{parts_tolerance_percent: 1}}", "measure: unknown key"),
    (f"kernels: [{{{GEMM}}}]\nmeasure: {{blocks: 0}}", "measure: blocks is out of range: got 0"),
    ("kernels: [{kind: copy, n: 1, m: 2, m: 3}]", "line 1: the key is written twice: got 'm'"),
    ("kernels: [", "is not YAML: got line 1"),
    (
        "kernels: [{kind: moe, m: 3, n: 1, k: 1, n_experts: 4, experts_per_token: 2}]",
        "tokens cannot be spread evenly over the experts: got 6 rows over 4 experts",
    ),
    (
        "kernels: [{kind: moe, m: 3, n: 1, k: 1, n_experts: 2, experts_per_token: 4}]",
        "experts_per_token exceeds n_experts: got 4 of 2",
    ),
    (
        "kernels: [{kind: decode_attention, batch_size: 1, context_tokens: 1, n_heads: 6, n_kv_heads: 4, head_dim: 8}]",
        "n_heads is no multiple of n_kv_heads: got 6 and 4",
    ),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=[words for _, words in BAD])
def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert main(["measure", "--kernels", "bad.yaml", "--simulate"]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert "bad.yaml" in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kernels", "no.yaml"], "cannot read no.yaml"),
        (["m", "--kernels", "k.yaml"], "a campaign of kernels and something else: got m"),
        (["--kernels", "k.yaml", "--campaign", "c.yaml"], "got --campaign"),
        (["--kernels", "k.yaml", "--batch-size", "2"], "got --batch-size"),
        (["--kernels", "k.yaml", "--simulated-gpu", "L4"], "--simulated-gpu without --simulate"),
        (["--kernels", str(SHIPPED), "--simulate", "--simulated-gpu", "H1000"], "unknown GPU"),
        (["--kernels", str(SHIPPED), "--simulate", "--output", "no/such/k.jsonl"], "cannot write"),
    ],
)
def test_a_bad_command_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["measure", *arguments]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_too_many_kernels_are_refused():
    many = list(range(1, 1001))
    with pytest.raises(InputError, match=f"{1000**3:,}, expected at most"):
        kernel_campaign_from({"kernels": [{"kind": "gemm", "m": many, "n": many, "k": many}]})
