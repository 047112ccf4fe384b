"""A damaged, foreign or other checkpoint is refused in one line, and nothing in one is ever executed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmco2.errors import CheckpointError
from llmco2.kernel_model.features import KINDS
from llmco2.predictor.api import predict
from llmco2.predictor.checkpoint import load_checkpoint, save_checkpoint
from llmco2.predictor.contents import metadata_error
from llmco2.resources import checkpoint_dir

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
Sound = tuple[Arrays, dict[str, Any]]


@pytest.fixture
def written(tmp_path: Path, sound_checkpoint: Sound) -> Path:
    path = tmp_path / "own.json"
    save_checkpoint(path, *sound_checkpoint)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(str(path))
    said = str(refused.value)
    assert "\n" not in said
    return said


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


def replace_numbers(path: Path, content: bytes) -> None:
    """Put ``content`` in place of the arrays, with a digest that agrees: what a hostile file would do."""
    path.with_suffix(".npz").write_bytes(content)
    rewrite(path, lambda metadata: metadata.update(sha256=hashlib.sha256(content).hexdigest()))


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_what_was_saved_is_loaded(written: Path, sound_checkpoint: Sound) -> None:
    arrays, metadata = sound_checkpoint
    checkpoint = load_checkpoint(str(written))
    assert checkpoint.name == "own"
    assert checkpoint.nodes.of_kind.keys() == KINDS.keys()
    gemm = checkpoint.nodes.of_kind["gemm"]
    assert np.array_equal(gemm.layers[1][0], arrays["kernel.gemm.weight1"])
    assert gemm.center == arrays["kernel.gemm.center"]
    assert checkpoint.hosts == metadata["hosts"]
    assert checkpoint.domain == metadata["domain"]


def test_the_shipped_checkpoint_is_sound_and_small() -> None:
    checkpoint = load_checkpoint()
    assert metadata_error(checkpoint.metadata) == ""
    assert sum(path.stat().st_size for path in checkpoint_dir().iterdir()) <= 4e6


def test_numbers_alone_decide_so_a_file_written_anew_answers_anew(
    written: Path, sound_checkpoint: Sound
) -> None:
    arrays, metadata = sound_checkpoint
    request: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "gpu": "H100-SXM5-80GB", "checkpoint": str(written)}
    before = predict(**request)
    save_checkpoint(written, {name: values * 0.5 for name, values in arrays.items()}, metadata)
    assert predict(**request).total.energy_j != before.total.energy_j


def test_no_such_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.json").startswith(
        f"no such checkpoint: got {tmp_path / 'none.json'}; give the"
    )
    assert "is no checkpoint" in refusal(tmp_path)
    assert "is no checkpoint" in refusal(Path("nul\0byte.json"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00", b'{"format": "other"}', b"[" * 100_000],
    ids=["empty", "truncated", "list", "null", "text", "binary", "foreign", "deep"],
)
def test_a_foreign_text_half_is_no_checkpoint(content: bytes, written: Path) -> None:
    written.write_bytes(content)
    assert "own.json is no checkpoint" in refusal(written)


def test_the_arrays_in_place_of_the_text(written: Path) -> None:
    assert "own.npz is no checkpoint" in refusal(written.with_suffix(".npz"))


def test_another_format_version_says_which(written: Path) -> None:
    rewrite(written, lambda metadata: metadata.update(format_version=99))
    assert "own.json is of another format: got 99, expected 2; train again" in refusal(written)
    rewrite(written, lambda metadata: metadata.pop("format_version"))
    assert "is of another format: got None" in refusal(written)


@pytest.mark.parametrize(
    "key", ["name", "sha256", "lanes", "hosts", "boards", "power", "intervals", "domain"]
)
def test_a_missing_entry_is_named(key: str, written: Path) -> None:
    rewrite(written, lambda metadata: metadata.pop(key))
    assert f"own.json is incomplete: expected {key}; " in refusal(written)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "lanes that is no object": lambda m: m.update(lanes=[]),
    "lanes without kinds and experts": lambda m: m["lanes"].pop("experts"),
    "lanes.kinds.gemm that is no list of four names": lambda m: m["lanes"]["kinds"].update(gemm=[["vllm"]]),
    "lanes.experts with ['vllm'": lambda m: m["lanes"].update(experts=[["vllm", "", "", [1, 2, 3, 0], ""]]),
    "hosts.vllm.step_s -1": lambda m: m["hosts"]["vllm"].update(step_s=-1),
    "hosts.vllm.speed, which is no constant": lambda m: m["hosts"]["vllm"].update(speed=1.0),
    "boards.CDNA3 'slow'": lambda m: m["boards"].update(CDNA3="slow"),
    "power.busy_factor 0": lambda m: m["power"].update(busy_factor=0),
    "intervals without engines and extra": lambda m: m["intervals"].pop("extra"),
    "intervals of vllm: energy [1, -1]": lambda m: m["intervals"]["engines"]["vllm"].update(energy=[1, -1]),
    "intervals of pooled: time None": lambda m: m["intervals"]["pooled"].pop("time"),
    "intervals of vllm: time [nan, 1]": lambda m: m["intervals"]["engines"]["vllm"].update(
        time=[float("nan"), 1]
    ),
    "intervals.extra.host that is no object": lambda m: m["intervals"]["extra"].pop("host"),
    "intervals.phase_factor inf": lambda m: m["intervals"].update(phase_factor=float("inf")),
    "domain.gpus that is no list": lambda m: m["domain"].update(gpus={"A100": 1}),
    "domain.mechanisms that is no table": lambda m: m["domain"].update(mechanisms=[1]),
    "domain.ranges.n_gpus [1]": lambda m: m["domain"]["ranges"].update(n_gpus=[1]),
    "domain.ranges.batch_size None": lambda m: m["domain"].update(ranges=None),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damaged_text_says_what_is_damaged(reason: str, written: Path) -> None:
    rewrite(written, DAMAGE[reason])
    assert f"own.json is damaged: got {reason}" in refusal(written)


def test_a_changed_or_truncated_array_file_is_damaged(written: Path) -> None:
    numbers = written.with_suffix(".npz")
    content = numbers.read_bytes()
    numbers.write_bytes(content[:-10])
    assert "own.npz is damaged: got SHA-256" in refusal(written)
    numbers.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    assert "own.npz is damaged: got SHA-256" in refusal(written)
    numbers.unlink()
    assert "own.npz cannot be read" in refusal(written)


def test_arrays_of_another_checkpoint_do_not_belong(written: Path, sound_checkpoint: Sound) -> None:
    arrays, _ = sound_checkpoint
    name = "kernel.gemm.weight1"
    replace_numbers(written, npz(**{key: values for key, values in arrays.items() if key != name}))
    assert "own.npz does not belong to own.json: got kernel.gemm. that does not end" in refusal(written)
    replace_numbers(written, npz(**{**arrays, name: arrays[name][:, :-1]}))
    assert f"{name} that does not follow the layer before" in refusal(written)
    replace_numbers(written, npz(**{**arrays, "kernel.gemm.scale": 0.0 * arrays["kernel.gemm.scale"]}))
    assert "kernel.gemm.scale that is not positive" in refusal(written)
    broken = arrays[name].copy()
    broken[0, 0] = np.nan
    replace_numbers(written, npz(**{**arrays, name: broken}))
    assert f"{name} with a number that is not finite" in refusal(written)
    replace_numbers(written, npz(**{**arrays, name: np.array(["text"] * 9)}))
    assert "cannot be read: got an array of <U4 where numbers are due" in refusal(written)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: str) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.made,)


def test_nothing_in_a_checkpoint_is_executed(written: Path, sound_checkpoint: Sound, tmp_path: Path) -> None:
    arrays, _ = sound_checkpoint
    made = tmp_path / "made"
    objects = np.array([Payload(str(made))], dtype=object)
    hostile = {
        "an array of objects": npz(**{**arrays, "kernel.gemm.bias0": objects}),
        "a pickle": pickle.dumps(Payload(str(made))),
        "a pickle in a zip": _zip("kernel.gemm.bias0.npy", pickle.dumps(Payload(str(made)))),
    }
    for kind, content in hostile.items():
        replace_numbers(written, content)
        assert "own.npz cannot be read" in refusal(written), kind
        assert not made.exists(), kind
    pickle.loads(hostile["a pickle"])  # noqa: S301 - the payload does work where somebody lets it
    assert made.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", npz(one=np.ones(3))[:-30], b"PK\x05\x06" + bytes(18)],
    ids=["empty", "text", "truncated", "an archive of nothing"],
)
def test_a_file_that_is_no_archive_of_arrays_is_refused_though_its_digest_agrees(
    content: bytes, written: Path
) -> None:
    replace_numbers(written, content)
    assert "own.npz " in refusal(written)


def test_a_single_array_or_a_bomb_is_refused(written: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    replace_numbers(written, buffer.getvalue())
    assert "own.npz cannot be read" in refusal(written)
    replace_numbers(written, _zip("kernel.gemm.bias0.npy", bytes(70_000_000)))
    assert "own.npz cannot be read: got 70,000,000 bytes unpacked, more than" in refusal(written)


def _zip(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def test_every_truncation_and_single_changed_byte_is_refused(written: Path) -> None:
    """The text half holds the digest of the other, and a sample of its own bytes is flipped too."""
    numbers = written.with_suffix(".npz")
    content = numbers.read_bytes()
    for cut in range(0, len(content), max(len(content) // 50, 1)):
        numbers.write_bytes(content[:cut])
        refusal(written)
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=50).tolist():
        numbers.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        refusal(written)
    numbers.write_bytes(content)
    text = written.read_bytes()
    for cut in range(0, len(text) - 3, max(len(text) // 50, 1)):
        written.write_bytes(text[:cut])
        refusal(written)
