"""Counts of published models, each worked out by hand from the model's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.params import parameter_count

Counter = Callable[..., dict[str, dict[str, float]]]

LLAMA_8B = Architecture(
    model_id="Llama-3.1-8B",
    hidden_dim=4096,
    vocab_size=128256,
    n_full_attention_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    n_dense_mlp_layers=32,
    ffn_dim=14336,
    other_params=65 * 4096,
)
MIXTRAL_8X7B = Architecture(
    model_id="Mixtral-8x7B",
    hidden_dim=4096,
    vocab_size=32000,
    n_full_attention_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    n_moe_layers=32,
    n_experts=8,
    experts_per_token=2,
    expert_ffn_dim=14336,
    other_params=65 * 4096,
)
DEEPSEEK_V3 = Architecture(
    model_id="DeepSeek-V3",
    hidden_dim=7168,
    vocab_size=129280,
    n_full_attention_layers=61,
    n_heads=128,
    n_kv_heads=128,
    head_dim=192,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_dense_mlp_layers=3,
    ffn_dim=18432,
    n_moe_layers=58,
    n_experts=256,
    experts_per_token=8,
    expert_ffn_dim=2048,
    shared_expert_ffn_dim=2048,
    # norms of the layers and of both latents, the last norm, and the routers' balancing biases
    other_params=61 * (2 * 7168 + 1536 + 512) + 7168 + 58 * 256,
)
GEMMA_2_9B = Architecture(
    model_id="gemma-2-9b",
    hidden_dim=3584,
    vocab_size=256000,
    tied_embeddings=True,
    n_full_attention_layers=21,
    n_sliding_attention_layers=21,
    sliding_window_tokens=4096,
    n_heads=16,
    n_kv_heads=8,
    head_dim=256,
    n_dense_mlp_layers=42,
    ffn_dim=14336,
    other_params=42 * 4 * 3584 + 3584,
)
NEMOTRON_H_8B = Architecture(
    model_id="Nemotron-H-8B",
    hidden_dim=4096,
    vocab_size=131072,
    n_full_attention_layers=4,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    n_recurrent_layers=24,
    recurrent_in_dim=2 * 8192 + 2 * 8 * 128 + 128,  # x and z; B and C of 8 groups; dt of 128 heads
    recurrent_inner_dim=128 * 64,
    recurrent_conv_dim=8192 + 2 * 8 * 128,
    recurrent_conv_width=4,
    recurrent_state_elements=128 * 64 * 128,
    n_dense_mlp_layers=24,
    ffn_dim=21504,
    gated_mlp=False,
)


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        (LLAMA_8B, 8_030_261_248),
        (MIXTRAL_8X7B, 46_702_792_704),
        (DEEPSEEK_V3, 671_026_419_200),
        (GEMMA_2_9B, 9_241_705_984),
    ],
    ids=lambda value: getattr(value, "model_id", ""),
)
def test_the_shapes_used_here_have_the_published_parameter_counts(
    architecture: Architecture, published: int
) -> None:
    assert parameter_count(architecture) == published


def test_llama_prefill(count: Counter) -> None:
    """Two prompts of 1,000 tokens through 32 layers, bf16."""
    slots = count("prefill", LLAMA_8B, batch_size=2, prompt_tokens=1000)
    rows, layers = 2 * 1000, 32

    qkv = slots["qkv_projection"]
    assert qkv["flops"] == 2 * rows * layers * 4096 * 6144  # 32 query heads, 8 key and 8 value heads of 128
    assert qkv["weight_bytes"] == layers * 4096 * 6144 * 2
    assert qkv["activation_bytes"] == rows * layers * (4096 + 6144) * 2
    assert (qkv["width_in"], qkv["width_out"], qkv["launches"]) == (4096, 6144, 32)

    attention = slots["full_attention"]
    pairs = 2 * 1000 * 1001 // 2  # causal: token i sees i tokens
    assert attention["flops"] == layers * pairs * 32 * (2 * 128 + 2 * 128)  # scores, then values
    assert (
        attention["kv_bytes"] == rows * 4096 * layers
    )  # each key and value (8 × 128 × 2 × 2 bytes) read once
    assert attention["activation_bytes"] == rows * layers * 2 * 32 * 128 * 2  # queries in, results out
    assert slots["kv_cache"]["kv_bytes"] == rows * 131072  # the well-known 128 KiB per token, written
    assert slots["output_projection"]["flops"] == 2 * rows * layers * 4096 * 4096

    assert slots["mlp_up"]["flops"] == 2 * rows * layers * 4096 * 2 * 14336
    assert slots["mlp_down"]["flops"] == 2 * rows * layers * 14336 * 4096
    assert (
        slots["mlp_up"]["weight_bytes"] + slots["mlp_down"]["weight_bytes"] == 3 * 4096 * 14336 * 2 * layers
    )
    assert slots["mlp_activation"]["activation_bytes"] == rows * layers * 3 * 14336 * 2

    head = slots["lm_head"]
    assert head["flops"] == 2 * 2 * 4096 * 128256  # only the last token of each prompt needs logits
    assert head["weight_bytes"] == 4096 * 128256 * 2
    assert slots["embedding"]["weight_bytes"] == rows * 4096 * 2  # one table row per token


def test_llama_decode(count: Counter) -> None:
    """A hundred steps of two sequences that begin at 1,000 tokens."""
    slots = count("decode", LLAMA_8B, batch_size=2, prompt_tokens=1000, output_tokens=101)
    steps, rows, layers = 100, 200, 32
    attended = 2 * sum(range(1001, 1101))
    assert attended == 210_100

    assert slots["qkv_projection"]["flops"] == 2 * rows * layers * 4096 * 6144
    assert slots["qkv_projection"]["weight_bytes"] == steps * layers * 4096 * 6144 * 2
    assert slots["full_attention"]["flops"] == attended * layers * 32 * 4 * 128
    assert slots["full_attention"]["kv_bytes"] == attended * 131072
    assert slots["kv_cache"]["kv_bytes"] == rows * 131072
    assert slots["lm_head"]["flops"] == 2 * rows * 4096 * 128256
    assert slots["lm_head"]["weight_bytes"] == steps * 4096 * 128256 * 2
    assert slots["full_attention"]["launches"] == steps * layers
    assert slots["sliding_attention"]["launches"] == 0


def test_llama_on_four_gpus(count: Counter) -> None:
    """Tensor parallel 4: a quarter of every matrix, and two ring all-reduces per layer."""
    slots = count("decode", LLAMA_8B, batch_size=8, output_tokens=2, tensor_parallel=4)
    assert slots["qkv_projection"]["weight_bytes"] == 32 * 4096 * (1024 + 2 * 256) * 2
    assert slots["kv_cache"]["kv_bytes"] == 8 * 131072 / 4
    reduced = 8 * 4096 * 2  # bytes of the residual stream of one step
    for slot in ("mixer_all_reduce", "mlp_all_reduce"):
        assert slots[slot]["launches"] == 32
        assert slots[slot]["network_bytes"] == 32 * reduced * 2 * 3 / 4
    assert slots["pipeline_send"]["launches"] == 0


def test_llama_elementwise_kernels(count: Counter) -> None:
    """Per row: a norm reads and writes the stream; a residual reads two streams and writes one."""
    slots = count("prefill", LLAMA_8B, batch_size=2, prompt_tokens=50)
    stream = 100 * 4096
    for part in ("mixer", "mlp"):
        assert slots[f"{part}_norm"]["activation_bytes"] == 32 * 2 * stream * 2
        assert slots[f"{part}_norm"]["flops"] == 32 * 4 * stream  # square, sum, scale, weight
        assert slots[f"{part}_residual"]["activation_bytes"] == 32 * 3 * stream * 2
        assert slots[f"{part}_residual"]["flops"] == 32 * stream
    assert slots["final_norm"]["activation_bytes"] == 2 * stream * 2
    assert slots["embedding"]["activation_bytes"] == stream * 2


def test_llama_over_three_pipeline_stages_of_two_gpus(count: Counter) -> None:
    """Two hand-overs a step; each GPU of a stage sends its half of the stream."""
    slots = count("decode", LLAMA_8B, batch_size=8, output_tokens=11, tensor_parallel=2, pipeline_parallel=3)
    assert slots["pipeline_send"]["launches"] == 10 * 2
    assert slots["pipeline_send"]["network_bytes"] == 10 * 2 * 8 * 4096 * 2 / 2
    assert slots["mlp_up"]["weight_bytes"] == 10 * 32 * 4096 * 14336 * 2  # all stages' layers, half of each


@pytest.mark.parametrize(
    ("batch_size", "prompt_tokens", "output_tokens", "passes"),
    [
        (16, 100, 400, 16),  # prompts arrive one by one
        (64, 100, 8, 8),  # eight start in each of a request's eight steps
        (64, 4096, 8, 32),  # the token budget splits them: 262,144 / 8,192
        (1, 100_000, 50, 100_000 / 8192),
    ],
)
def test_a_steady_batch_prefills_in_passes(
    count: Counter, batch_size: float, prompt_tokens: float, output_tokens: float, passes: float
) -> None:
    sizes = {"batch_size": batch_size, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    steady = count("prefill", LLAMA_8B, **sizes, continuous=1)
    together = count("prefill", LLAMA_8B, **sizes)
    assert steady["mlp_up"]["launches"] == pytest.approx(32 * passes)
    assert steady["mlp_up"]["weight_bytes"] == pytest.approx(passes * 32 * 4096 * 2 * 14336 * 2)
    assert together["mlp_up"]["launches"] == 32
    assert steady["mlp_up"]["flops"] == together["mlp_up"]["flops"]


def test_llama_on_sixteen_gpus_repeats_its_eight_key_value_heads(count: Counter) -> None:
    slots = count("decode", LLAMA_8B, output_tokens=2, tensor_parallel=16)
    assert slots["kv_cache"]["kv_bytes"] == 131072 / 8
    assert slots["qkv_projection"]["width_out"] == 2 * 128 + 2 * 128


def test_eight_bit_activations_narrow_only_what_products_take_in(count: Counter) -> None:
    slots = count("decode", LLAMA_8B, output_tokens=2, tensor_parallel=2, linear_weight_bytes_per_element=1,
                  activation_bytes_per_element=1)  # fmt: skip
    assert slots["mlp_up"]["weight_bytes"] == 32 * 4096 * 14336
    assert slots["mlp_up"]["activation_bytes"] == 32 * (4096 * 1 + 14336 * 2)
    assert slots["mixer_norm"]["activation_bytes"] == 32 * 2 * 4096 * 2
    assert slots["mixer_all_reduce"]["network_bytes"] == 32 * 4096 * 2
    assert slots["lm_head"]["weight_bytes"] == 4096 * 128256  # half of the head, in 16 bit


def test_mixtral_prefill(count: Counter) -> None:
    """512 tokens route to 2 of 8 experts: every expert is hit, each token is computed twice."""
    slots = count("prefill", MIXTRAL_8X7B, prompt_tokens=512)
    assert slots["router"]["flops"] == 2 * 512 * 4096 * 8 * 32
    assert slots["expert_up"]["flops"] == 2 * (512 * 2) * 4096 * (2 * 14336) * 32
    assert slots["expert_down"]["flops"] == 2 * (512 * 2) * 14336 * 4096 * 32
    assert slots["expert_up"]["weight_bytes"] == pytest.approx(8 * 4096 * 2 * 14336 * 32 * 2, rel=1e-12)
    assert slots["shared_expert"]["launches"] == slots["mlp_up"]["launches"] == 0


@pytest.mark.parametrize(
    ("batch_size", "experts_hit"),
    [(1, 2.0), (2, 2 + 2 * 3 / 4), (4, 8 * (1 - (3 / 4) ** 4)), (64, 8.0)],
)
def test_mixtral_decode_reads_the_experts_a_batch_hits(
    count: Counter, batch_size: int, experts_hit: float
) -> None:
    slots = count("decode", MIXTRAL_8X7B, batch_size=batch_size, output_tokens=2)
    assert slots["expert_up"]["weight_bytes"] == pytest.approx(
        experts_hit * 4096 * 2 * 14336 * 2 * 32, rel=1e-7
    )
    assert slots["expert_down"]["weight_bytes"] == pytest.approx(
        experts_hit * 14336 * 4096 * 2 * 32, rel=1e-7
    )
    assert slots["expert_down"]["flops"] == 2 * batch_size * 2 * 14336 * 4096 * 32


def test_mixtral_weights_of_one_token_are_its_active_parameters(count: Counter) -> None:
    """12.9 billion of 46.7 billion parameters work on a token, the published figure."""
    slots = count("decode", MIXTRAL_8X7B, output_tokens=2)
    read = sum(slot["weight_bytes"] for name, slot in slots.items() if name != "embedding") / 2
    assert read + 32000 * 4096 + 65 * 4096 == pytest.approx(12_879_925_248, rel=1e-9)


def test_mixtral_with_experts_on_four_gpus(count: Counter) -> None:
    """Two whole experts on each GPU, every token on all of them: results are reduced as those of slices are."""
    sliced = count("decode", MIXTRAL_8X7B, batch_size=16, output_tokens=2, tensor_parallel=4)
    spread = count(
        "decode", MIXTRAL_8X7B, batch_size=16, output_tokens=2, tensor_parallel=4, expert_parallel=4
    )
    for quantity in ("flops", "weight_bytes"):
        assert spread["expert_up"][quantity] == pytest.approx(sliced["expert_up"][quantity])
    assert (sliced["expert_up"]["width_out"], spread["expert_up"]["width_out"]) == (2 * 3584, 2 * 14336)
    assert spread["mlp_all_reduce"] == sliced["mlp_all_reduce"]
    assert spread["mlp_all_reduce"]["network_bytes"] == 32 * 2 * (3 / 4) * 16 * 4096 * 2


def test_mixtral_chooses_orders_and_sums_experts(count: Counter) -> None:
    """Two experts' results a token are read and one is written, in 16 bit; three launches a layer."""
    combine = count("decode", MIXTRAL_8X7B, batch_size=16, output_tokens=2)["expert_combine"]
    assert combine["launches"] == 3 * 32
    assert combine["activation_bytes"] == 32 * 16 * (2 + 1) * 4096 * 2
    spread = count(
        "decode", MIXTRAL_8X7B, batch_size=16, output_tokens=2, tensor_parallel=4, expert_parallel=4
    )
    assert spread["expert_combine"]["activation_bytes"] == 32 * 16 * (2 / 4 + 1) * 4096 * 2


def test_sampling_reads_the_whole_vocabulary_whatever_its_shards(count: Counter) -> None:
    """One GPU: 18 bytes a logit and nothing on the network. Four: the three others' quarters arrive at 16 bit."""
    alone = count("decode", LLAMA_8B, batch_size=16, output_tokens=11)["sampling"]
    assert alone["activation_bytes"] == 10 * 16 * 128256 * 18
    assert (alone["launches"], alone["network_bytes"]) == (40, 0)
    shared = count("decode", LLAMA_8B, batch_size=16, output_tokens=11, tensor_parallel=4)["sampling"]
    assert shared["activation_bytes"] == alone["activation_bytes"]
    assert shared["network_bytes"] == 10 * 16 * (128256 * 3 / 4) * 2


def test_deepseek_prefill(count: Counter) -> None:
    """Latent attention in prefill: the latent is expanded to 128 keys of 192 and values of 128 per token."""
    slots = count("prefill", DEEPSEEK_V3, prompt_tokens=100)
    rows, layers = 100, 61
    down_and_up = 7168 * 1536 + 1536 * 128 * 192 + 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    assert down_and_up == 69_664_768
    assert slots["qkv_projection"]["flops"] == 2 * rows * layers * down_and_up
    assert slots["qkv_projection"]["weight_bytes"] == layers * down_and_up * 2
    assert slots["full_attention"]["flops"] == layers * (100 * 101 // 2) * 128 * 2 * (192 + 128)
    assert (
        slots["full_attention"]["activation_bytes"] == rows * layers * 128 * 2 * (192 + 128) * 2
    )  # q, k, v, result
    assert slots["kv_cache"]["kv_bytes"] == rows * 70_272  # 576 elements × 61 layers × 2 bytes
    assert slots["output_projection"]["flops"] == 2 * rows * layers * 128 * 128 * 7168

    assert slots["mlp_up"]["flops"] == 2 * rows * 3 * 7168 * 2 * 18432
    assert slots["router"]["flops"] == 2 * rows * 58 * 7168 * 256
    assert slots["expert_up"]["flops"] == 2 * rows * 8 * 58 * 7168 * 2 * 2048
    assert slots["shared_expert"]["flops"] == 2 * rows * 58 * 3 * 7168 * 2048
    assert slots["shared_expert"]["launches"] == 2 * 58


def test_deepseek_decode(count: Counter) -> None:
    """Absorbed attention: 128 queries of 576 on one latent per token, values of 512; one cache read."""
    slots = count("decode", DEEPSEEK_V3, batch_size=4, prompt_tokens=1000, output_tokens=2)
    rows, layers, attended = 4, 61, 4 * 1001
    assert slots["full_attention"]["flops"] == layers * attended * 128 * 2 * (576 + 512)
    assert slots["full_attention"]["kv_bytes"] == attended * 70_272
    assert slots["full_attention"]["activation_bytes"] == rows * layers * 128 * (576 + 512) * 2
    # the two absorbed halves have as many elements as the up-projection they stand for
    absorbed = 128 * (128 * 512) + 128 * (512 * 128)
    unabsorbed = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576
    assert slots["qkv_projection"]["flops"] == 2 * rows * layers * (unabsorbed + absorbed)
    assert slots["qkv_projection"]["weight_bytes"] == layers * (unabsorbed + absorbed) * 2
    # hidden in; query and latent out; the query's latent there and back; in and out of the latent
    moved = 7168 + (128 * 192 + 576) + 2 * 1536 + 128 * (128 + 512) + 128 * (512 + 128)
    assert slots["qkv_projection"]["activation_bytes"] == rows * layers * moved * 2


def test_deepseek_keeps_its_latent_on_every_gpu(count: Counter) -> None:
    one = count("decode", DEEPSEEK_V3, output_tokens=2)
    eight = count("decode", DEEPSEEK_V3, output_tokens=2, tensor_parallel=8)
    assert eight["full_attention"]["kv_bytes"] == one["full_attention"]["kv_bytes"]
    assert eight["full_attention"]["flops"] == one["full_attention"]["flops"] / 8


def test_gemma_prefill_sees_the_window_in_half_of_its_layers(count: Counter) -> None:
    slots = count("prefill", GEMMA_2_9B, prompt_tokens=8192)
    causal = 8192 * 8193 // 2
    windowed = 4096 * 4097 // 2 + 4096 * 4096  # a triangle, then a strip
    assert slots["full_attention"]["flops"] == 21 * causal * 16 * 4 * 256
    assert slots["sliding_attention"]["flops"] == 21 * windowed * 16 * 4 * 256


def test_gemma_decode_crosses_its_window(count: Counter) -> None:
    """From 4,046 tokens on, the first fifty of a hundred steps still see everything."""
    slots = count("decode", GEMMA_2_9B, prompt_tokens=4046, output_tokens=101)
    windowed = sum(range(4047, 4097)) + 50 * 4096
    per_token_and_layer = 2 * 8 * 256 * 2
    assert slots["sliding_attention"]["kv_bytes"] == 21 * windowed * per_token_and_layer
    assert slots["full_attention"]["kv_bytes"] == 21 * sum(range(4047, 4147)) * per_token_and_layer
    assert slots["lm_head"]["weight_bytes"] == 100 * 256000 * 3584 * 2  # the tied table


def test_nemotron_decode(count: Counter) -> None:
    """24 Mamba-2 layers read and write 4 MiB of state per sequence and step; 4 attention layers cache."""
    slots = count("decode", NEMOTRON_H_8B, batch_size=3, prompt_tokens=10, output_tokens=2)
    assert slots["recurrent_in_projection"]["flops"] == 2 * 3 * 24 * 4096 * 18560
    assert slots["recurrent_in_projection"]["weight_bytes"] == 24 * 4096 * 18560 * 2
    assert slots["recurrent_out_projection"]["flops"] == 2 * 3 * 24 * 8192 * 4096
    scan = slots["recurrent_scan"]
    assert scan["kv_bytes"] == 24 * 3 * 2 * 1_048_576 * 4
    assert scan["activation_bytes"] == 24 * 3 * (18560 + 8192) * 2
    assert scan["flops"] == 24 * 3 * (6 * 1_048_576 + 2 * 10240 * 4)
    assert scan["weight_bytes"] == 24 * 10240 * 4 * 2
    assert slots["full_attention"]["kv_bytes"] == 3 * 11 * 4 * 4096
    assert slots["mlp_up"]["flops"] == 2 * 3 * 24 * 4096 * 21504  # squared ReLU: no gate
    assert slots["mixer_norm"]["launches"] == 28
    assert slots["mlp_norm"]["launches"] == 24


def test_nemotron_prefill_writes_its_state_once(count: Counter) -> None:
    short = count("prefill", NEMOTRON_H_8B, prompt_tokens=100)["recurrent_scan"]
    long = count("prefill", NEMOTRON_H_8B, prompt_tokens=200)["recurrent_scan"]
    assert short["kv_bytes"] == long["kv_bytes"] == 24 * 2 * 1_048_576 * 4
    assert long["activation_bytes"] == 2 * short["activation_bytes"]
    assert long["flops"] == 2 * short["flops"]


SPARSE = replace(DEEPSEEK_V3, index_topk_tokens=2048, n_index_layers=61, index_n_heads=64, index_head_dim=128)


def test_an_indexer_bounds_what_attention_reads_and_scores_every_token(count: Counter) -> None:
    """At 120,000 tokens each layer reads 2,048 latents of 576 elements and 120,000 index keys of 132 bytes."""
    context = 120_001
    dense = count("decode", DEEPSEEK_V3, prompt_tokens=120_000, output_tokens=2)
    sparse = count("decode", SPARSE, prompt_tokens=120_000, output_tokens=2)
    assert dense["full_attention"]["kv_bytes"] == 61 * context * 576 * 2
    assert sparse["full_attention"]["kv_bytes"] == 61 * (2048 * 576 * 2 + context * 132)
    attended = 2 * 61 * 128 * (2 * 512 + 64) * 2048
    assert sparse["full_attention"]["flops"] == attended + 61 * context * 2 * 64 * 128
    assert sparse["kv_cache"]["kv_bytes"] == 61 * (576 * 2 + 132)
    indexer = 1536 * 64 * 128 + 7168 * (128 + 64)
    extra = sparse["qkv_projection"]["weight_bytes"] - dense["qkv_projection"]["weight_bytes"]
    assert extra == 61 * indexer * 2


def test_an_indexer_changes_no_short_contexts_attention(count: Counter) -> None:
    dense = count("decode", DEEPSEEK_V3, prompt_tokens=1000, output_tokens=2)["full_attention"]
    sparse = count("decode", SPARSE, prompt_tokens=1000, output_tokens=2)["full_attention"]
    assert sparse["kv_bytes"] - dense["kv_bytes"] == 61 * 1001 * 132


TWO_SHAPES = Architecture(
    model_id="two shapes", hidden_dim=1024, vocab_size=1000, n_full_attention_layers=2, n_heads=8, n_kv_heads=2,
    head_dim=128, n_sliding_attention_layers=6, sliding_window_tokens=512, sliding_n_heads=16,
    sliding_n_kv_heads=4, sliding_head_dim=64, v_head_dim=96, n_shared_kv_sliding_layers=3,
)  # fmt: skip


def test_layers_with_a_window_may_have_heads_of_their_own_and_share_keys_and_values(count: Counter) -> None:
    slots = count("decode", TWO_SHAPES, prompt_tokens=1000, output_tokens=2)
    full = 1024 * (8 * 128 + 2 * (128 + 96))
    sliding = 1024 * (6 * 16 * 64 + 3 * 4 * (64 + 96))
    assert slots["qkv_projection"]["weight_bytes"] == 2 * (2 * full + sliding)
    assert slots["output_projection"]["weight_bytes"] == 2 * 1024 * 96 * (2 * 8 + 6 * 16)
    assert slots["full_attention"]["kv_bytes"] == 2 * 1001 * 2 * (128 + 96) * 2
    assert (
        slots["sliding_attention"]["kv_bytes"] == 6 * 512 * 4 * (64 + 96) * 2
    )  # shared ones are read as well
    assert slots["kv_cache"]["kv_bytes"] == (2 * 2 * (128 + 96) + 3 * 4 * (64 + 96)) * 2
    assert slots["sliding_attention"]["flops"] == 2 * 512 * 6 * 16 * (64 + 96)
