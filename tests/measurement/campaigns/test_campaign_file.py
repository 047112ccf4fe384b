"""Campaign files: what they mean, and one line that names the key for everything they may not say."""

from pathlib import Path

import pytest

from llmco2.errors import FileFormatError, InputError
from llmco2.measurement.campaigns.campaign_file import MAX_CONFIGURATIONS, campaign_from, load_campaign
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.resources import datasets_dir

MINIMAL = {"grid": {"model": ["m"]}}


def test_a_grid_is_every_combination_in_order_over_defaults():
    campaign = campaign_from(
        {
            "defaults": {"model": "m", "precision": "fp16"},
            "grid": {"batch_size": [1, 8], "prompt_tokens": [64, 128]},
        }
    )
    assert [(c.batch_size, c.prompt_tokens) for c in campaign.configurations] == [
        (1, 64),
        (1, 128),
        (8, 64),
        (8, 128),
    ]
    assert {(c.model, c.precision) for c in campaign.configurations} == {("m", "fp16")}
    assert campaign.n_runs == 4


def test_a_list_overrides_defaults_and_loses_duplicates():
    campaign = campaign_from(
        {"defaults": {"model": "m", "batch_size": 2}, "list": [{"batch_size": 4}, {}, {"batch_size": 2}]}
    )
    assert [c.batch_size for c in campaign.configurations] == [4, 2]


def test_a_focused_campaign_keeps_its_pool_and_its_budget():
    campaign = campaign_from(
        {"focused": {"runs": 3, "exploration_share": 0.5, "grid": {"model": "m", "batch_size": [1, 2, 4, 8]}}}
    )
    assert len(campaign.configurations) == 4
    assert campaign.n_runs == 3
    assert campaign.focus.exploration_share == 0.5


SHIPPED = sorted(p for p in (datasets_dir() / "campaigns").glob("*.yaml") if p.stem != "kernels")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_campaign_loads(path):
    campaign = load_campaign(path)
    assert campaign.name == path.stem
    assert campaign.n_runs >= 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the file is not a mapping: got nothing"),
        ([], "the file is not a mapping: got list"),
        ({}, "got none, expected one of grid, list, focused"),
        ({**MINIMAL, "list": [{"model": "m"}]}, "got grid and list"),
        ({"kernels": []}, "this is a campaign of kernels; give it to --kernels"),
        ({**MINIMAL, "gird": {}}, "campaign: unknown key: got 'gird'; did you mean grid?"),
        (
            {"grid": {"model": "m", "batchsize": 2}},
            "grid: unknown key: got 'batchsize'; did you mean batch_size?",
        ),
        ({"grid": {"batch_size": [1]}}, "grid: model is missing"),
        ({"grid": {"model": []}}, "grid.model is empty"),
        ({"grid": {"model": "m", "batch_size": [1, 0]}}, "batch_size is out of range: got 0"),
        (
            {"grid": {"model": "m", "batch_size": 70000}},
            "got 70000, expected a whole number from 1 to 65,536",
        ),
        ({"grid": {"model": "m", "batch_size": [1.5]}}, "batch_size has the wrong type: got 1.5"),
        ({"grid": {"model": "m", "batch_size": [True]}}, "batch_size has the wrong type: got True"),
        ({"grid": {"model": "m", "prompt_tokens": ["many"]}}, "prompt_tokens has the wrong type: got 'many'"),
        ({"grid": {"model": "m", "precision": ["bf17"]}}, "unknown precision: got 'bf17'"),
        ({"grid": {"model": "m", "compiled": True}}, "compiled needs a static cache"),
        ({"grid": {"model": "m", "workload": "server"}}, "server_url is not an address"),
        ({"grid": {"model": "m", "server_url": "http://h"}}, "write workload: server"),
        (
            {"grid": {"model": "m", "workload": "server", "server_url": "ftp://h"}},
            "server_url is not an address",
        ),
        ({"list": []}, "list is empty"),
        ({"list": [{"model": "m"}, 3]}, "list[1] is not a mapping"),
        (
            {"list": [{"model": "m"}, {"modle": "m"}]},
            "list[1]: unknown key: got 'modle'; did you mean model?",
        ),
        ({"focused": {"grid": {"model": "m"}}}, "focused.runs is missing"),
        ({"focused": {"runs": 0, "grid": {"model": "m"}}}, "focused.runs is out of range"),
        (
            {"focused": {"runs": 2, "exploration_share": 0, "grid": {"model": "m"}}},
            "focused.exploration_share is zero",
        ),
        (
            {"focused": {"runs": 2, "by_time": 1, "grid": {"model": "m"}}},
            "focused.by_time has the wrong type",
        ),
        (
            {"focused": {"runs": 2, "runs_per_visit": 0, "grid": {"model": "m"}}},
            "focused.runs_per_visit is out of range",
        ),
        (
            {"focused": {"runs": 2, "exploration_share": 2, "grid": {"model": "m"}}},
            "exploration_share is out of range",
        ),
        ({"focused": {"runs": 2}}, "focused.grid is not a mapping: got nothing"),
        ({**MINIMAL, "measure": {"block": 3}}, "measure: unknown key: got 'block'; did you mean blocks?"),
        ({**MINIMAL, "measure": {"blocks": 0}}, "measure: blocks is out of range"),
        ({**MINIMAL, "measure": {"blocks": "3"}}, "measure: blocks is not a number"),
        ({**MINIMAL, "name": 3}, "name is not text"),
        (
            {"grid": {"model": "m", "batch_size": list(range(1, 2000)), "seed": list(range(100))}},
            "grid is too large",
        ),
    ],
)
def test_what_a_campaign_may_not_say_is_one_line_with_its_key(content, words):
    with pytest.raises(InputError) as caught:
        campaign_from(content)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("grid: {model: [m", FileFormatError, "is not YAML: got line 1"),
        ("grid: {model: m}\ngrid: {model: n}\n", InputError, "line 2: the key is written twice: got 'grid'"),
        ("grid: {model: m, model: n}\n", InputError, "the key is written twice: got 'model'"),
        ("grid: !!python/object/apply:os.system ['true']\n", FileFormatError, "is not YAML"),
        ("? [a, b]\n: c\n", InputError, "a key is not a name"),
        ("\x00", FileFormatError, "is not YAML"),
        ("", InputError, "the file is not a mapping"),
    ],
)
def test_a_damaged_file_is_one_line_and_runs_nothing(tmp_path, text, error, words):
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        load_campaign(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path)) or str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(FileFormatError, match="No such file"):
        load_campaign(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FileFormatError, match="is not YAML"):
        load_campaign(tmp_path / "binary.yaml")


def test_run_ids_are_stable_and_tell_configurations_machines_and_simulation_apart():
    configuration = RunConfiguration(model="m")
    known = configuration.run_id(gpu="H100-SXM5-80GB", simulated=False)
    assert known == RunConfiguration(model="m", batch_size=1).run_id(gpu="H100-SXM5-80GB", simulated=False)
    others = {
        configuration.run_id(gpu="H100-SXM5-80GB", simulated=True),
        configuration.run_id(gpu="L4", simulated=False),
        RunConfiguration(model="m", batch_size=2).run_id(gpu="H100-SXM5-80GB", simulated=False),
        RunConfiguration(model="m", attention="eager").run_id(gpu="H100-SXM5-80GB", simulated=False),
    }
    assert len(others | {known}) == 5
    ports = (
        RunConfiguration(model="m", workload="server", server_url=f"http://127.0.0.1:{port}")
        for port in (8000, 9000)
    )
    assert (
        len({c.run_id(gpu="L4", simulated=False) for c in ports}) == 1
    )  # where a server listens is no property


def test_engines_follow_from_how_a_model_is_run():
    assert RunConfiguration(model="m").engine_name == "hf-eager"
    assert RunConfiguration(model="m", compiled=True, static_cache=True).engine_name == "hf-compile"
    four_bit = RunConfiguration(model="m", precision="int4")
    assert (four_bit.engine_name, four_bit.precision) == ("hf-bitsandbytes", "nf4")
    server = RunConfiguration(model="m", workload="server", server_url="http://h:1", engine="vLLM 0.12.1")
    assert server.engine_name == "vllm-0.11"


def test_the_grid_limit_is_checked_before_the_grid_is_made():
    huge = {
        "grid": {
            "model": "m",
            **{key: list(range(1, 1001)) for key in ("batch_size", "prompt_tokens", "seed")},
        }
    }
    with pytest.raises(InputError, match=f"{1000**3:,}, expected at most {MAX_CONFIGURATIONS:,}"):
        campaign_from(huge)


def test_shipped_campaigns_are_found_where_the_docs_say():
    assert {path.stem for path in Path(datasets_dir() / "campaigns").glob("*.yaml")} >= {
        "quick",
        "focused",
        "server",
    }
