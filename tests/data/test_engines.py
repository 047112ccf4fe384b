import pytest

from llmco2.errors import InputError, UnknownNameError
from llmco2.records.engines import ENGINES, engine_names, resolve_engine


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("vllm", "vllm"),
        ("vLLM 0.11.2", "vllm-0.11"),
        ("vllm v1", "vllm-0.11"),
        ("vllm==0.4.3", "vllm-0.5"),
        ("vLLM 0.6.1", "vllm-0.7"),
        ("vllm 0.24.0", "vllm"),
        ("TRT-LLM", "tensorrt-llm"),
        ("tensorrt_llm 0.17.0", "tensorrt-llm-0"),
        ("vLLM 0.10.2", "vllm-0.11"),
        ("sglang-0.4.6.post1", "sglang-0.4"),
        ("llama.cpp b4500", "llama.cpp"),
        ("HF", "hf-eager"),
        ("Transformers 4.57.6", "hf-eager"),
        ("hf-eager-nocache", "hf-eager"),
        ("llamacpp", "llama.cpp"),
        ("", "unknown"),
        ("Unknown", "unknown"),
    ],
)
def test_names_people_type_resolve_to_one_name(typed: str, canonical: str) -> None:
    assert resolve_engine(typed) == canonical


def test_every_canonical_name_and_alias_resolves_to_its_own_engine() -> None:
    for engine in ENGINES.values():
        assert {resolve_engine(name) for name in (engine.name, *engine.aliases)} == {engine.name}
    assert engine_names()[0] == "unknown"


def test_an_unknown_engine_names_the_nearest_in_one_line() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine: got 'vlm'; did you mean vllm") as error:
        resolve_engine("vlm")
    assert "\n" not in str(error.value)


def test_a_number_is_not_an_engine() -> None:
    with pytest.raises(InputError, match="engine is not a name: got 3"):
        resolve_engine(3)  # type: ignore[arg-type]
