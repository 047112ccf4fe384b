"""Read the package's Parquet files and name their columns as the kernel model does.

Source: https://pypi.org/project/aiconfigurator-core/ (0.12.0; ``pip download --no-deps aiconfigurator-core``).
Latencies are milliseconds in the files and seconds here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from llmco2.kernel_model.features import LIBRARIES, OPERATIONS, SIZES, STACKS
from llmco2.kernel_model.formats import FORMAT_INDEX

BOARDS: Final = {
    "a100_sxm": "A100-SXM4-80GB",
    "h100_sxm": "H100-SXM5-80GB",
    "h200_sxm": "H200-SXM-141GB",
    "b200_sxm": "B200-SXM-180GB",
    "b300_sxm": "B300-SXM-288GB",
    "gb200": "GB200-186GB",
    "gb300": "GB300-288GB",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX-PRO-6000-BSE",
}
_FORMATS: Final = {
    "bfloat16": "16bit",
    "float16": "16bit",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int8_wo": "w8a16",
    "int4_wo": "w4a16",
    "sq": "int8",
    "w4a8_mxfp4_mxfp8": "mxfp4_w4a8",
    "w4a16_mxfp4": "mxfp4_w4a16",
    "w4afp8": "w4a8",
}
# The first pattern found in a kernel source names its library.
_LIBRARY_PATTERNS: Final = (
    ("min_latency", "min_latency"), ("trtllm", "trtllm"), ("torch_flow_triton", "triton"), ("flashinfer", "flashinfer"),
    ("triton", "triton"), ("fused_moe", "triton"), ("cutlass", "cutlass"), ("nongated", "cutlass"),
    ("marlin", "marlin"), ("deepgemm", "deepgemm"),
    ("fa2", "fa2"), ("flash_attn_fa3", "fa3"), ("fa3", "fa3"), ("flash_att", "fa2"),
    ("nccl", "nccl"), ("flashmla", "fa3"), ("torch", "torch"), ("linear", "torch"), ("default", "torch"),
)  # fmt: skip
_SKEWS: Final = {"balanced": 0.0, "power_law_1.01": 1.01, "power_law_1.2": 1.2}
_TRTLLM_FP8_EXTRA_S: Final = 6e-6


def tables(root: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each kernel kind with its rows: SIZES of the kind, stack, library, gpu, version, latency_s."""
    for kind, (files, convert) in _CONVERTERS.items():
        frame = convert(_load(root, files))
        frame = frame[np.isfinite(frame["latency_s"]) & (frame["latency_s"] > 0.0)]
        columns = [*SIZES[kind], "stack", "library", "gpu", "version", "latency_s"]
        yield kind, frame[columns].reset_index(drop=True)


def _load(root: Path, names: tuple[str, ...]) -> pd.DataFrame:
    parts = []
    for name in names:
        for path in sorted(root.glob(f"*/*/*/*/{name}.parquet")):
            board, _, stack, version, _ = path.relative_to(root).parts
            if board not in BOARDS:
                continue
            part = pd.read_parquet(path)
            part["gpu"], part["stack_name"], part["version"] = BOARDS[board], stack, version
            parts.append(part)
    if not parts:
        raise FileNotFoundError(f"no {names[0]}.parquet under {root}")
    frame = pd.concat(parts, ignore_index=True)
    frame["stack"] = (
        frame["stack_name"].map({name: i for i, name in enumerate(STACKS)}).fillna(-1).astype(int)
    )
    source = frame["kernel_source"].astype(str).str.lower()
    named = {text: _library(text) for text in source.unique()}
    frame["library"] = source.map(named).astype(int)
    frame["latency_s"] = frame["latency"].astype(float) * 1e-3
    return frame


def _library(source: str) -> int:
    for pattern, library in _LIBRARY_PATTERNS:
        if pattern in source:
            return LIBRARIES.index(library)
    return -1


def _newest(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the newest row of each kernel: a shape measured again in a later version counts once."""
    order = frame["version"].map({v: _version(v) for v in frame["version"].unique()})
    ranked = frame.assign(_order=order).sort_values("_order", kind="stable")
    keys = [*keys, "stack", "library", "gpu"]
    return ranked.drop_duplicates(keys, keep="last").drop(columns="_order")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def _formats(column: pd.Series) -> pd.Series:
    return column.map({name: FORMAT_INDEX[form] for name, form in _FORMATS.items()})


def _kv_bytes(column: pd.Series) -> pd.Series:
    return pd.Series(np.where(column == "fp8", 1.0, 2.0), index=column.index)


def _gemm(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(format=_formats(frame["gemm_dtype"])).dropna(subset=["format"])
    # vLLM's block-FP8 rows hold a launch from the host: 90 to 380 µs where the roofline is 2.
    block = frame["format"] == FORMAT_INDEX["fp8_block"]
    host_bound = block & (frame["stack"] == STACKS.index("vllm"))
    # TensorRT-LLM's FP8 products begin at 10 µs where others begin at 4: the rows hold more than the product.
    padded = (frame["format"] == FORMAT_INDEX["fp8"]) & (frame["stack"] == STACKS.index("trtllm"))
    frame = frame.assign(latency_s=frame["latency_s"] - _TRTLLM_FP8_EXTRA_S * padded)
    # SGLang's weight-only rows are of one old version, at three times what others take.
    old = (frame["format"] == FORMAT_INDEX["w8a16"]) & (frame["stack"] == STACKS.index("sglang"))
    frame = frame[~host_bound & ~old]
    return _newest(frame, list(SIZES["gemm"]))


def _attention(frame: pd.DataFrame, tokens: str) -> pd.DataFrame:
    window = frame["window_size"].fillna(0.0) if "window_size" in frame else 0.0
    kv = frame["num_key_value_heads"]
    frame = frame.assign(
        n_heads=frame["num_heads"],
        n_kv_heads=np.where(kv <= 0, frame["num_heads"], kv),
        window=window,
        kv_bytes=_kv_bytes(frame["kv_cache_dtype"]),
        narrow=(frame["attn_dtype"] == "fp8") * 1.0,
    )
    frame[tokens] = (
        frame["isl"] + frame["step"]
    )  # a decoding kernel has one new token and ``step`` cached ones
    return frame


def _decode_attention(frame: pd.DataFrame) -> pd.DataFrame:
    return _newest(_attention(frame, "context_tokens"), list(SIZES["decode_attention"]))


def _prefill_attention(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["step"] == 0]
    return _newest(_attention(frame, "tokens"), list(SIZES["prefill_attention"]))


def _mla(tokens: str, kind: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def convert(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.assign(n_heads=frame["num_heads"], kv_bytes=_kv_bytes(frame["kv_cache_dtype"]))
        frame[tokens] = frame["isl"] + frame["step"]
        return _newest(frame, list(SIZES[kind]))

    return convert


def _mla_absorb(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(
        tokens=frame["num_tokens"],
        n_heads=frame["num_heads"],
        before=frame["op_name"].str.contains("pre") * 1.0,
        narrow=(frame["bmm_dtype"] == "fp8") * 1.0,
    )
    return _newest(frame, list(SIZES["mla_absorb"]))


def _experts(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(format=_formats(frame["moe_dtype"]), skew=frame["distribution"].map(_SKEWS))
    frame = frame.dropna(subset=["format", "skew"])
    source = frame["kernel_source"].astype(str)
    frame = frame.assign(
        tokens=frame["num_tokens"],
        hidden_dim=frame["hidden_size"],
        ffn_dim=frame["inter_size"],
        top_k=frame["topk"],
        n_experts=frame["num_experts"],
        tp=frame["moe_tp_size"],
        ep=frame["moe_ep_size"],
        matrices=np.where(source.str.contains("nongated"), 2.0, 3.0),
    )
    frame = _latest_version(frame)
    frame = _newest(frame, list(SIZES["experts"]))
    # R1-shaped rows without parallelism equal those of two ranks in two stacks: less time than their bytes need.
    alone = (
        (frame["tp"] == 1) & (frame["ep"] == 1) & (frame["n_experts"] >= 256) & (frame["hidden_dim"] >= 6144)
    )
    wrong = alone & frame["stack"].isin([STACKS.index("vllm"), STACKS.index("sglang")])
    return frame[~wrong]


def _latest_version(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the newest version of each stack, board and format; older kernels differ by up to 40 %."""
    order = frame["version"].map(
        {v: i for i, v in enumerate(sorted(frame["version"].unique(), key=_version))}
    )
    groups = (
        frame.assign(_order=order).groupby(["stack", "gpu", "format", "matrices"])["_order"].transform("max")
    )
    newest: pd.DataFrame = frame[order.to_numpy() == groups.to_numpy()]
    return newest


def _collective(frame: pd.DataFrame) -> pd.DataFrame:
    source = frame["kernel_source"].astype(str)
    nccl = frame["stack_name"] == "nccl"
    element = np.where(nccl & (frame["nccl_dtype"] == "int8"), 1.0, 2.0) if "nccl_dtype" in frame else 2.0
    operation = frame["op_name"].astype(str).str.replace("allreduce", "all_reduce")
    frame = frame.assign(
        n_gpus=frame["num_gpus"],
        message_bytes=frame["message_size"] * element,  # the tables count elements
        operation=operation.map({name: i for i, name in enumerate(OPERATIONS)}),
        library=np.where(nccl, LIBRARIES.index("nccl"), -1),
    ).dropna(subset=["operation"])
    # Eager rows hold a launch from the host of 20 to 100 µs; serving replays graphs.
    frame = frame[~source[frame.index].str.contains("eager")]
    return _newest(frame, list(SIZES["collective"]))


def _delta_net(frame: pd.DataFrame) -> pd.DataFrame:
    wide = (frame["head_k_dim"] == 128) & (frame["head_v_dim"] == 128)
    frame = frame[wide]
    decode = (frame["phase"] == "generation") * 1.0
    frame = frame.assign(
        tokens=np.where(decode > 0, 1.0, frame["seq_len"]),
        hidden_dim=frame["d_model"],
        n_key_heads=frame["num_k_heads"],
        n_value_heads=frame["num_v_heads"],
        convolution=frame["kernel_source"].astype(str).str.contains("conv1d") * 1.0,
        decode=decode,
    )
    return _newest(frame, list(SIZES["delta_net"]))


_Converter = Callable[[pd.DataFrame], pd.DataFrame]
_CONVERTERS: Final[Mapping[str, tuple[tuple[str, ...], _Converter]]] = {
    "gemm": (("gemm_perf",), _gemm),
    "decode_attention": (("generation_attention_perf",), _decode_attention),
    "prefill_attention": (("context_attention_perf",), _prefill_attention),
    "mla_decode": (("generation_mla_perf",), _mla("context_tokens", "mla_decode")),
    "mla_prefill": (("context_mla_perf",), _mla("tokens", "mla_prefill")),
    "mla_absorb": (("mla_bmm_perf",), _mla_absorb),
    "experts": (("moe_perf",), _experts),
    "collective": (("custom_allreduce_perf", "nccl_perf"), _collective),
    "delta_net": (("gdn_perf",), _delta_net),
}
