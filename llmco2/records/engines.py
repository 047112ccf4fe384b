"""The serving engines the project knows, by generation, under one name each.

Invariant: a name stands for one generation of one host stack; the bare name of an engine is its current generation. A
version behind a name picks the generation (``vLLM 0.10.2`` is ``vllm-0.11``, the first V1 generation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.records.request import UNKNOWN

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One generation of a serving stack: its canonical name, what it is, and what else people call it."""

    name: str
    description: str
    kernels: str = "vllm"  # the stack whose measured kernels are nearest: vllm, sglang or trtllm
    relative: str = ""  # the engine whose host stands in where this one was not measured
    aliases: tuple[str, ...] = ()
    launches_from_python: bool = False  # every operator by itself, with neither compiler nor CUDA graph
    formats: tuple[str, ...] = ()  # the only weights that it holds, its default first; (): any
    product: str = ""  # the engine this is a generation of; its own name where it is the only one
    before: Version | None = None  # the first version that is no longer of this generation


_ALL: Final = (
    Engine(
        name=UNKNOWN,
        description="not known; a current server is assumed and the interval is wider",
        relative="vllm",
        aliases=("none", "any", "other"),
    ),
    Engine(
        name="vllm-0.5",
        description="vLLM up to 0.5 (host-bound scheduler)",
        relative="vllm-0.7",
        product="vllm",
        before=(0, 6),
    ),
    Engine(
        name="vllm-0.7",
        description="vLLM 0.6 and 0.7 (the last of the V0 engine)",
        relative="vllm-0.11",
        aliases=("vllm-v0",),
        product="vllm",
        before=(0, 8),
    ),
    Engine(
        name="vllm-0.11",
        description="vLLM 0.8 to 0.13 (the V1 engine, CUDA graphs)",
        relative="vllm",
        aliases=("vllm-v1",),
        product="vllm",
        before=(0, 14),
    ),
    Engine(
        name="vllm",
        description="vLLM from 0.14 on, the current generation (V1, asynchronous scheduling)",
        relative="vllm-0.11",
        aliases=("vllm-latest",),
        product="vllm",
    ),
    Engine(
        name="vllm-speculative",
        description="vLLM with speculative decoding",
        relative="vllm",
        aliases=("vllm-spec",),
    ),
    Engine(
        name="sglang-0.4",
        description="SGLang up to 0.4",
        kernels="sglang",
        relative="sglang",
        product="sglang",
        before=(0, 5),
    ),
    Engine(
        name="sglang",
        description="SGLang from 0.5 on, the current generation",
        kernels="sglang",
        relative="vllm",
        aliases=("sgl", "sglang-srt"),
        product="sglang",
    ),
    Engine(
        name="tensorrt-llm-0",
        description="NVIDIA TensorRT-LLM before 1.0 (2023 to 2024)",
        kernels="trtllm",
        relative="tensorrt-llm",
        product="tensorrt-llm",
        before=(1, 0),
    ),
    Engine(
        name="tensorrt-llm",
        description="NVIDIA TensorRT-LLM from 1.0 on, also behind Triton and Dynamo",
        kernels="trtllm",
        relative="sglang",
        aliases=("trt-llm", "trtllm", "tensorrtllm", "tensorrt", "trt", "triton", "triton-trtllm"),
        product="tensorrt-llm",
    ),
    Engine(
        name="tgi",
        description="Hugging Face text-generation-inference",
        relative="vllm-0.11",
        aliases=("text-generation-inference", "hf-tgi"),
    ),
    Engine(
        name="lmdeploy",
        description="LMDeploy with the TurboMind engine",
        relative="sglang",
        aliases=("turbomind",),
    ),
    Engine(
        name="atom",
        description="AMD ATOM",
        relative="sglang",
    ),
    Engine(
        name="deepspeed-mii",
        description="DeepSpeed-MII (FastGen)",
        relative="vllm-0.7",
        aliases=("deepspeed", "mii", "deepspeed-fastgen", "ds-mii"),
    ),
    Engine(
        name="hf-eager",
        description="Hugging Face transformers, eager, with a KV cache",
        aliases=(
            "hf",
            "transformers",
            "hf-transformers",
            "huggingface",
            "hugging-face",
            "eager",
            "hf-eager-nocache",
        ),
        launches_from_python=True,
    ),
    Engine(
        name="hf-autocast",
        description="Hugging Face transformers, eager, under torch.autocast",
        relative="hf-eager",
        aliases=("transformers-autocast",),
        launches_from_python=True,
    ),
    Engine(
        name="hf-compile",
        description="Hugging Face transformers under torch.compile with a static cache",
        relative="vllm-0.11",
        aliases=("torch-compile", "hf-torch-compile", "transformers-compile"),
    ),
    Engine(
        name="hf-bitsandbytes",
        description="transformers with bitsandbytes int8 or 4-bit weights",
        formats=("int8", "nf4"),
        relative="hf-eager",
        aliases=("bitsandbytes", "bnb", "hf-bnb"),
        launches_from_python=True,
    ),
    Engine(
        name="hf-gptq",
        description="transformers with GPTQ 4-bit weights",
        formats=("int4", "int8-w8a16"),
        relative="hf-eager",
        aliases=("gptq", "auto-gptq"),
        launches_from_python=True,
    ),
    Engine(
        name="llama.cpp",
        description="llama.cpp and what embeds it",
        relative="vllm-0.11",
        aliases=("llamacpp", "llama-cpp", "llama-cpp-python", "ollama", "gguf"),
    ),
    Engine(
        name="splitwise-server",
        description="the vLLM-like server of the Splitwise paper (ISCA 2024)",
        relative="vllm-0.5",
        aliases=("splitwise",),
    ),
)

ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in _ALL}


def _key(name: str) -> str:
    return re.sub(r"[\s_\-/]+", "", name.strip().casefold())


_BY_KEY: Final = {_key(alias): engine.name for engine in _ALL for alias in (engine.name, *engine.aliases)}
_VERSIONED: Final = re.compile(r"(?P<name>.*?[a-z])=*[vb]?(?P<major>\d+)(?:\.(?P<minor>\d+))?(?:[.+a-z].*)?")


def engine_names() -> tuple[str, ...]:
    """Return the canonical engine names, ``unknown`` first."""
    return tuple(ENGINES)


def resolve_engine(name: str) -> str:
    """Return the canonical name of an engine; case, spaces, dashes and underscores do not matter.

    A version behind the name picks its generation: ``vLLM 0.11.2`` is ``vllm-0.11``, ``vllm==0.19`` is ``vllm``.

    Raises:
        InputError: ``name`` is not text.
        UnknownNameError: no engine goes by that name; the message carries the nearest ones.
    """
    if not isinstance(name, str):
        raise InputError(explain("engine is not a name", got=repr(name), expected=", ".join(ENGINES)))
    key = _key(name)
    if not key:
        return UNKNOWN
    if key in _BY_KEY:
        return _BY_KEY[key]
    found = _VERSIONED.fullmatch(key)
    if found and found["name"] in _BY_KEY:
        version = (int(found["major"][:6]), int((found["minor"] or "0")[:6]))
        return _generation(_BY_KEY[found["name"]], version)
    known = [alias for engine in _ALL for alias in (engine.name, *engine.aliases)]
    raise UnknownNameError("engine", name, known, remedy=f"or {UNKNOWN!r} where it is not known")


def _generation(name: str, version: Version) -> str:
    """Return the generation of ``name``'s product that ``version`` belongs to."""
    product = ENGINES[name].product
    if not product:
        return name
    ended = [engine for engine in _ALL if engine.product == product and engine.before is not None]
    for engine in sorted(ended, key=lambda e: e.before or version):
        if engine.before is not None and version < engine.before:
            return engine.name
    return product
