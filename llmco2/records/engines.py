"""The serving engines the project knows, under one name each.

Invariant: an engine name stands for one host stack. Engines differ by up to four times in energy on the same
GPU, model and batch, so two generations of one engine are two names, and so are quantised kernels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmco2.errors import InputError, UnknownNameError, explain
from llmco2.records.request import UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One serving stack: its canonical name, what it is, and what else people call it."""

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()  # the only weights that it holds, its default first; (): any
    launches_from_python: bool = False  # every operator by itself, with neither compiler nor CUDA graph


_ALL: Final = (
    Engine(
        name=UNKNOWN,
        description="not known; predictions widen their interval",
        aliases=("none", "any", "other"),
    ),
    Engine(
        name="vllm",
        description="vLLM, generation not stated or between 0.6 and 0.10",
        aliases=("vllm-0.6", "vllm-0.7", "vllm-0.8", "vllm-0.9", "vllm-0.10"),
    ),
    Engine(
        name="vllm-0.5",
        description="vLLM up to 0.5 (host-bound scheduler)",
        aliases=("vllm-0.4", "vllm-0.3", "vllm-0.2"),
    ),
    Engine(
        name="vllm-0.11",
        description="vLLM from 0.11 on (the V1 engine, CUDA graphs)",
        aliases=("vllm-v1", "vllm-1", "vllm-0.12", "vllm-0.13", "vllm-0.14", "vllm-latest"),
    ),
    Engine(name="vllm-speculative", description="vLLM with speculative decoding", aliases=("vllm-spec",)),
    Engine(name="sglang", description="SGLang", aliases=("sgl", "sglang-srt")),
    Engine(
        name="tensorrt-llm",
        description="NVIDIA TensorRT-LLM, also behind Triton",
        aliases=("trt-llm", "trtllm", "tensorrtllm", "tensorrt", "triton", "triton-trtllm"),
    ),
    Engine(
        name="tgi",
        description="Hugging Face text-generation-inference",
        aliases=("text-generation-inference", "hf-tgi"),
    ),
    Engine(
        name="deepspeed-mii",
        description="DeepSpeed-MII (FastGen)",
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
        aliases=("transformers-autocast",),
        launches_from_python=True,
    ),
    Engine(
        name="hf-compile",
        description="Hugging Face transformers under torch.compile with a static cache",
        aliases=("torch-compile", "hf-torch-compile", "transformers-compile"),
    ),
    Engine(
        name="hf-bitsandbytes",
        description="transformers with bitsandbytes int8 or 4-bit weights",
        formats=("int8", "nf4"),
        aliases=("bitsandbytes", "bnb", "hf-bnb"),
        launches_from_python=True,
    ),
    Engine(
        name="hf-gptq",
        description="transformers with GPTQ 4-bit weights",
        formats=("int4", "int8-w8a16"),
        aliases=("gptq", "auto-gptq"),
        launches_from_python=True,
    ),
    Engine(
        name="llama.cpp",
        description="llama.cpp and what embeds it",
        aliases=("llamacpp", "llama-cpp", "llama-cpp-python", "ollama", "gguf"),
    ),
    Engine(
        name="splitwise-server",
        description="the vLLM-like server of the Splitwise paper (ISCA 2024)",
        aliases=("splitwise",),
    ),
)

ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in _ALL}


def _key(name: str) -> str:
    return re.sub(r"[\s_\-/]+", "", name.strip().casefold())


_BY_KEY: Final = {_key(alias): engine.name for engine in _ALL for alias in (engine.name, *engine.aliases)}


def engine_names() -> tuple[str, ...]:
    """Return the canonical engine names, ``unknown`` first."""
    return tuple(ENGINES)


def resolve_engine(name: str) -> str:
    """Return the canonical name of an engine; case, spaces, dashes and underscores do not matter.

    A version behind the name counts where it changes the host stack: ``vLLM 0.11.2`` is ``vllm-0.11``.

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
    vllm = re.fullmatch(r"vllm=*v?(\d+)\.(\d+)(?:\..*)?", key)
    if vllm:
        return _vllm_generation(int(vllm[1]), int(vllm[2]))
    unversioned = re.sub(r"[=v]*\d+(\.\d+)+.*$", "", key)
    if unversioned in _BY_KEY:
        return _BY_KEY[unversioned]
    known = [alias for engine in _ALL for alias in (engine.name, *engine.aliases)]
    raise UnknownNameError("engine", name, known, remedy=f"or {UNKNOWN!r} where it is not known")


def _vllm_generation(major: int, minor: int) -> str:
    if (major, minor) <= (0, 5):
        return "vllm-0.5"
    return "vllm-0.11" if (major, minor) >= (0, 11) else "vllm"
