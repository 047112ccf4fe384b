import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmco2.errors import InputError
from llmco2.measurement.doctor import diagnosis, host_findings
from llmco2.measurement.doctor.finding import FAIL, OK, WARN
from llmco2.measurement.simulation.rig import SimulatedGpu


@pytest.fixture
def bare_root(tmp_path: Path) -> Path:
    """The files of a machine that is no container and shows no RAPL."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("0::/init.scope\n")
    return tmp_path


@pytest.fixture
def check(bare_root):
    def run(rig, environ=None):
        environ = os.environ if environ is None else environ
        found = diagnosis.run_checks(environ=environ, root=bare_root, import_torch=False, clock=rig.clock)
        return {finding.name: finding for finding in found}

    return run


def test_a_good_machine_is_ready_and_a_simulated_one_says_so(make_rig, check):
    rig = make_rig()
    found = check(rig)
    assert found["driver"].status == WARN
    assert "simulated" in found["driver"].found
    assert found["gpus in use"].found == "1 of 1 (0)"
    for name in ("counter", "power", "persistence", "mig", "processes"):
        assert found[f"gpu 0 {name}"].status == OK, found[f"gpu 0 {name}"]
    assert found["gpu 0 power"].found == "70 W of 700 W now"
    assert diagnosis.verdict(found.values()).text == "ready to measure, with warnings"


BLIND = SimulatedGpu(has_instant_power=False, has_counter=False)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        (SimulatedGpu(mig=True), ("mig", FAIL, "joules of a slice", "sudo nvidia-smi -i 0 -mig 0")),
        (SimulatedGpu(persistence=False), ("persistence", WARN, "off", "sudo nvidia-smi -i 0 -pm 1")),
        (SimulatedGpu(has_counter=False), ("counter", WARN, "no energy counter", "integrated power")),
        (SimulatedGpu(permitted=False), ("counter", FAIL, "no permission", "/dev/nvidia")),
        (SimulatedGpu(permitted=False), ("power", FAIL, "no permission", "/dev/nvidia")),
        (SimulatedGpu(has_instant_power=False), ("power", WARN, "no instant power", "update the driver")),
        (BLIND, ("power", FAIL, "no instant power", "update the driver")),
        (SimulatedGpu(counter_period_s=0.15), ("counter", WARN, "every 150 ms", "repeat phases for 7")),
        (SimulatedGpu(idle_power_w=0.0), ("counter", WARN, "did not move", "put some load on the GPU")),
    ],
)
def test_each_weakness_of_a_gpu_has_its_finding_and_fix(make_rig, check, gpu, expected):
    rig = make_rig(gpu)
    name, status, says, fix = expected
    finding = check(rig)[f"gpu 0 {name}"]
    assert finding.status == status
    assert says in finding.found
    assert fix in finding.fix
    assert finding.gpu_index == 0


def test_other_processes_are_named(make_rig, check):
    rig = make_rig()
    rig.set_process(0, 1)
    finding = check(rig)["gpu 0 processes"]
    assert finding.status == FAIL
    assert "processes 1" in finding.found
    assert "--allow-shared" in finding.fix


def test_throttling_is_named_and_a_power_cap_is_not(make_rig, check):
    rig = make_rig()
    rig.set(0, throttle=0x4)
    assert "gpu 0 throttling" not in check(rig)
    rig.set(0, throttle=0x44)
    assert check(rig)["gpu 0 throttling"].found == "held back by hardware_thermal"


def test_a_lost_gpu_is_one_finding_and_the_others_are_checked(make_rig, check):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    rig.lose(0)
    found = check(rig)
    assert found["gpu 0"].status == FAIL
    assert "fallen off the bus" in found["gpu 0"].found
    assert "--gpu-reset -i 0" in found["gpu 0"].fix
    assert found["gpu 1 counter"].status == OK
    assert "gpu 0 counter" not in found


@pytest.mark.parametrize(
    ("setting", "status", "says"),
    [
        ("1", OK, "1 of 2 (1), as CUDA_VISIBLE_DEVICES=1 says"),
        ("GPU-51a10000-0000-4000-8000-000000000000", OK, "1 of 2 (0)"),
        ("MIG-1", FAIL, "MIG slice"),
        ("7", FAIL, "names no GPU"),
        ("", FAIL, "hides every GPU"),
    ],
)
def test_every_form_of_the_setting_is_explained(make_rig, check, setting, status, says):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    finding = check(rig, {"CUDA_VISIBLE_DEVICES": setting})["gpus in use"]
    assert finding.status == status
    assert says in finding.found
    assert bool(finding.fix) == (status == FAIL)


def test_boards_that_differ_need_one_order(make_rig, check):
    rig = make_rig(SimulatedGpu(), SimulatedGpu(name="NVIDIA A2"))
    assert check(rig, {})["gpu order"].fix.startswith("export CUDA_DEVICE_ORDER=PCI_BUS_ID")
    assert "gpu order" not in check(rig, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})


@pytest.mark.parametrize(
    ("code", "says", "fix"),
    [
        (9, "driver is not loaded", "nvidia-smi must work"),
        (12, "libnvidia-ml.so.1 was not found", "install the NVIDIA driver"),
        (18, "updated while loaded", "reboot"),
        (4, "no permission", "/dev/nvidia"),
        (999, "NVML error 999", "nvidia-smi works"),
    ],
)
def test_a_driver_that_does_not_start_says_why(make_rig, check, code, says, fix):
    rig = make_rig()
    rig.fail_to_start(code)
    found = check(rig)
    assert found["driver"].status == FAIL
    assert says in found["driver"].found
    assert fix in found["driver"].fix
    assert diagnosis.verdict(found.values()).text == "not ready to measure"


def test_containers_are_seen_by_their_marks(make_rig, check, bare_root):
    rig = make_rig()
    assert "container" not in check(rig)
    (bare_root / "proc/1/cgroup").write_text("12:cpu:/kubepods/burstable/pod1\n")
    assert check(rig)["container"].status == WARN
    assert "--gpus all" in check(rig, {"NVIDIA_VISIBLE_DEVICES": "void"})["container"].fix
    (bare_root / "proc/1/cgroup").unlink()
    (bare_root / ".dockerenv").touch()
    assert "NVIDIA_VISIBLE_DEVICES=0" in check(rig, {"NVIDIA_VISIBLE_DEVICES": "0"})["container"].found


def test_rapl_that_can_be_read_is_ok(make_rig, check, bare_root):
    rig = make_rig()
    assert check(rig)["cpu energy"].status == WARN
    zone = bare_root / "sys/class/powercap/intel-rapl/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("1\n")
    assert check(rig)["cpu energy"].found == "1 packages by RAPL, without DRAM"


def test_no_compiler_is_a_warning(check, make_rig, monkeypatch):
    rig = make_rig()
    assert check(rig)["simulation"].status == (OK if shutil.which("cc") else WARN)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "one process only" in check(rig)["simulation"].found


@pytest.mark.parametrize(
    ("torch", "status", "says"),
    [
        (None, WARN, "has no CUDA: this build is for CPUs only"),
        ("13.0", WARN, "built for CUDA 13.0, which finds no GPU"),
        ("works", OK, "sees 2 CUDA GPUs"),
    ],
)
def test_torch_and_its_cuda(monkeypatch, torch, status, says):
    cuda = SimpleNamespace(is_available=lambda: torch == "works", device_count=lambda: 2)
    fake = SimpleNamespace(
        __version__="9.9", __spec__=object(), cuda=cuda, version=SimpleNamespace(cuda=torch)
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    finding = host_findings.check_torch()
    assert finding.status == status
    assert says in finding.found


def test_every_finding_that_is_not_ok_has_a_fix(make_rig, check):
    rig = make_rig(
        SimulatedGpu(mig=True, persistence=False), SimulatedGpu(permitted=False), virtual_time=False
    )
    rig.set_process(0, 1)
    assert all(finding.fix for finding in check(rig).values() if finding.status != OK)


def test_the_report_is_text_or_json_and_its_code_says_whether_one_may_measure(make_rig, capsys):
    make_rig(virtual_time=False)
    assert diagnosis.main(["--no-torch"]) == 0
    text = capsys.readouterr().out
    assert "ok    gpu 0 mig" in text
    assert text.splitlines()[-1].startswith("ready to measure, with warnings (0 failures, ")
    assert diagnosis.main(["--json", "--no-torch"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"]["n_failures"] == 0
    assert {"name", "status", "found", "fix", "gpu_index"} == set(report["findings"][0])


def test_a_failure_leaves_with_code_1_and_a_wrong_option_is_refused(make_rig, capsys):
    rig = make_rig()
    rig.fail_to_start(9)
    assert diagnosis.main(["--no-torch"]) == 1
    assert "FAIL  driver" in capsys.readouterr().out
    with pytest.raises(InputError, match="unknown option of doctor: got --yes"):
        diagnosis.main(["--yes"])
