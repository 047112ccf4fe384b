"""Opt-in (``make test-vllm``): the server workload against vLLM serving a tiny random-weight Llama.

``LLMCO2_VLLM_PYTHON`` names the Python of an environment of its own that has vLLM; see docs/measuring.md.
"""

import os
import socket
import subprocess
import time

import httpx
import pytest

from llmco2.measurement.meters.clock import MonotonicClock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.server_process import server_processes
from llmco2.measurement.workloads.server_workload import ServerWorkload

pytestmark = pytest.mark.vllm
START_LIMIT_S = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory, write_checkpoint):
    python = os.environ.get("LLMCO2_VLLM_PYTHON")
    if not python:
        pytest.skip("set LLMCO2_VLLM_PYTHON to the Python of an environment with vLLM (docs/measuring.md)")
    folder = tmp_path_factory.mktemp("vllm")
    write_checkpoint(folder / "tiny")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "tiny")]
    options = [
        "--served-model-name",
        "tiny",
        "--port",
        str(port),
        "--max-model-len",
        "256",
        "--dtype",
        "float32",
    ]
    without = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in without}
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [*command, *options, "--enforce-eager"],
        stdout=log,
        stderr=log,
        env={**environment, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            try:
                httpx.get(url + "/health", timeout=2, trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(1.0)
        yield url, process
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def test_vllm_is_asked_by_token_ids_and_makes_exactly_the_tokens_asked_for(server):
    url, process = server
    configuration = RunConfiguration(
        model="tiny",
        workload="server",
        server_url=url,
        engine="vllm-0.11",
        batch_size=4,
        prompt_tokens=48,
        output_tokens=24,
    )
    workload = ServerWorkload(configuration, clock=MonotonicClock())
    workload.load()
    try:
        workload.whole(2)
        timings = workload.whole(2)
        assert len(timings) == 8
        assert {t.output_tokens for t in timings} == {24}
        assert (workload.facts.prompt_tokens, workload.facts.flags) == (48, ())
        assert "api /v1/completions" in workload.facts.notes
        assert workload.facts.engine_version is not None
        assert {t.output_tokens for t in workload.prefill(1)} == {1}
    finally:
        workload.close()
    assert process.pid in server_processes(url)
    assert len(server_processes(url)) > 1  # the engine runs in a child, and that is the one on the GPU
