import importlib
import os

import pytest

from llmco2.measurement.meters import host
from llmco2.measurement.meters.host import find_host_energy
from llmco2.measurement.meters.zeus_meter import ZeusMeter


def make_rapl(folder, zones):
    """Write a powercap tree: {zone: (name, energy in µJ)}; a zone 0:1 lies inside zone 0."""
    for zone, (name, energy_uj) in zones.items():
        parent = folder if ":" not in zone else folder / f"intel-rapl:{zone.partition(':')[0]}"
        place = parent / f"intel-rapl:{zone}"
        place.mkdir(parents=True)
        (place / "name").write_text(name + "\n")
        (place / "energy_uj").write_text(f"{energy_uj}\n")
        (place / "max_energy_range_uj").write_text("262143328850\n")
    return folder


def test_no_rapl_is_a_reason(tmp_path):
    found = find_host_energy({}, (tmp_path / "none",))
    assert found.cpu_indices == ()
    assert "shows no RAPL counters" in found.reason


def test_packages_are_counted_and_the_whole_machine_is_not(tmp_path):
    zones = {"0": ("package-0", 1), "0:0": ("dram", 1), "1": ("package-1", 1), "2": ("psys", 9)}
    found = find_host_energy({}, (make_rapl(tmp_path, zones),))
    assert found.cpu_indices == (0, 1)
    assert found.has_dram
    assert found.reason is None


def test_a_machine_with_only_psys_has_no_package(tmp_path):
    assert (
        find_host_energy({}, (make_rapl(tmp_path, {"0": ("psys", 1)}),)).reason == "RAPL lists no CPU package"
    )


def test_unreadable_counters_need_root_or_zeusd(tmp_path, monkeypatch):
    folder = make_rapl(tmp_path, {"0": ("package-0", 1)})
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root could read anything
    assert find_host_energy({}, (folder,)).reason == "RAPL needs root or zeusd: energy_uj may not be read"
    through = find_host_energy({"ZEUSD_SOCK_PATH": "/run/zeusd.sock"}, (folder,))
    assert through.through_zeusd
    assert through.cpu_indices == (0,)


def test_zeus_reads_cpu_and_dram_joules_of_a_window(rig, tmp_path, monkeypatch):
    """Real zeus over files that stand for RAPL, without its process that watches for a wrap."""
    folder = make_rapl(tmp_path, {"0": ("package-0", 1_000_000), "0:0": ("dram", 500_000)})
    rapl = importlib.import_module("zeus.device.cpu.rapl")
    cpu = importlib.import_module("zeus.device.cpu")
    monkeypatch.setattr(rapl, "RAPL_DIR", str(folder))
    monkeypatch.setattr(cpu, "_cpus", None)
    monkeypatch.setattr(host.find_host_energy, "__defaults__", (None, (folder,)))

    class NoWraps:
        def __init__(self, path, max_energy_uj):
            pass

        def get_num_wraparounds(self):
            return 0

    monkeypatch.setattr(rapl, "RaplWraparoundTracker", NoWraps)
    rapl.rapl_is_available.cache_clear()
    try:
        with ZeusMeter(clock=rig.clock) as meter:
            meter.begin_window("a")
            rig.clock.sleep(1.0)
            (folder / "intel-rapl:0" / "energy_uj").write_text("43000000\n")
            (folder / "intel-rapl:0" / "intel-rapl:0:0" / "energy_uj").write_text("5500000\n")
            reading = meter.end_window("a")
    finally:
        rapl.rapl_is_available.cache_clear()
    assert reading.cpu_energy_j == pytest.approx(42.0)
    assert reading.dram_energy_j == pytest.approx(5.0)
    assert reading.missing == ()
