"""Names that people ask for and that no row can answer, each with why: it saves them guessing at spellings.

Only a name that resolves to nothing is looked up here, so a row or an alias always wins.
"""

from __future__ import annotations

import re
from typing import Final

_ENCODER: Final = "is an encoder: only decoder-only language models are covered"
_ENCODER_DECODER: Final = "is an encoder-decoder: only decoder-only language models are covered"
_NO_TEXT: Final = "generates no text: only decoder-only language models are covered"
_UNPUBLISHED: Final = "has no published shape; give the shape of a model like it (architecture_from_shape)"
_OTHER_MIXER: Final = "has layers that no row of the catalog can describe"
_UNEVEN: Final = "has layers of several widths, which no row of the catalog can describe"
_NARROW: Final = "has an embedding narrower than its layers, which no row of the catalog can describe"
_BERTS: Final = "distil|al|ro|de|mo|tiny|xlm-?ro|modern|camem|sci|bio|fin|long"
_BITS: Final = (
    "names weights of 2, 3, 5 or 6 bits; give the plain name and precision int4 or int8-w8a16 beside it"
)
# The words of a name, between its separators, decide; the first pattern that fits does.
_MODELS: Final = tuple(
    (re.compile(rf"(?:^|[-_./:\s]){pattern}"), reason)
    for pattern, reason in (
        (rf"(?:{_BERTS})?bert(?:a|weet)?(?:[-_v]|\d|$)", _ENCODER),
        (r"(?:bge|e5|gte|electra|longformer|minilm|mpnet|jina-embeddings)(?:[-_]|$)", _ENCODER),
        (r"all-(?:minilm|mpnet|distilroberta)", _ENCODER),
        (r"(?:flan-?|m|um|by|long-?|code-?|switch-)?t5(?:gemma)?(?:[-_p.]|x+l|$)", _ENCODER_DECODER),
        (r"(?:code)?t5p-", _ENCODER_DECODER),
        (r"(?:flan-)?ul2(?:[-_]|$)", _ENCODER_DECODER),
        (r"(?:t0(?:pp|_3b)?|mt0|m?bart|pegasus|nllb|m2m100)(?:[-_]|$)", _ENCODER_DECODER),
        (r"(?:blenderbot|marian|opus-mt|led|switch-base)(?:[-_]|$)", _ENCODER_DECODER),
        (r"whisper(?:[-_]|$)", _ENCODER_DECODER),
        (r"(?:clip|siglip|vit|dinov?\d?|resnet\d*|swin|convnext|sam\d?)(?:[-_]|$)", _NO_TEXT),
        (r"(?:stable-diffusion|sdxl|sd-?turbo|flux|latent-consistency|kandinsky|pixart)", _NO_TEXT),
        (r"(?:gpt-?(?:3\.5|4|5)(?=[-_.o\s]|$)|chatgpt|o[134](?:-mini|-preview|-pro)?$)", _UNPUBLISHED),
        (r"(?:claude|gemini|palm-?2?$|bard$|chinchilla|gopher|lamda|nova-(?:lite|micro|pro)|grok-[34])", _UNPUBLISHED),
        (r"(?:rwkv|v\d-eagle|v\d-finch)", _OTHER_MIXER),
        (r"(?:stripedhyena|evo-|hyena|hymba|zamba|ring-(?:mini|flash)-linear)", _OTHER_MIXER),
        (r"(?:openelm|gemma-?4-e\d|llama-3_1-nemotron-(?:51b|ultra-253b))", _UNEVEN),
        (r"opt-350m$", _NARROW),
        (r"i?q[2356](?:_k|_[01]|_xx?s)?(?:_[sml]|_xl)?(?:[-_.]gguf)?$", _BITS),
    )
)  # fmt: skip
_COVERED: Final = "only boards of NVIDIA, AMD and Intel are covered, neither CPUs nor other accelerators"
_START: Final = r"(?:^|[-_\s/.])"
_END: Final = r"(?=[-_\s/.\d]|$)"
# What is no GPU, by the words people use for it; each reason names what it is.
_NO_GPU: Final = tuple(
    (re.compile(rf"{_START}(?:{words})", re.IGNORECASE), what)
    for words, what in (
        (
            r"tpu|v(?:2|3|4|5e|5p|5litepod|6e|7x)-\d+$|v5e$|v5p$|v6e$|trillium|ironwood|ct\d[a-z]*-",
            "a Google TPU",
        ),
        (rf"trainium|inferentia|neuron{_END}|(?:trn|inf)\d[a-z]*\.", "an AWS Trainium or Inferentia chip"),
        (rf"ascend|atlas\s*\d|910[bc]?{_END}|910[bc]\d?$|310p", "a Huawei Ascend NPU"),
        (rf"groq|lpu{_END}", "a Groq LPU"),
        (r"cerebras|wse-?\d|cs-?[23]$", "a Cerebras wafer"),
        (rf"sambanova|sn\d\dl?{_END}|rdu{_END}", "a SambaNova RDU"),
        (rf"graphcore|ipu{_END}|bow-\d", "a Graphcore IPU"),
        (r"tenstorrent|wormhole|blackhole", "a Tenstorrent chip"),
        (r"cambricon|mlu\d", "a Cambricon MLU"),
        (
            r"hygon|biren|br1\d\d|moore\s*threads|mtt|kunlun|enflame|iluvatar|metax|dcu",
            "a board of another vendor",
        ),
        (
            r"(?:qualcomm|cloud-?ai-?100)|furiosa|rngd|rebellions|maia|mtia|d-?matrix|etched|hailo|sohu",
            "an accelerator",
        ),
        (r"apple|m[1-5](?:\s|-|$)|m[1-5]\s*(?:pro|max|ultra)", "an Apple chip"),
        (
            rf"cpu|xeon|epyc|ryzen|threadripper|core\s*(?:i\d|ultra)|grace{_END}(?!.*hopper)|graviton|ampere\s*altra",
            "a CPU",
        ),
        (r"(?:[cmrt]\d[a-z]*)\.(?:\d*x?large|metal|medium|micro)", "a cloud instance without GPUs"),
        (r"(?:e2|n1|n2d?|c[234]d?|t2[ad])-(?:standard|highmem|highcpu)", "a cloud machine without GPUs"),
    )
)
_SLICE: Final = re.compile(
    r"(?:^|[-_\s:])(?:mig|vgpu|grid)(?:[-_\s:]|$)|\dg\.\d+gb|[-_\s]\d+[cq]$", re.IGNORECASE
)
_LAPTOP: Final = re.compile(r"laptop|mobile|notebook", re.IGNORECASE)
# Names that several boards share, as far as people shorten them; drivers print the full one.
_SHARED_NAMES: Final = {
    "rtx6000": ("Quadro-RTX-6000", "RTX-A6000", "RTX-6000-Ada", "RTX-PRO-6000-Blackwell-WS"),
    "rtx5000": ("RTX-A5000", "RTX-5000-Ada"),
    "rtx4000": ("RTX-A4000", "RTX-4000-Ada", "RTX-4000-SFF-Ada"),
    "rtx4500": ("RTX-A4500", "RTX-4500-Ada"),
}


_OTHER_USES: Final = tuple(
    (re.compile(rf"(?:^|[-_./:\s])(?:{words})(?:[-_./:\s]|$)"), use)
    for words, use in (
        (
            "embed(?:ding|der)?s?|nv-embed|e5-mistral|gte-qwen2|sfr-embedding|bge",
            "it embeds texts and generates none",
        ),
        ("rerank(?:er|ing)?", "it ranks texts and generates none"),
        ("reward|prm|orm|rm", "it gives scores and generates no text"),
        (
            r"eagle\d*|medusa|hydra|speculator|dflash",
            "it drafts tokens for another model: give the one it serves",
        ),
    )
)


def why_no_generator(name: str) -> str:
    """Return what a model named so does instead of generating text, or "" where its name says nothing of it."""
    spelled = name.strip().casefold()
    return next((use for pattern, use in _OTHER_USES if pattern.search(spelled)), "")


def why_no_model(name: str) -> str:
    """Return why the catalog has no model ``name``, or "" where nothing is known of it."""
    spelled = name.strip().casefold()
    for pattern, reason in _MODELS:
        if pattern.search(spelled):
            return f"it {reason}"
    return ""


def why_no_gpu(name: str, key: str) -> str:
    """Return why no board is meant by ``name``, whose folded form is ``key``, or "" where nothing is known."""
    if key in _SHARED_NAMES:
        return f"several boards are called so: say {', '.join(_SHARED_NAMES[key])}"
    for pattern, what in _NO_GPU:
        if pattern.search(name.strip()):
            return f"it is {what}: {_COVERED}"
    if _SLICE.search(name.strip()):
        return "it is a slice of a board (MIG or vGPU), whose share of the power nothing states: name the whole board"
    if _LAPTOP.search(name):
        return (
            "a laptop's GPU is another chip at another power than the card of its name: give a JSON datasheet"
        )
    return ""
