"""Names as providers and tools write them, brought to the form that model names have on the hub.

Bedrock (``us.meta.llama3-3-70b-instruct-v1:0``), Vertex (``publishers/meta/models/…-maas``, ``…@001``), OpenRouter
(``…:free``), Fireworks (``llama-v3p1-…``), Together (``…-Turbo``), Ollama (``llama3.1:8b``), addresses of the hub.

Invariant: only what a provider adds is taken off; a name that no provider has touched comes back as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ADDRESS: Final = re.compile(
    r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|ollama\.com/library)/", re.IGNORECASE
)
_ROUTES: Final = re.compile(
    r":(?:free|nitro|floor|exacto|beta|extended|online|thinking|self-moderated)$", re.IGNORECASE
)
_VERTEX: Final = re.compile(r"(?:-maas)?(?:@(?:\d{3}|default|latest|\d{8}))?$", re.IGNORECASE)
_BEDROCK: Final = re.compile(
    r"^(?:(?:us|eu|ap|apac|au|jp|ca|sa|global|us-gov)\.)?"
    r"(meta|mistral|deepseek|qwen|openai|ai21|cohere|google|nvidia|minimax|moonshot|moonshotai|zai|amazon|anthropic)\."
    r"(.+?)(?:-v\d+)?(?::\d+(?::\w+)?)?$",
    re.IGNORECASE,
)
_BEDROCK_RELEASE: Final = re.compile(r"-\d$")  # of gpt-oss: "-1:0" without a "v"
_BEDROCK_PATCH: Final = re.compile(r"-v0:(\d+)$")  # Mistral's own "v0.2", written "v0:2"
_VERSION_DASH: Final = re.compile(r"(?<=[a-z-])(\d)-(\d)(?=-)", re.IGNORECASE)
_FIREWORKS: Final = re.compile(r"(?<=-)v(\d)p(\d)(?=-)|(?<=\d)p(?=\d+(?:-|$))", re.IGNORECASE)
_TIERS: Final = re.compile(r"-(?:versatile|instant|fast|tput|reference)$", re.IGNORECASE)
_TURBO: Final = re.compile(r"-turbo$", re.IGNORECASE)
_OLLAMA_TAG: Final = re.compile(r"^(?:ollama/)?(?:[\w.\-]+/)?[\w.\-]+:[\w.\-]+$", re.IGNORECASE)
_TOGETHER: Final = re.compile(r"^together(?:_ai|ai)?/", re.IGNORECASE)
_PREFIXED: Final = {"deepseek": "deepseek-", "ai21": "AI21-"}
_REGION_ONLY: Final = re.compile(r"^(?:bedrock|sagemaker)/", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderName:
    """A name without what its provider added, and the format that the provider serves it in ("" where not said)."""

    name: str
    precision: str = ""
    said_by: str = ""  # what told the precision


def provider_name(name: str) -> ProviderName:
    """Return ``name`` as the hub would write it."""
    bare = _ADDRESS.sub("", name.strip())
    routed = _ROUTES.sub("", bare)
    if _is_bedrock(routed):
        return ProviderName(name=_from_bedrock(_BEDROCK_PATCH.sub(r"-v0.\1", _REGION_ONLY.sub("", routed))))
    plain = _FIREWORKS.sub(lambda m: f"{m[1]}.{m[2]}" if m[1] else ".", _VERTEX.sub("", routed))
    plain = _TIERS.sub("", plain) if "/" in plain else plain
    if _TURBO.search(plain) and (_TOGETHER.match(plain) or "meta-llama/" in plain.casefold()):
        return ProviderName(
            name=_TURBO.sub("", plain), precision="fp8", said_by="Together's Turbo endpoints are FP8"
        )
    if routed == bare and plain == bare and _is_ollama(bare):
        return ProviderName(name=bare, precision="int4", said_by="an Ollama tag without a format is Q4_K_M")
    return ProviderName(name=plain)


def _is_bedrock(name: str) -> bool:
    inner = _REGION_ONLY.sub("", name)
    found = _BEDROCK.match(inner)
    return found is not None and "/" not in inner and (":" in inner or inner != name or inner.count(".") >= 1)


def _from_bedrock(name: str) -> str:
    found = _BEDROCK.match(name)
    if found is None:
        return name
    vendor, model = found.group(1).casefold(), found.group(2)
    model = _VERSION_DASH.sub(r"\1.\2", _BEDROCK_RELEASE.sub("", model) if vendor == "openai" else model)
    return model if model.casefold().startswith(vendor) else _PREFIXED.get(vendor, "") + model


def _is_ollama(name: str) -> bool:
    return _OLLAMA_TAG.match(name) is not None and not name.casefold().startswith(("hf.co", "huggingface.co"))
