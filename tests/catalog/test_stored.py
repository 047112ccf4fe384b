"""The format of each part: as published, as a named format means it, and as a GPU runs it."""

from __future__ import annotations

import dataclasses

import pytest

from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.catalog.part_precisions import LINEAR_PARTS, WEIGHT_PARTS, PartPrecisions, StoredPart
from llmco2.catalog.precisions import resolve_precision
from llmco2.catalog.stored import parts_under, served_parts, stored_parts

LLAMA = resolve_model("meta-llama/Llama-3.1-8B")
MIXTRAL = resolve_model("mistralai/Mixtral-8x7B-v0.1")


def names(parts: PartPrecisions) -> dict[str, str]:
    return {part: getattr(parts, part).precision for part in WEIGHT_PARTS}


def test_a_named_format_narrows_the_linear_layers_and_leaves_tables_and_routers():
    parts = names(parts_under(LLAMA, resolve_precision("int4")))
    assert {part for part, name in parts.items() if name == "int4"} == set(LINEAR_PARTS)
    assert {parts[part] for part in ("router", "lm_head", "embedding")} == {"bf16"}


def test_mxfp4_packs_experts_and_the_layers_of_a_model_without_any():
    experts = names(parts_under(MIXTRAL, resolve_precision("mxfp4")))
    assert {part for part, name in experts.items() if name == "mxfp4"} == {"experts"}
    dense = names(parts_under(LLAMA, resolve_precision("mxfp4")))
    assert dense["dense_mlp"] == dense["attention"] == "mxfp4"


def test_wide_formats_fill_every_part():
    assert set(names(parts_under(LLAMA, resolve_precision("fp32"))).values()) == {"fp32"}


@pytest.mark.parametrize(
    ("stored", "gpu", "served", "n_bytes"),
    [
        ("nvfp4", "B200", "nvfp4", 4.5 / 8),
        ("nvfp4", "H100", "nvfp4-w4a16", 4.5 / 8),
        ("fp8-block", "A100", "fp8-w8a16", 1.0),
        ("bf16", "V100", "fp16", 2.0),
        ("fp32", "H100", "bf16", 2.0),
    ],
)
def test_a_gpu_runs_a_checkpoint_as_engines_fall_back(stored, gpu, served, n_bytes):
    model = dataclasses.replace(LLAMA, checkpoint_precision=stored)
    part = served_parts(model, resolve_gpu(gpu)).dense_mlp
    assert (part.precision, part.weight_bytes_per_element) == (served, n_bytes)


def test_a_checkpoints_own_record_counts_unless_another_format_is_asked_for():
    plain = parts_under(MIXTRAL, resolve_precision("bf16"))
    experts = StoredPart(precision="int4", weight_bytes_per_element=4.5 / 8, also=("bf16",))
    published = dataclasses.replace(plain, experts=experts, kv_cache="fp8")
    model = dataclasses.replace(MIXTRAL, checkpoint_precision="int4", stored=published)
    h100 = resolve_gpu("H100")
    assert stored_parts(model) is published
    assert served_parts(model, h100) == published
    assert served_parts(model, h100, resolve_precision("int4")) == published
    assert served_parts(model, h100, resolve_precision("fp8")).attention.precision == "fp8"
    assert experts.text == "int4 + bf16"
