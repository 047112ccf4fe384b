"""A loopback server whose pages a test sets, and the made-up pages of each engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PAGES = Path(__file__).parent / "pages"


def page(name: str) -> bytes:
    """Return one made-up page."""
    return (PAGES / f"{name}.txt").read_bytes()


@dataclass
class Answer:
    """What the loopback server says at one path; ``send`` replaces everything after the request line."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    stop_after: int | None = None  # bytes, then the connection is closed
    chunk: int | None = None  # bytes a piece, each ``delay_s`` apart


class EngineStandIn:
    """A real HTTP server on loopback; ``answers`` by path, ``asked`` in order."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[str] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.asked.append(self.path)
                found = stand_in.answers.get(self.path, Answer(status=404, body=b"not here"))
                stand_in.send(self, found() if callable(found) else found)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that leaves an error page unread resets the connection."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        try:
            if answer.chunk is None:
                time.sleep(answer.delay_s)
            handler.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            if answer.chunk is None:
                handler.wfile.write(answer.body[: answer.stop_after])
            else:
                for start in range(0, len(answer.body), answer.chunk):
                    handler.wfile.write(answer.body[start : start + answer.chunk])
                    handler.wfile.flush()
                    time.sleep(answer.delay_s)
            if answer.stop_after is not None:
                handler.close_connection = True
        except OSError:
            handler.close_connection = True  # the client had enough

    def serve(self, path: str, body: bytes | str, **how: object) -> None:
        """Answer ``path`` with ``body`` from now on."""
        data = body.encode() if isinstance(body, str) else body
        self.answers[path] = Answer(body=data, **how)  # type: ignore[arg-type]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


@pytest.fixture(autouse=True)
def own_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember servers in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    """A running loopback server without pages."""
    stand_in = EngineStandIn()
    yield stand_in
    stand_in.close()
