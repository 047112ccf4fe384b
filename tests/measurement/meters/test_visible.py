import os
import subprocess
import sys

import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.meters.visible import foreign_pids, is_ours, shown_as_indices, visible_indices

UUIDS = ("GPU-aaaa0000-1", "GPU-aabb0000-2", "GPU-cccc0000-3")


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, (0, 1, 2)),
        ("0", (0,)),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("GPU-cccc0000-3", (2,)),
        ("GPU-cc,GPU-aaaa", (2, 0)),  # CUDA takes unambiguous beginnings
        ("gpu-AABB0000-2", (1,)),
    ],
)
def test_every_form_that_slurm_and_kubernetes_write(setting, indices):
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    assert visible_indices(environ, UUIDS) == indices


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("", "hides every GPU"),
        (" , ", "hides every GPU"),
        ("3", "names no GPU of this machine"),
        ("-1", "names no GPU of this machine"),
        ("NoDevFiles", "names no GPU of this machine"),
        ("GPU-aa", "names no GPU of this machine"),  # two begin so
        ("0,0", "names a GPU twice"),
        ("MIG-1234-5678", "MIG slice"),
        ("0,mig-1", "MIG slice"),
    ],
)
def test_what_names_no_whole_gpu_is_refused_in_one_line(setting, says):
    with pytest.raises(MeasurementError, match=says) as caught:
        visible_indices({"CUDA_VISIBLE_DEVICES": setting}, UUIDS)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(setting) in text
    assert "; " in text  # a remedy


@pytest.mark.parametrize("before", [None, "GPU-aaaa"])
def test_zeus_is_shown_indices_and_the_setting_comes_back(monkeypatch, before):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with shown_as_indices([2, 0]):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,0"
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_children_are_ours_and_parents_are_not():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert is_ours(child.pid, os.getpid())
            assert not is_ours(os.getpid(), child.pid)
        finally:
            child.communicate(b"\n", timeout=20)
    assert not is_ours(1, os.getpid())
    assert not is_ours(2**22 + 1, os.getpid())  # no such process


def test_a_command_with_spaces_and_parentheses_in_its_name_has_a_parent(tmp_path):
    for pid, text in ((70, "70 (a) b (c) S 60 1 1"), (60, "60 (sh) S 50 1 1")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(text)
    assert is_ours(70, 50, proc=tmp_path)
    assert not is_ours(70, 40, proc=tmp_path)


def make_proc(folder, parents, cuda=()):
    """Write a /proc of processes with their parents, some of which use CUDA."""
    for pid, parent in parents.items():
        (folder / str(pid) / "fd").mkdir(parents=True)
        (folder / str(pid) / "stat").write_text(f"{pid} (python) S {parent} 1 1")
        (folder / str(pid) / "fd" / "3").symlink_to("/dev/nvidia-uvm" if pid in cuda else "/dev/nvidiactl")
    return folder


def test_strangers_are_neither_ours_nor_our_children(tmp_path):
    proc = make_proc(tmp_path, {10: 1, 11: 10, 20: 1})
    assert foreign_pids([11, 20, 10, 20], [10], proc) == (20,)


def test_in_a_container_our_own_processes_show_under_numbers_of_the_host(tmp_path):
    """Without this, a second meter in a process with a CUDA context would take the process for a stranger."""
    proc = make_proc(tmp_path, {10: 1, 11: 10, 12: 10}, cuda=(10, 11))
    assert foreign_pids([90_001, 90_002], [10], proc) == ()
    assert foreign_pids([90_001, 90_002, 90_003], [10], proc) == (90_003,)
    assert foreign_pids([10, 90_002], [10], proc) == ()  # one of the two shows, the other may be hidden
    assert foreign_pids([10, 11, 90_003], [10], proc) == (90_003,)


def test_before_we_use_cuda_an_unknown_number_is_a_stranger(tmp_path):
    assert foreign_pids([90_001], [10], make_proc(tmp_path, {10: 1})) == (90_001,)
