"""``llmco2 monitor --prometheus``: many hosts, on the screen or as text and JSON."""

from __future__ import annotations

import argparse
import json
import sys

from llmco2.catalog.grids import WORLD_ZONE_ID, resolve_zone
from llmco2.errors import InputError, explain
from llmco2.serving.fleet import Fleet, read_fleet
from llmco2.serving.fleet_facts import fleet_facts
from llmco2.serving.prometheus_api import PrometheusClient
from llmco2_tui.fleet_table import fleet_text
from llmco2_tui.grid import zone_factors

_OTHER_SOURCES = ("simulate", "replay", "campaign", "server", "record", "export", "model")


def run_fleet(args: argparse.Namespace) -> int:
    """Show the hosts that a Prometheus knows; return the exit code."""
    for name in _OTHER_SOURCES:
        if getattr(args, name, None) is not None:
            raise InputError(explain(f"--prometheus and {name.replace('_', '-')}", expected="one of them"))
    zone = resolve_zone(args.zone or WORLD_ZONE_ID)
    client = PrometheusClient(args.prometheus)
    factors = zone_factors(zone.zone_id)

    def ask() -> Fleet:
        return read_fleet(client.query, factors)

    try:
        if args.json:
            print(
                json.dumps(fleet_facts(ask(), url=client.url, zone=zone.zone_id), indent=2, allow_nan=False)
            )
            return 0
        if args.once:
            print(fleet_text(ask()))
            return 0
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            remedy = "use --once or --json in scripts"
            raise InputError(explain("the screen needs a terminal", got="a pipe or a file", remedy=remedy))
        from llmco2_tui.fleet_app import FleetApp  # noqa: PLC0415 - textual, for the screen only

        app = FleetApp(ask, light=args.light)
        app.run()
        return app.return_code or 0
    finally:
        client.close()
