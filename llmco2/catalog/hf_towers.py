"""What a ``config.json`` is of: the language tower of a multimodal model, or what is no generator of text.

Invariant: whatever is refused is refused by name in one line; nothing here reads sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from llmco2.errors import FileFormatError, explain

WHAT: Final = "the config.json of a decoder-only language model"
Values = Mapping[str, Any]
_NESTED_KEYS: Final = (
    "text_config",
    "llm_config",
    "language_config",
    "text_model_config",
    "language_model_config",
    "thinker_config",
)
# Keys that only other kinds of network have: encoders, encoder-decoders, diffusion pipelines, recurrent RWKV.
_FOREIGN_KEYS: Final = ("type_vocab_size", "_class_name", "encoder_layers", "d_kv", "attention_hidden_size")
_DECODERS: Final = re.compile(
    r"(?:CausalLM|LMHeadModel|ForConditionalGeneration|ChatModel|ChatGLMModel|MiniCPM[VO])$"
)
_OTHER_USES: Final = (
    (
        re.compile(r"Eagle|Medusa|Hydra|MLPSpeculator|Speculator|DFlash|DSpark|NextN|MTPModel|DraftModel"),
        "drafts tokens for another model",
    ),
    (
        re.compile(r"Reward|SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice"),
        "gives scores",
    ),
    (re.compile(r"Rank(?:ing|er)|Scor(?:ing|er)"), "ranks texts"),
    (re.compile(r"Embed|Retriev|Bidirectional|SentenceTransformer"), "embeds texts"),
    (re.compile(r"MaskedLM$|Encoder(?:Model)?$"), "is an encoder"),
    (
        re.compile(r"(?<!LMHead)(?<!Chat)(?<!ChatGLM)(?<!Omni)Model$"),
        "has no language-model head: it embeds texts",
    ),
)
_DRAFT_KEYS: Final = (
    "draft_vocab_size",
    "eagle_config",
    "dflash_config",
    "medusa_num_heads",
    "speculators_config",
    "speculators_model_type",
)
_ENCODER_TYPES: Final = frozenset({"eagle", "medusa", "mlp_speculator"})


def language_tower(values: Values) -> Values:
    """Return the configuration of the text decoder: the file's own, or that of a tower within it."""
    for key in _NESTED_KEYS:
        nested = values.get(key)
        if isinstance(nested, Mapping) and nested and _is_tower(nested):
            return language_tower(nested)
    return values


def _is_tower(nested: Values) -> bool:
    marks = ("model_type", "hidden_size", "num_hidden_layers", "architectures", *_NESTED_KEYS)
    return any(nested.get(mark) is not None for mark in marks)


def named_architectures(values: Values) -> list[str]:
    """Return the names under ``architectures``."""
    listed = values.get("architectures")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def refuse_other_networks(values: Values, where: str) -> None:
    """Raise FileFormatError for encoders, encoder-decoders, pipelines, drafts, rewards and embedding models."""
    model_type = str(values.get("model_type") or values.get("_class_name") or "none")
    foreign = next((key for key in _FOREIGN_KEYS if key in values), "")
    if foreign or values.get("is_encoder_decoder") is True:
        raise FileFormatError(
            explain(
                f"{where} is no decoder-only language model", got=f"model type {model_type!r}", expected=WHAT
            )
        )
    draft = next((key for key in _DRAFT_KEYS if values.get(key) is not None), "")
    if draft or model_type in _ENCODER_TYPES:
        raise _not_a_generator(where, draft or model_type, "drafts tokens for another model")
    names = named_architectures(values)
    uses = [(name, _other_use(name)) for name in names]
    if uses and all(use for _, use in uses):
        raise _not_a_generator(where, *uses[0])


def refuse_unnamed_decoder(values: Values, where: str) -> None:
    """Raise FileFormatError for a model type that is not known and whose architecture names no text decoder."""
    names = named_architectures(values)
    if not any(_DECODERS.search(name) for name in names):
        model_type = str(values.get("model_type") or values.get("_class_name") or "none")
        raise FileFormatError(
            explain(
                f"{where} names no causal language model",
                got=f"model type {model_type!r}, architectures {names}"[:120],
                expected=WHAT,
            )
        )


def _other_use(name: str) -> str:
    return next((use for pattern, use in _OTHER_USES if pattern.search(name)), "")


def _not_a_generator(where: str, got: str, use: str) -> FileFormatError:
    return FileFormatError(
        explain(
            f"{where} generates no text of its own",
            got=f"{got}, which {use}"[:120],
            expected=WHAT,
            remedy="give the model that it serves, or one that generates",
        )
    )
