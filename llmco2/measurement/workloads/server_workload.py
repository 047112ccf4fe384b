"""Drive any OpenAI-compatible streaming server at a set concurrency.

Invariant: no two requests share a prompt, so that a prefix cache cannot answer for the GPU. Prefill is the
same requests with one output token each; decode cannot be run alone and is whole minus prefill.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from llmco2.errors import explain
from llmco2.measurement.meters.meter import Clock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.openai_stream import (
    Completion,
    ServerLimits,
    read_page,
    stream_completion,
)
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts

API_KEY_VARIABLE: Final = "LLMCO2_SERVER_API_KEY"
TOKENS_BY_CHUNKS: Final = "tokens_counted_by_chunks"
EARLY_STOP: Final = "early_stop"
PROMPT_OFF: Final = "prompt_tokens_differ"
REMOTE_SERVER: Final = "server_not_local"
_BATCH1_TOKENS: Final = 32
_TOKEN_IDS: Final = range(1000, 9000)  # inside every vocabulary of a real model, past the special tokens
_SMALL_IDS: Final = range(10, 60)  # for a tiny vocabulary
_WORDS: Final = (
    "time",
    "year",
    "day",
    "way",
    "world",
    "life",
    "hand",
    "part",
    "place",
    "week",
    "point",
    "home",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How this server wants to be asked; found by asking."""

    path: str
    token_ids: range | None  # None: prompts are text in a chat message
    extras: tuple[str, ...] = ("ignore_eos", "min_tokens")
    words_per_prompt: int = 0


class ServerWorkload:
    """One configuration against a server that is already running."""

    decodes_alone = False

    def __init__(
        self, configuration: RunConfiguration, *, clock: Clock, limits: ServerLimits | None = None
    ) -> None:
        self._configuration = configuration
        self._clock = clock
        self._limits = limits or ServerLimits()
        self._random = random.Random(configuration.seed)
        self._runner: asyncio.Runner | None = None
        self._client: httpx.AsyncClient | None = None
        self._facts = WorkloadFacts()
        self._seen: list[Completion] = []

    @property
    def facts(self) -> WorkloadFacts:
        """The server's version, and what its answers showed so far."""
        if not self._seen:
            return self._facts
        asked = self._configuration
        output = fmean(c.output_tokens for c in self._seen)
        prompts = [c.prompt_tokens for c in self._seen if c.prompt_tokens is not None]
        flags = list(self._facts.flags)
        if not all(c.counted_by_usage for c in self._seen):
            flags.append(TOKENS_BY_CHUNKS)
        if output < asked.output_tokens:
            flags.append(EARLY_STOP)
        prompt = fmean(prompts) if prompts else None
        if prompt is not None and prompt != asked.prompt_tokens:
            flags.append(PROMPT_OFF)
        return replace(self._facts, flags=tuple(flags), prompt_tokens=prompt, output_tokens=output)

    def load(self) -> None:
        """Reach the server, learn its model, its version and its dialect."""
        self._runner = asyncio.Runner()
        self._run(self._connect())

    def prefill(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Send every prompt for one token only."""
        return self._batches(repeats, output_tokens=1)

    def decode(self, repeats: int) -> None:
        """Refuse: a server does not decode without its prompt."""
        raise WorkloadError("unsupported", f"a server cannot decode alone ({repeats} repeats asked)")

    def whole(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Send every prompt and read the whole answer."""
        return self._batches(repeats, output_tokens=self._configuration.output_tokens)

    def step_time_batch1_s(self) -> float | None:
        """Return the mean time between tokens of one request alone."""
        tokens = max(2, min(_BATCH1_TOKENS, self._configuration.output_tokens))
        completion: Completion = self._run(self._one(tokens))
        if completion.output_tokens < 2:
            return None
        return (completion.latency_s - completion.ttft_s) / (completion.output_tokens - 1)

    def close(self) -> None:
        """Close connections and the event loop."""
        runner, client = self._runner, self._client
        self._runner = self._client = None
        if runner is not None:
            if client is not None:
                runner.run(client.aclose())
            runner.close()

    def _run(self, coroutine: Any) -> Any:
        if self._runner is None:
            raise WorkloadError("unsupported", "the server workload is closed")
        return self._runner.run(coroutine)

    def _batches(self, repeats: int, *, output_tokens: int) -> tuple[RequestTiming, ...]:
        completions: list[Completion] = self._run(self._many(repeats, output_tokens))
        if output_tokens > 1:
            self._seen += completions
            self._check_length(completions)
        return tuple(
            RequestTiming(ttft_s=c.ttft_s, latency_s=c.latency_s, output_tokens=c.output_tokens)
            for c in completions
        )

    def _check_length(self, completions: Sequence[Completion]) -> None:
        mean = fmean(c.output_tokens for c in completions)
        asked = self._configuration.output_tokens
        if mean < asked / 2:
            raise WorkloadError(
                EARLY_STOP,
                explain(
                    "answers end long before the tokens asked for",
                    got=f"{mean:.0f} of {asked} tokens",
                    remedy="serve a model whose end token can be ignored (ignore_eos)",
                ),
            )

    async def _connect(self) -> None:
        key = os.environ.get(API_KEY_VARIABLE)
        limits = self._limits
        self._client = httpx.AsyncClient(
            base_url=str(self._configuration.server_url).rstrip("/"),
            timeout=httpx.Timeout(limits.silence_s, connect=limits.connect_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,  # a proxy between us and the server would be measured with it
        )
        self._model = self._configuration.served_model or await self._first_model(self._client)
        self._dialect = await self._find_dialect()
        host = urlsplit(str(self._configuration.server_url)).hostname or ""
        local = host in {"localhost", "::1"} or host.startswith("127.")
        self._facts = WorkloadFacts(
            engine_version=await self._version(self._client),
            flags=() if local else (REMOTE_SERVER,),
            notes=(f"served model {self._model}", f"api {self._dialect.path}"),
        )

    async def _first_model(self, client: httpx.AsyncClient) -> str:
        content = await self._get_json(client, "/v1/models")
        models = content.get("data") if isinstance(content, dict) else None
        if (
            not isinstance(models, list)
            or not models
            or not isinstance(models[0], dict)
            or "id" not in models[0]
        ):
            raise WorkloadError(
                "server_nonsense",
                explain("/v1/models lists no model", got=str(content)[:80], remedy="set served_model"),
            )
        return str(models[0]["id"])

    async def _version(self, client: httpx.AsyncClient) -> str | None:
        for path in ("/version", "/info", "/get_server_info"):  # vLLM; text-generation-inference; SGLang
            try:
                content = await self._get_json(client, path)
            except WorkloadError:
                continue  # most servers have none of these; the version then stays unknown
            version = content.get("version") if isinstance(content, dict) else None
            if isinstance(version, str):
                return version
        return None

    async def _get_json(self, client: httpx.AsyncClient, path: str) -> Any:
        try:
            async with asyncio.timeout(self._limits.silence_s):
                response = await read_page(client, path)
        except (httpx.HTTPError, TimeoutError) as error:
            reason = explain(f"no answer from {client.base_url}", got=str(error) or type(error).__name__)
            raise WorkloadError("server_dead", reason) from error
        try:
            return response.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError, RecursionError) as error:
            raise WorkloadError(
                "server_nonsense", explain(f"{path} is no JSON answer", got=f"HTTP {response.status_code}")
            ) from error

    async def _find_dialect(self) -> _Dialect:
        """Ask once in each way, exactest first: token ids, then words; with and without the extras."""
        refusals = []
        for dialect in _dialects(self._configuration.prompt_tokens):
            self._dialect = dialect
            try:
                completion = await self._one(1)
            except WorkloadError as error:
                if error.kind != "server_error":
                    raise
                refusals.append(str(error))
                continue
            if dialect.token_ids is None:
                return self._fitted(dialect, completion)
            if completion.prompt_tokens in {None, self._configuration.prompt_tokens}:
                return dialect
        raise WorkloadError(
            "server_error", refusals[-1] if refusals else "the server counts other prompt tokens"
        )

    def _fitted(self, dialect: _Dialect, completion: Completion) -> _Dialect:
        """Correct the number of words for what the server's template and tokenizer made of them."""
        if completion.prompt_tokens is None:
            return dialect
        missing = self._configuration.prompt_tokens - completion.prompt_tokens
        return replace(dialect, words_per_prompt=max(1, dialect.words_per_prompt + missing))

    async def _many(self, repeats: int, output_tokens: int) -> list[Completion]:
        completions: list[Completion] = []
        for _ in range(repeats):
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._one(output_tokens))
                        for _ in range(self._configuration.batch_size)
                    ]
            except* WorkloadError as errors:
                raise _first(errors) from errors
            completions += [task.result() for task in tasks]
        return completions

    async def _one(self, output_tokens: int) -> Completion:
        if self._client is None:
            raise WorkloadError("unsupported", "the server workload is closed")
        payload: dict[str, Any] = {
            "model": self._model,
            "max_tokens": output_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._prompt(),
        }
        extras = {"ignore_eos": True, "min_tokens": output_tokens}
        payload |= {name: extras[name] for name in self._dialect.extras}
        return await stream_completion(
            self._client, self._dialect.path, payload, clock=self._clock, limits=self._limits
        )

    def _prompt(self) -> dict[str, Any]:
        if self._dialect.token_ids is not None:
            return {
                "prompt": self._random.choices(self._dialect.token_ids, k=self._configuration.prompt_tokens)
            }
        words = " ".join(self._random.choices(_WORDS, k=self._dialect.words_per_prompt))
        return {"messages": [{"role": "user", "content": words}]}


def _dialects(prompt_tokens: int) -> list[_Dialect]:
    found = []
    for extras in (("ignore_eos", "min_tokens"), ("ignore_eos",), ()):
        found += [
            _Dialect(path="/v1/completions", token_ids=_TOKEN_IDS, extras=extras),
            _Dialect(path="/v1/completions", token_ids=_SMALL_IDS, extras=extras),
        ]
    for extras in (("ignore_eos", "min_tokens"), ("ignore_eos",), ()):
        found.append(
            _Dialect(
                path="/v1/chat/completions", token_ids=None, extras=extras, words_per_prompt=prompt_tokens
            )
        )
    return found


def _first(errors: BaseExceptionGroup[WorkloadError]) -> WorkloadError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, WorkloadError) else WorkloadError("server_error", str(first))
