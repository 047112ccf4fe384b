"""A small HTTP server on loopback that streams completions, and misbehaves on request."""

import asyncio
import gzip
import json
import threading

TOKEN_DELAY_S = 0.002
MIDWAY = ("stop", "stall", "nonsense", "error_event", "long_line", "empty")


class FakeServer:
    """Serves ``/v1/models``, ``/v1/completions`` and ``/v1/chat/completions`` in a thread of its own.

    ``fault`` may be changed while it runs: ``stop``, ``stall``, ``nonsense``, ``html``, ``error_500``,
    ``error_event``, ``endless``, ``no_usage``, ``early``, ``long_line``, ``empty``, ``redirect``, ``gzip``,
    ``endless_error``, ``endless_comments``, ``too_many``, ``nested``; of a page: ``endless_page``, ``bomb_page``,
    ``redirect_page``, ``nested_page``.
    """

    def __init__(self, *, chat_only=False, refuse_extras=False, template_tokens=0):
        self.fault = None
        self.requests = []
        self.open_now = self.most_open = 0
        self._chat_only, self._refuse_extras, self._template_tokens = (
            chat_only,
            refuse_extras,
            template_tokens,
        )
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(5)

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self):
        self._stopping = asyncio.Event()
        self._writers = set()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, reader, writer):
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which some tests want
        finally:
            writer.close()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split("\r\n")[0].split()
        length = next(
            (int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0
        )
        body = json.loads(await reader.readexactly(length)) if length else {}
        if method == "GET" and (self.fault or "").endswith("_page"):
            await self._bad_page(writer, self.fault.removesuffix("_page"))
            return
        if method == "GET":
            content = {"data": [{"id": "tiny"}]} if path == "/v1/models" else {"version": "1.2.3"}
            status = 200 if path in ("/v1/models", "/version") else 404
            await self._respond(writer, status, json.dumps(content))
            return
        self.requests.append(body)
        if (self._chat_only and path != "/v1/chat/completions") or (
            self._refuse_extras and "ignore_eos" in body
        ):
            await self._respond(writer, 422, '{"detail": "unexpected field"}')
            return
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await self._stream(writer, path, body)
        finally:
            self.open_now -= 1

    async def _respond(self, writer, status, text, kind="application/json"):
        data = text.encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
            f"Connection: close\r\n\r\n".encode()
            + data
        )
        await writer.drain()

    async def _stream(self, writer, path, body):
        fault, tokens = self.fault, body["max_tokens"]
        if fault == "error_500":
            await self._respond(writer, 500, "CUDA out of memory")
            return
        if fault == "html":
            await self._respond(writer, 200, "<html>\n<body>hello</body>\n</html>\n", "text/html")
            return
        if fault in {"redirect", "gzip", "endless_error", "nested"}:
            await self._bad_page(writer, fault)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        chat = path.endswith("chat/completions")
        if chat:
            await self._event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        while fault == "endless_comments":
            writer.write(b": still here\n" * 4096)
            await writer.drain()
        made = max(1, tokens * 3 // 4) if fault == "early" else tokens
        made = 10**9 if fault == "endless" else made
        for index in range(made):
            await asyncio.sleep(0 if fault == "endless" else TOKEN_DELAY_S)
            if index == tokens // 2 and fault in MIDWAY:
                await self._misbehave(writer, fault)
                return
            # one token in five decodes to no text, as half a multi-byte character does
            text = "" if index % 5 == 4 and not chat else "word "
            choice = {"delta": {"content": text}} if chat else {"text": text, "finish_reason": None}
            await self._event(writer, {"choices": [choice]})
        last = {"delta": {}} if chat else {"text": ""}
        await self._event(writer, {"choices": [last | {"finish_reason": "length"}]})
        if fault != "no_usage" and body.get("stream_options", {}).get("include_usage"):
            prompt = body.get("prompt") or body["messages"][0]["content"].split()
            usage = {"prompt_tokens": len(prompt) + self._template_tokens, "completion_tokens": made}
            if fault == "too_many":
                usage["completion_tokens"] = 2 * tokens
            await self._event(writer, {"choices": [], "usage": usage})
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()

    async def _bad_page(self, writer, fault):
        """Answer with a redirect, packed, without an end, or nested without an end."""
        head = {
            "redirect": "307 Elsewhere\r\nLocation: http://127.0.0.1:1/v1/",
            "endless": "200 OK",
            "endless_error": "500 Oh",
        }.get(fault, "200 OK")
        body = {"nested": b"data: " + b"[" * 200_000 + b"\n\n"}.get(fault, b"x" * 65536)
        if fault in {"gzip", "bomb"}:
            head, body = "200 OK\r\nContent-Encoding: gzip", gzip.compress(b"0" * 5_000_000)
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(10**6 if fault.startswith("endless") else 1):
            writer.write(body)
            await writer.drain()

    async def _misbehave(self, writer, fault):
        """Do something wrong in the middle of an answer."""
        if fault == "stall":
            await asyncio.sleep(3600)
        elif fault == "nonsense":
            writer.write(b"data: {this is not json\n\n")
        elif fault == "error_event":
            await self._event(writer, {"error": {"message": "engine died"}})
        elif fault == "long_line":
            for _ in range(40):
                writer.write(b"data: " + b"x" * 65536)
                await writer.drain()
        elif fault == "empty":
            writer.write(b"data: [1, 2]\n\n")
        await writer.drain()

    async def _event(self, writer, content):
        data = f"data: {json.dumps(content)}\n\n".encode()
        writer.write(data[:9])  # events arrive in pieces
        await writer.drain()
        writer.write(data[9:])
        await writer.drain()
