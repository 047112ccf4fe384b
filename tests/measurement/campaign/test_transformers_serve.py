"""Opt-in: the server workload against ``transformers serve`` with a tiny local random-weight model.

It needs ``pip install 'transformers[serving]'`` and about a minute, most of it the server's imports.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time

import httpx
import pytest

from llmco2.measurement.clock import MonotonicClock
from llmco2.measurement.configuration import RunConfiguration
from llmco2.measurement.workloads.server_process import server_processes
from llmco2.measurement.workloads.server_workload import ServerWorkload

pytestmark = pytest.mark.slow
VOCABULARY = 400
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"


def write_checkpoint(folder, words=VOCABULARY):
    """Write a tiny Llama with random weights and a tokenizer whose every token is one word."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"word{i}": i for i in range(3, words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=words,
        max_position_embeddings=512,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    for name in ("transformers", "fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("needs the server's packages: pip install 'transformers[serving]'")
    folder = tmp_path_factory.mktemp("serve")
    write_checkpoint(folder / "tiny")
    (folder / "hub").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SERVE,
            "serve",
            str(folder / "tiny"),
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
        ],
        stdout=log,
        stderr=log,
        env={**os.environ, "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                httpx.get(url + "/health", timeout=2, trust_env=False)
                break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        yield url, str(folder / "tiny"), process
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def test_a_real_server_is_asked_in_its_dialect_and_counted_exactly(server):
    url, served_model, process = server
    configuration = RunConfiguration(
        model="tiny",
        workload="server",
        server_url=url,
        served_model=served_model,
        engine="transformers",
        batch_size=2,
        prompt_tokens=24,
        output_tokens=16,
    )
    workload = ServerWorkload(configuration, clock=MonotonicClock())
    workload.load()
    try:
        workload.whole(1)
        timings = workload.whole(2)
        assert {t.output_tokens for t in timings} == {16}
        assert all(0 < t.ttft_s < t.latency_s for t in timings)
        assert workload.facts.prompt_tokens == 24
        assert workload.facts.flags == ()
        assert {t.output_tokens for t in workload.prefill(1)} == {1}
        assert 0 < workload.step_time_batch1_s() < 5
    finally:
        workload.close()
    assert process.pid in server_processes(url)
