"""Reading a serving engine over HTTP within limits of time and size.

Invariant: a request ends within its limits as a page or as a :class:`ServerError`; a redirect is followed on the same
host only; TensorRT-LLM's ``/metrics`` is never asked for statistics, because reading it takes them from others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from llmco2.errors import InputError, explain
from llmco2.serving.errors import DAMAGED, REDIRECTED, REFUSED, SLOW, TOO_LARGE, UNREACHABLE, ServerError
from llmco2.serving.exposition import MAX_PAGE_BYTES, printable

_MAX_REDIRECTS: Final = 3
_MAX_FACTS_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long one page may take, s."""

    connect_s: float = 2.0
    page_s: float = 4.0


class PageClient:
    """Fetches pages of one server; close it after use."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits | None = None,
        headers: dict[str, str] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``url`` is http://host:port, with a path where metrics are served elsewhere than usual."""
        self.url = checked_url(url)
        self._limits = limits or Limits()
        self._now_s = now_s
        self._client = httpx.Client(
            timeout=httpx.Timeout(self._limits.page_s, connect=self._limits.connect_s),
            headers={
                "Accept": "text/plain, application/json;q=0.9",
                "Accept-Encoding": "identity",
                "User-Agent": "llmco2",
                **(headers or {}),
            },
            follow_redirects=False,
            trust_env=False,
        )

    def text(self, path: str) -> bytes:
        """Return the body at ``path``, or raise :class:`ServerError`."""
        return self._get(str(self.url.copy_with(raw_path=path.encode())), MAX_PAGE_BYTES)

    def page(self) -> bytes:
        """Return the body at the client's own URL."""
        return self._get(str(self.url), MAX_PAGE_BYTES)

    def facts(self, path: str, *, limit: int = _MAX_FACTS_BYTES, refusals: bool = False) -> Any:
        """Return the JSON at ``path``, or raise :class:`ServerError`.

        ``refusals``: an HTTP error with a JSON body is an answer, as Prometheus writes its errors.
        """
        body = self._get(str(self.url.copy_with(raw_path=path.encode())), limit, refusals=refusals)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            text = printable(body[:80].decode("utf-8", errors="replace"))
            raise ServerError(DAMAGED, explain(f"{path} of the server is no JSON", got=repr(text))) from None

    def _get(self, url: str, limit: int, *, refusals: bool = False) -> bytes:
        deadline_s = self._now_s() + self._limits.page_s
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                with self._client.stream("GET", url) as response:
                    if response.is_redirect:
                        url = self._target(response)
                        continue
                    if refusals and response.headers.get("content-type", "").startswith("application/json"):
                        return self._read(response, limit, deadline_s)
                    return self._body(response, limit, deadline_s)
        except httpx.TimeoutException as error:
            code = UNREACHABLE if isinstance(error, httpx.ConnectTimeout) else SLOW
            raise ServerError(
                code, explain(f"{_place(url)} does not answer", got="no answer in time")
            ) from error
        except httpx.HTTPError as error:
            text = printable(str(error) or type(error).__name__)
            raise ServerError(UNREACHABLE, explain(f"cannot read {_place(url)}", got=text)) from error
        except httpx.InvalidURL as error:
            raise ServerError(
                REDIRECTED, explain("the server redirects to no URL", got=printable(str(error)))
            ) from error
        raise ServerError(REDIRECTED, explain(f"{_place(url)} redirects without end"))

    def _target(self, response: httpx.Response) -> str:
        target = response.url.join(response.headers.get("location", ""))
        if (target.scheme, target.host, target.port) != (self.url.scheme, self.url.host, self.url.port):
            raise ServerError(
                REDIRECTED,
                explain(
                    "the server redirects elsewhere",
                    got=printable(str(target)),
                    remedy="give that URL instead",
                ),
            )
        return str(target)

    def _body(self, response: httpx.Response, limit: int, deadline_s: float) -> bytes:
        if response.status_code >= 400:
            raise ServerError(
                REFUSED, explain(f"{_place(str(response.url))} refuses", got=f"HTTP {response.status_code}")
            )
        return self._read(response, limit, deadline_s)

    def _read(self, response: httpx.Response, limit: int, deadline_s: float) -> bytes:
        if response.headers.get("content-encoding", "identity").casefold() not in ("", "identity"):
            raise ServerError(DAMAGED, explain("the page is compressed, which was not asked for"))
        parts, size = [], 0
        for part in response.iter_raw():
            size += len(part)
            if size > limit:
                raise ServerError(
                    TOO_LARGE,
                    explain(f"{_place(str(response.url))} is too large", got=f"over {limit >> 10:,} KiB"),
                )
            if self._now_s() > deadline_s:
                raise ServerError(
                    SLOW,
                    explain(f"{_place(str(response.url))} is slow", got=f"over {self._limits.page_s:g} s"),
                )
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def checked_url(url: str) -> httpx.URL:
    """Return ``url`` if it is http or https with a host and no password in it; else raise InputError."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        found = httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise InputError(
            explain("not the URL of a server", got=repr(printable(url)), expected="http://host:port")
        )
    if found.userinfo:
        raise InputError(explain("a URL with a password in it", remedy="set a header in a proxy instead"))
    return found


def _place(url: str) -> str:
    return printable(url.split("?", 1)[0], 80)
