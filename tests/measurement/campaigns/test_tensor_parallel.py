"""Tensor parallelism: two processes shard one model by its own plan, and the second follows the first."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.parallel import require_world
from llmco2.measurement.workloads.workload import WorkloadError

SCRIPT = textwrap.dedent(
    """
    import json, sys
    from llmco2.measurement.meters.clock import MonotonicClock
    from llmco2.measurement.workloads.configuration import RunConfiguration
    from llmco2.measurement.workloads.parallel import CommandChannel, ParallelWorkload, follow, rank
    from llmco2.measurement.workloads.workload import WorkloadError

    channel = CommandChannel("cpu")
    if rank() > 0:
        follow(channel, device="cpu")
    else:
        shape = dict(precision="fp32", tensor_parallel=2, batch_size=2, prompt_tokens=12, output_tokens=5)
        missing = RunConfiguration(model="nowhere", model_path="no/such/folder", **shape)
        workload = ParallelWorkload(missing, channel=channel, clock=MonotonicClock(), device="cpu")
        try:
            workload.load()
        except WorkloadError as error:
            kind = error.kind
        workload.close()
        good = RunConfiguration(model="tiny", model_path=sys.argv[1], **shape)
        workload = ParallelWorkload(good, channel=channel, clock=MonotonicClock(), device="cpu")
        workload.load()
        passes = []
        inner = workload._own
        inner._model.register_forward_hook(
            lambda module, args, kwargs, output: passes.append(int(output.past_key_values.get_seq_length())),
            with_kwargs=True,
        )
        workload.prefill(1)
        heads = inner._cache.layers[0].keys.shape[1]
        workload.decode(2)
        workload.whole(1)
        step_s = workload.step_time_batch1_s()
        workload.close()
        channel.end()
        print(json.dumps({"passes": passes[:14], "heads": heads, "step_s": step_s, "kind": kind}))
    """
)


def test_without_one_process_per_gpu_the_launcher_is_named():
    configuration = RunConfiguration(model="m", tensor_parallel=4)
    with pytest.raises(WorkloadError, match="torchrun --nproc-per-node 4 --no-python llmco2 measure"):
        require_world(configuration)
    require_world(RunConfiguration(model="m"))


@pytest.mark.slow
def test_two_processes_make_the_passes_of_one_on_half_the_heads_each(tmp_path, tiny_model):
    for package in ("torch", "transformers", "accelerate"):
        pytest.importorskip(package, reason="needs the extra: pip install 'llmco2[measure]'")
    script = tmp_path / "parallel.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(script), str(tiny_model("llama"))],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    decode = [13, 14, 15, 16]
    assert result["passes"] == [12, *decode, *decode, 12, *decode]
    assert result["heads"] == 2  # of four
    assert result["step_s"] > 0
    assert result["kind"] == "no_config"
