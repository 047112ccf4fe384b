"""Whose processes a server's are: those that listen on its port, and all their descendants."""

import os
import socket
import subprocess
import sys

from llmco2.measurement.workloads.server_process import server_processes, with_descendants

CHILD = """
import socket, subprocess, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(listener.getsockname()[1], worker.pid, flush=True)
sys.stdin.read()
worker.stdin.close()
worker.wait()
"""


def test_the_listener_and_its_workers_are_found_and_nobody_else():
    server = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port, worker = map(int, server.stdout.readline().split())
    try:
        assert server_processes(f"http://127.0.0.1:{port}") == {server.pid, worker}
        assert {os.getpid(), server.pid, worker} <= with_descendants({os.getpid()})
    finally:
        server.communicate("")
    assert server_processes(f"http://127.0.0.1:{port}") == frozenset()


def test_a_socket_of_ours_that_does_not_listen_is_no_server():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert server_processes(f"http://127.0.0.1:{bound.getsockname()[1]}") == frozenset()


def test_descriptors_that_close_while_they_are_read_hide_no_listener():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        # reading the descriptors of this very process opens one that is closed again by then
        assert os.getpid() in server_processes(f"http://127.0.0.1:{listener.getsockname()[1]}")
