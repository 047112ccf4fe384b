"""Embodied carbon: what making a GPU and its share of a server emitted, kgCO2e, as low, middle and high.

Invariant: every GPU gets an answer with a stated confidence. Published footprints of one card disagree two
to four times, so no figure stands without its range; cards without a published figure are estimates, and say so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from llmco2.catalog import tables
from llmco2.catalog.gpus import load_gpus
from llmco2.units import BYTES_PER_GIB

# NVIDIA's HGX H100 footprint: 1312 kgCO2e for eight GPUs, of which memory 42 %, circuits 25 %, the rest
# (cooling, boards, mechanics) 33 %; one GPU has 80 GB, 8.14 cm² of logic and a 700 W limit.
MEMORY_KGCO2E_PER_GB: Final = 0.42 * 1312.0 / 8.0 / 80.0
LOGIC_KGCO2E_PER_CM2: Final = 0.25 * 1312.0 / 8.0 / 8.14
BOARD_KGCO2E_PER_W: Final = 0.33 * 1312.0 / 8.0 / 700.0
# Cloud Carbon Footprint's coefficients for a rack server.
SERVER_BASE_KGCO2E: Final = 1000.0  # one CPU, 16 GB, no local storage
SERVER_BASE_DRAM_GB: Final = 16.0
DRAM_KGCO2E_PER_GB: Final = 533.0 / 384.0
CPU_KGCO2E: Final = 100.0
SSD_KGCO2E: Final = 100.0

_FILE: Final = "embodied.csv"
_COLUMNS: Final = (
    "kind", "item", "gpu_ids", "low_kgco2e", "mid_kgco2e", "high_kgco2e", "memory_gb", "tdp_w",
    "source", "date", "confidence",
)  # fmt: skip
_CLASS_GPU_ID: Final = "A100-SXM4-80GB"  # the class of a card of which neither memory nor power is known
_CLASS_TDP_W: Final = 350.0  # of a card of which only the memory is known
_MEMORY_WEIGHT: Final = 4.0  # memory tells more of a card's making than its power limit


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbodiedPart:
    """Embodied carbon of one part, kgCO2e per GPU."""

    item: str
    low_kgco2e: float
    mid_kgco2e: float
    high_kgco2e: float
    source: str
    date: str
    confidence: str  # high | medium | low


@dataclass(frozen=True, slots=True, kw_only=True)
class Embodied:
    """Embodied carbon of one GPU and of the share of the server that carries it."""

    gpu_id: str
    gpu: EmbodiedPart
    server_share: EmbodiedPart


def estimate_gpu_embodied_kgco2e(die_cm2: float, memory_gb: float, tdp_w: float) -> float:
    """Return an estimate of a GPU's embodied carbon, kgCO2e.

    ``memory × k_memory + logic area × k_logic + board power × k_board``, the three constants from NVIDIA's
    HGX H100 footprint summary (2024). Against the teardown of the A100-SXM4-40GB (127.6 kg) it gives 107.
    """
    return MEMORY_KGCO2E_PER_GB * memory_gb + LOGIC_KGCO2E_PER_CM2 * die_cm2 + BOARD_KGCO2E_PER_W * tdp_w


def estimate_server_embodied_kgco2e(n_gpus: int, n_cpus: int, dram_gb: float, n_ssds: int) -> float:
    """Return the embodied carbon of a server without its GPUs, kgCO2e per GPU.

    ``(1000 + 100·(CPUs − 1) + 533/384·(GB − 16) + 100·SSDs) / GPUs``: the coefficients of Cloud Carbon
    Footprint.
    """
    memory_kgco2e = DRAM_KGCO2E_PER_GB * (dram_gb - SERVER_BASE_DRAM_GB)
    server_kgco2e = SERVER_BASE_KGCO2E + CPU_KGCO2E * (n_cpus - 1) + memory_kgco2e + SSD_KGCO2E * n_ssds
    return server_kgco2e / n_gpus


class _Card(NamedTuple):
    part: EmbodiedPart
    memory_gb: float
    tdp_w: float


def _part(row: Mapping[str, str]) -> EmbodiedPart:
    where = f"{_FILE}, {row['item']}"
    return EmbodiedPart(
        item=row["item"],
        low_kgco2e=tables.number(row, "low_kgco2e", where),
        mid_kgco2e=tables.number(row, "mid_kgco2e", where),
        high_kgco2e=tables.number(row, "high_kgco2e", where),
        source=tables.text(row, "source", where),
        date=tables.text(row, "date", where),
        confidence=tables.text(row, "confidence", where),
    )


@cache
@tables.shipped(_FILE)
def _tables() -> tuple[Mapping[str, _Card], Mapping[str, EmbodiedPart], EmbodiedPart]:
    """Return the cards by GPU, the server shares by GPU, and the generic server share."""
    cards: dict[str, _Card] = {}
    shares: dict[str, EmbodiedPart] = {}
    generic: EmbodiedPart | None = None
    for row in tables.read_table(_FILE, _COLUMNS):
        part, gpu_ids = _part(row), tables.names(row, "gpu_ids")
        if row["kind"] == "gpu":
            where = f"{_FILE}, {row['item']}"
            card = _Card(
                part=part,
                memory_gb=tables.number(row, "memory_gb", where),
                tdp_w=tables.number(row, "tdp_w", where),
            )
            cards.update({gpu_id.casefold(): card for gpu_id in gpu_ids})
        elif gpu_ids:
            shares.update({gpu_id.casefold(): part for gpu_id in gpu_ids})
        else:
            generic = part
    if generic is None:
        raise tables.damaged(_FILE, "no generic server share")
    return cards, shares, generic


def _nearest(gpu_id: str, memory_gb: float | None, tdp_w: float | None) -> _Card:
    """Return the card nearest by ratio of memory and of power; where nothing is known, an A100's class."""
    cards = _tables()[0]
    listed = load_gpus().get(gpu_id) if memory_gb is None else None
    if listed is not None:
        memory_gb, tdp_w = listed.memory_bytes / BYTES_PER_GIB, listed.tdp_w
    if memory_gb is None:
        size = re.search(r"(\d+)\s*gi?b\b", gpu_id.casefold())
        memory_gb = float(size.group(1)) if size else None
    if memory_gb is None:
        return cards[_CLASS_GPU_ID.casefold()]

    memory, power = math.log(max(memory_gb, 1.0)), math.log(max(tdp_w or _CLASS_TDP_W, 1.0))

    def distance(card: _Card) -> float:
        return _MEMORY_WEIGHT * abs(math.log(card.memory_gb) - memory) + abs(math.log(card.tdp_w) - power)

    return min(cards.values(), key=distance)


def embodied_for(gpu_id: str, *, memory_gb: float | None = None, tdp_w: float | None = None) -> Embodied:
    """Return the embodied carbon of ``gpu_id`` and of its server share.

    A GPU that the table does not list takes the figure of the nearest card by ``memory_gb`` and ``tdp_w``
    (or by the size in its name), with low confidence; the source says of which card.
    """
    cards, shares, generic = _tables()
    key = gpu_id.casefold()
    card = cards.get(key)
    if card is not None:
        return Embodied(gpu_id=gpu_id, gpu=card.part, server_share=shares.get(key, generic))
    near = _nearest(gpu_id, memory_gb, tdp_w).part
    gpu = EmbodiedPart(
        item=gpu_id,
        low_kgco2e=near.low_kgco2e,
        mid_kgco2e=near.mid_kgco2e,
        high_kgco2e=near.high_kgco2e,
        source=f"not listed; taken from the nearest card, {near.item} ({near.source})",
        date=near.date,
        confidence="low",
    )
    return Embodied(gpu_id=gpu_id, gpu=gpu, server_share=shares.get(near.item.casefold(), generic))
