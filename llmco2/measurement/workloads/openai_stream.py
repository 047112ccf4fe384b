"""One streamed completion from an OpenAI-compatible server, counted and timed.

Invariant: a request ends within its limits, as a complete answer or as a :class:`WorkloadError` that names
what the server did wrong. Events may be split anywhere by the network; a line has a size limit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from llmco2.errors import explain
from llmco2.measurement.meters.meter import Clock
from llmco2.measurement.workloads.workload import WorkloadError

MAX_LINE_BYTES: Final = 1 << 20
MAX_PAGE_BYTES: Final = 4 << 20  # of an answer that is no stream
STREAM_BYTES_PER_TOKEN: Final = 16 << 10  # an event that carries a token is a tenth of that
_STREAM_BYTES: Final = 1 << 20  # besides
PLAIN: Final = {"Accept-Encoding": "identity"}  # a packed answer may unpack to a thousand times its size
_DONE: Final = "[DONE]"
_SHOWN_BYTES: Final = 300  # of an error's body


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How long a server may take, s; a healthy one needs a small part of each."""

    connect_s: float = 10.0
    silence_s: float = 60.0  # between two pieces of an answer, and before the first
    request_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One complete answer; times in s since the request was sent."""

    ttft_s: float
    latency_s: float
    prompt_tokens: int | None  # as the server's usage record counts them
    output_tokens: int
    counted_by_usage: bool  # False: the server sent no usage record, so chunks were counted


async def stream_completion(
    client: httpx.AsyncClient, path: str, payload: dict[str, Any], *, clock: Clock, limits: ServerLimits
) -> Completion:
    """Send one streaming request and read its answer to the end.

    Raises:
        WorkloadError: ``server_dead`` (cannot be reached), ``server_error`` (an HTTP error),
            ``server_redirects`` (a redirect, which is not followed: it would be measured with the answer),
            ``server_stalled`` (silent for too long, or not done in time), ``server_stopped`` (the stream
            broke off), or ``server_nonsense`` (what came is no completion stream).
    """
    try:
        async with asyncio.timeout(limits.request_s):
            return await _stream(client, path, payload, clock)
    except TimeoutError as error:
        raise _failed("server_stalled", f"no end after {limits.request_s:g} s") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _failed("server_dead", str(error) or type(error).__name__) from error
    except httpx.TimeoutException as error:
        raise _failed("server_stalled", f"silent for {limits.silence_s:g} s") from error
    except httpx.TransportError as error:
        raise _failed("server_stopped", str(error) or type(error).__name__) from error


async def _stream(client: httpx.AsyncClient, path: str, payload: dict[str, Any], clock: Clock) -> Completion:
    sent_s = clock.now_s()
    max_tokens = int(payload["max_tokens"])
    reader = _AnswerReader(max_tokens)
    first_s: float | None = None
    async with client.stream("POST", path, json=payload, headers=PLAIN) as response:
        if response.status_code >= 400:
            body = await _beginning(response)
            raise _failed("server_error", f"HTTP {response.status_code}: {body}")
        check_plain(response)
        async for data in _events(response, limit=_STREAM_BYTES + STREAM_BYTES_PER_TOKEN * max_tokens):
            if reader.take(data) and first_s is None:
                first_s = clock.now_s() - sent_s
            if reader.done:
                break
    return reader.completion(first_s, clock.now_s() - sent_s)


def check_plain(response: httpx.Response) -> None:
    """Raise ``WorkloadError`` for a redirect, which is not followed, and for a packed body."""
    if response.is_redirect:
        target = response.headers.get("location", "nowhere")[:120]
        raise _failed("server_redirects", f"HTTP {response.status_code} to {target}")
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed != "identity":
        raise _failed("server_nonsense", f"an answer packed as {packed[:40]}, though asked for it plain")


async def read_page(client: httpx.AsyncClient, path: str, *, limit: int = MAX_PAGE_BYTES) -> httpx.Response:
    """Return the answer to a GET, its whole body read; ``WorkloadError`` for one of more than ``limit`` bytes."""
    async with client.stream("GET", path, headers=PLAIN) as response:
        check_plain(response)
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > limit:
                raise _failed("server_nonsense", f"{path} of more than {limit:,} bytes")
    return httpx.Response(response.status_code, content=bytes(body), request=response.request)


async def _beginning(response: httpx.Response) -> str:
    """Return the first words of a body that may never end; a packed one is not unpacked."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) >= _SHOWN_BYTES:
            break
    return " ".join(body[:_SHOWN_BYTES].decode(errors="replace").split())[:160]


async def _events(response: httpx.Response, *, limit: int) -> AsyncIterator[str]:
    """Yield the text of each ``data:`` line."""
    pending, size = b"", 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > limit:
            raise _failed("server_nonsense", f"a stream of more than {limit:,} bytes")
        *lines, pending = (pending + piece).split(b"\n")
        if len(pending) > MAX_LINE_BYTES:
            raise _failed("server_nonsense", f"a line of more than {MAX_LINE_BYTES:,} bytes")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text.startswith("data:"):
                yield text[5:].strip()
            elif text and not text.startswith((":", "event:", "id:", "retry:")):
                raise _failed("server_nonsense", f"a line {text[:60]!r} in an event stream")


class _AnswerReader:
    """Collects what the events of one answer say."""

    def __init__(self, max_tokens: int) -> None:
        self.done = False
        self._max_tokens = max_tokens
        self._limit = 4 * max_tokens + 64  # chunks; some engines send several for a token
        self._chunks = 0
        self._finished = False
        self._usage: dict[str, Any] | None = None

    def take(self, data: str) -> bool:
        """Take one event; return whether it carried generated text."""
        if data == _DONE:
            self.done = True
            return False
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _failed("server_nonsense", f"an event that is not JSON: {data[:60]!r}") from error
        if not isinstance(event, dict) or not isinstance(event.get("choices", []), list):
            raise _failed("server_nonsense", f"an event that is no completion: {data[:60]!r}")
        if event.get("error"):
            raise _failed("server_error", json.dumps(event["error"])[:160])
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        carried = [
            self._take_choice(choice) for choice in event.get("choices", []) if isinstance(choice, dict)
        ]
        if self._chunks > self._limit:
            raise _failed("server_nonsense", f"more than {self._limit} chunks: max_tokens is not obeyed")
        return any(carried)

    def _take_choice(self, choice: dict[str, Any]) -> bool:
        self._finished = self._finished or choice.get("finish_reason") is not None
        delta = choice.get("delta")
        if isinstance(delta, dict):  # a chat begins with a chunk that only names the role
            carried = any(delta.get(key) for key in ("content", "reasoning_content", "reasoning"))
        else:  # a token may decode to no text at all, and is a token all the same
            carried = isinstance(choice.get("text"), str) and (
                bool(choice["text"]) or choice.get("finish_reason") is None
            )
        self._chunks += carried
        return carried

    def completion(self, first_s: float | None, latency_s: float) -> Completion:
        """Return the answer; a stream that ended early raises."""
        if not self.done and not self._finished:
            raise _failed("server_stopped", f"the stream broke off after {self._chunks} chunks")
        counted = self._usage.get("completion_tokens") if self._usage else None
        by_usage = type(counted) is int and counted > 0
        output_tokens = counted if type(counted) is int and by_usage else self._chunks
        if output_tokens < 1:
            raise _failed("server_nonsense", "an answer without a single token")
        if by_usage and output_tokens > self._max_tokens:
            counts = f"{output_tokens:,} tokens counted, of {self._max_tokens:,} asked for at most"
            raise _failed("server_nonsense", counts)
        prompt = self._usage.get("prompt_tokens") if self._usage else None
        return Completion(
            ttft_s=latency_s if first_s is None else first_s,
            latency_s=latency_s,
            prompt_tokens=prompt if type(prompt) is int and prompt > 0 else None,
            output_tokens=output_tokens,
            counted_by_usage=by_usage,
        )


def _failed(kind: str, got: str) -> WorkloadError:
    words = {
        "server_dead": "the server cannot be reached",
        "server_error": "the server failed",
        "server_redirects": "the server answers from elsewhere: name that address",
        "server_stalled": "the server stalled",
        "server_stopped": "the server stopped in the middle of an answer",
        "server_nonsense": "the server sent something that is no completion stream",
    }
    return WorkloadError(kind, explain(words[kind], got=got))
