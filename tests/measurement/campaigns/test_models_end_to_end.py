"""Campaigns over real models on the CPU, with a meter that charges every pass: labels are exact counts."""

import pytest

from llmco2.measurement.campaigns.campaign import Tools, run_campaign
from llmco2.measurement.campaigns.campaign_file import campaign_from
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.workloads.workload import WorkloadError

pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs the extra: pip install 'llmco2[measure]'")

from llmco2.measurement.workloads.transformers_workload import TransformersWorkload

PASS_S, TOKEN_S, TOKEN_J = 0.05, 0.01, 0.25
PROMPT, OUTPUT = 10, 6


class ChargedWorkload(TransformersWorkload):
    """A real model; each forward pass takes time and joules on the meter, some a pass, some a token."""

    def __init__(self, configuration, meter):
        super().__init__(configuration, clock=meter.clock, device="cpu")
        self._meter = meter

    def load(self):
        super().load()
        self._model.register_forward_hook(self._charge, with_kwargs=True)

    def _charge(self, module, args, kwargs, output):
        tokens = args[0].numel()
        self._meter.spend(TOKEN_J * tokens, PASS_S + TOKEN_S * tokens)


def test_a_campaign_over_dense_grouped_and_expert_models_labels_exact_counts(
    tmp_path, tiny_model, formula_meter
):
    kinds = ["llama", "qwen2-gqa", "mixtral-moe"]
    campaign = campaign_from(
        {
            "name": "tiny",
            "defaults": {"precision": "fp32", "prompt_tokens": PROMPT, "output_tokens": OUTPUT},
            "list": [
                {
                    "model": kind,
                    "model_path": str(tiny_model(kind)),
                    "batch_size": batch,
                    "static_cache": static,
                }
                for kind in kinds
                for batch, static in ((1, False), (3, True))
            ]
            + [{"model": "missing", "model_path": str(tmp_path / "nowhere")}],
            "measure": {"minimum_window_s": 0.5, "minimum_periods": 5, "blocks": 2, "temperature_span_s": 0},
        }
    )
    meter = formula_meter()
    tools = Tools(
        open_meter=lambda gpus: meter,
        make_workload=ChargedWorkload,
        gpu_name=lambda name: "H100-SXM5-80GB",
        idle_power_w=lambda meter, bare: 70.0,
        check_memory=lambda configuration, gpu, memory_bytes: None,
    )
    path = tmp_path / "runs.jsonl"
    with RunLog(path) as log:
        summary = run_campaign(campaign, log, tools)
    assert (summary.measured, summary.failed) == (6, 1)
    *rows, missing = read_runs(path)
    for row in rows:
        prompt, steps = row.batch_size * PROMPT, OUTPUT - 1
        assert row.prefill_energy_j == pytest.approx(TOKEN_J * prompt)
        assert row.decode_energy_j == pytest.approx(TOKEN_J * row.batch_size * steps)
        assert row.energy_j == pytest.approx(row.prefill_energy_j + row.decode_energy_j)
        assert row.ttft_s == pytest.approx(PASS_S + TOKEN_S * prompt)
        assert row.tpot_s == pytest.approx(PASS_S + TOKEN_S * row.batch_size)
        assert row.step_time_batch1_s == pytest.approx(PASS_S + TOKEN_S)
        assert (row.flags, row.engine, row.attention_backend) == ("", "hf-eager", "sdpa")
        assert row.notes.endswith("random normal weights; energy does not depend on which")
    assert missing.failure_reason.startswith("no_config: no usable config")


def test_a_checkpoint_on_disk_is_measured_as_such(tmp_path, tiny_model, formula_meter):
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    config = AutoConfig.from_pretrained(str(tiny_model("llama").parent))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "checkpoint")
    campaign = campaign_from(
        {"list": [{"model": "m", "model_path": str(tmp_path / "checkpoint"), "weights": "checkpoint"}]}
    )
    workload = ChargedWorkload(campaign.configurations[0], formula_meter())
    workload.load()
    workload.prefill(1)
    assert workload.facts.notes == ()
    workload.close()
    other = campaign_from({"list": [{"model": "m", "model_path": str(tmp_path), "weights": "checkpoint"}]})
    with pytest.raises(WorkloadError, match="no usable config"):
        ChargedWorkload(other.configurations[0], formula_meter()).load()
