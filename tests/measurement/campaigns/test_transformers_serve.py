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

from llmco2.measurement.meters.clock import MonotonicClock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.server_process import server_processes
from llmco2.measurement.workloads.server_workload import ServerWorkload

pytestmark = pytest.mark.slow
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"


@pytest.fixture(scope="module")
def server(tmp_path_factory, write_checkpoint):
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
