"""What NVML's codes and bits mean in words.

Invariant: a reading that failed becomes a reason a person can act on, here and nowhere else.
"""

from __future__ import annotations

from typing import Final

_THROTTLE_NAMES: Final = {
    0x002: "applications_clocks",
    0x004: "power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "power_brake",
    0x100: "display_clocks",
}
GPU_IDLE_BIT: Final = 0x001  # NVML lists idleness among the reasons; nothing is being held back then
# A GPU at its power limit does what it is meant to do; the others say that a label is not of the usual
# machine.
HARMFUL_THROTTLING: Final = frozenset(
    ("hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake")
)

INVALID_ARGUMENT: Final = 2
NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
NOT_FOUND: Final = 6
DRIVER_NOT_LOADED: Final = 9
TIMEOUT: Final = 10
LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
RESET_REQUIRED: Final = 16
VERSION_MISMATCH: Final = 18
GPU_NOT_FOUND: Final = 28
# What will not be different a moment later; anything else may be, and is asked again.
LASTING_CODES: Final = frozenset((INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND))
LOST_CODES: Final = frozenset((GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND))

_REASONS: Final = {
    NOT_SUPPORTED: "this GPU or driver does not offer it",
    NO_PERMISSION: "no permission to read it",
    NOT_FOUND: "it was not found",
    GPU_NOT_FOUND: "the GPU is not there any more",
    DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    TIMEOUT: "the driver did not answer in time",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 was not found",
    FUNCTION_NOT_FOUND: "this driver is too old to offer it",
    GPU_IS_LOST: "the GPU has fallen off the bus",
    RESET_REQUIRED: "the GPU needs a reset",
    VERSION_MISMATCH: "the driver was updated while loaded",
}


def reason_of(nvml_error: int, detail: str = "") -> str:
    """Return one line on why NVML refused; ``detail`` is its own text, for codes not listed here."""
    return _REASONS.get(nvml_error, f"NVML error {nvml_error}" + (f" ({detail})" if detail else ""))


def throttle_names(bits: int) -> tuple[str, ...]:
    """Return the names of what holds the clocks back, from NVML's clocks event reasons; idleness is none."""
    named = [name for bit, name in _THROTTLE_NAMES.items() if bits & bit]
    unknown = bits & ~GPU_IDLE_BIT & ~sum(_THROTTLE_NAMES)
    return (*named, f"other_{unknown:#x}") if unknown else tuple(named)
