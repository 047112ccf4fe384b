"""A fleet as plain data, for JSON.

Invariant: what is not published is null, never zero.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llmco2.serving.fleet import WINDOW_S, Fleet, FleetHost


def fleet_facts(fleet: Fleet, *, url: str, zone: str) -> dict[str, Any]:
    """Return all that is known of a fleet; energies and rates are of the last five minutes."""
    return {
        "format": "llmco2-fleet",
        "version": 1,
        "prometheus": url,
        "zone": zone,
        "window_s": WINDOW_S,
        "n_hosts": len(fleet.hosts),
        "n_gpus": fleet.n_gpus,
        "power_w": fleet.power_w,
        "operational_gco2e_per_hour": fleet.gco2e_per_hour,
        "output_tokens_per_s": fleet.output_tokens_per_s,
        "troubles": list(fleet.troubles),
        "hosts": [_host_facts(host) for host in fleet.hosts],
    }


def _host_facts(host: FleetHost) -> dict[str, Any]:
    return {
        "name": host.name,
        "power_w": host.power_w,
        "energy_j": host.energy_j,
        "operational_gco2e_per_hour": host.gco2e_per_hour,
        "output_tokens_per_s": host.output_tokens_per_s,
        "energy_per_output_token_j": host.joules_per_output_token,
        "prediction_error_percent": host.error_percent,
        "targets_down": list(host.down),
        "gpus": [asdict(gpu) for gpu in host.gpus.values()],
        "engines": [asdict(engine) for engine in host.engines.values()],
    }
