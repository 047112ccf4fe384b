"""The host's share: which RAPL packages can be read, and why not where they cannot.

Invariant: only zones named ``package-N`` count as CPUs; a ``psys`` zone holds the whole machine, packages
included, and adding it would count them twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RAPL_FOLDERS: Final = (Path("/sys/class/powercap/intel-rapl"), Path("/zeus_sys/class/powercap/intel-rapl"))
ZEUSD_VARIABLES: Final = ("ZEUSD_SOCK_PATH", "ZEUSD_HOST_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnergy:
    """What of the host can be measured: zeus's CPU indices, or the reason why none can."""

    cpu_indices: tuple[int, ...] = ()
    has_dram: bool = False
    through_zeusd: bool = False
    reason: str | None = None


def find_host_energy(
    environ: Mapping[str, str] | None = None, folders: tuple[Path, ...] = RAPL_FOLDERS
) -> HostEnergy:
    """Look at the RAPL folders without opening anything that needs a privilege we lack."""
    environ = os.environ if environ is None else environ
    folder = next((candidate for candidate in folders if candidate.is_dir()), None)
    if folder is None:
        return HostEnergy(
            reason="this machine shows no RAPL counters (intel_rapl is not loaded, or it is a guest)"
        )
    zones = sorted(_numbered(folder))
    packages = tuple(
        position for position, (_, zone) in enumerate(zones) if _name(zone).startswith("package")
    )
    if not packages:
        return HostEnergy(reason="RAPL lists no CPU package")
    has_dram = any(_name(part) == "dram" for _, zone in zones for part in zone.glob("intel-rapl:*"))
    if any(environ.get(name) for name in ZEUSD_VARIABLES):
        return HostEnergy(cpu_indices=packages, has_dram=has_dram, through_zeusd=True)
    if not all(os.access(zones[position][1] / "energy_uj", os.R_OK) for position in packages):
        return HostEnergy(reason="RAPL needs root or zeusd: energy_uj may not be read")
    return HostEnergy(cpu_indices=packages, has_dram=has_dram)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = []
    for zone in folder.glob("intel-rapl:*"):
        number = zone.name.partition(":")[2]
        if number.isdigit():  # intel-rapl:0:1 is a part of a zone
            found.append((int(number), zone))
    return found


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
