"""What every test can rely on: no network, one thread, no colour, opt-in markers left out by default."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

# Before anything imports torch or numpy: contended cores make two threads slower than one.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

OPT_IN_MARKERS = ("slow", "gpu", "vllm", "promtool")

# A shared machine is no stopwatch: time is measured in benchmarks/, never by a deadline here.
settings.register_profile("llmco2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llmco2")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.markexpr:
        config.option.markexpr = " and ".join(f"not {marker}" for marker in OPT_IN_MARKERS)


def _stays_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves the machine, so that no test needs one."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse_unless_here(address: Any) -> None:
        if not _stays_here(address):
            raise AssertionError(f"a test tried to reach {address!r}; tests need no network")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse_unless_here(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse_unless_here(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own terminal settings out of what is tested."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
