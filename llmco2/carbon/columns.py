"""The carbon of a whole table of requests at once, through the same formulas as one request.

Invariant: for every row the result equals that of ``footprint_carbon`` on the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmco2.carbon import formulas
from llmco2.errors import RequestError, explain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.float64]

_ABOVE_ZERO: Final = "a number above 0"
_FROM_ZERO: Final = "a number of at least 0"


def carbon_columns(  # noqa: PLR0917 - one column each, in the order of the arithmetic
    energy_j: npt.ArrayLike,
    time_s: npt.ArrayLike,
    n_gpus: npt.ArrayLike,
    intensity: npt.ArrayLike,
    pue: npt.ArrayLike,
    host_w: npt.ArrayLike,
    embodied_kg: npt.ArrayLike,
    lifetime: npt.ArrayLike,
    utilization: npt.ArrayLike,
) -> tuple[Column, Column]:
    """Return (operational, embodied) emissions of every row, gCO2e, each of shape ``(n_rows,)``.

    Arguments broadcast, so a factor may be one number for all rows. ``energy_j`` J over all GPUs of the
    batch, ``time_s`` s, ``intensity`` gCO2e/kWh, ``host_w`` W per GPU, ``embodied_kg`` kgCO2e per GPU with
    its share of the server, ``lifetime`` years, ``utilization`` in (0, 1]. A NaN energy or time (a row
    without a prediction) gives NaN; anything else that cannot be raises RequestError with the first row it
    occurs in.
    """
    import numpy as np  # noqa: PLC0415 - a single request needs no numpy

    energy, time, gpus, grams, use_factor, host, kilograms, years, share = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(values, dtype=np.float64))
            for values in (
                energy_j,
                time_s,
                n_gpus,
                intensity,
                pue,
                host_w,
                embodied_kg,
                lifetime,
                utilization,
            )
        )
    )
    _check("energy_j", energy, np.isnan(energy) | (energy >= 0.0), _FROM_ZERO)
    _check("time_s", time, np.isnan(time) | (time >= 0.0), _FROM_ZERO)
    for name, values in (
        ("n_gpus", gpus),
        ("intensity", grams),
        ("host_w", host),
        ("embodied_kg", kilograms),
    ):
        _check(name, values, values >= 0.0, _FROM_ZERO)
    _check("pue", use_factor, use_factor >= 1.0, "a number of at least 1")
    _check("lifetime", years, years > 0.0, _ABOVE_ZERO)
    _check("utilization", share, (share > 0.0) & (share <= 1.0), f"{_ABOVE_ZERO}, at most 1")
    host_j = formulas.host_energy_j(host, gpus, time)
    kwh = formulas.facility_energy_kwh(formulas.facility_energy_j(energy, host_j, use_factor))
    operational = formulas.operational_gco2e(kwh, grams)
    embodied = formulas.embodied_gco2e(kilograms, gpus, formulas.embodied_time_share(time, years, share))
    return np.asarray(operational, dtype=np.float64), np.asarray(embodied, dtype=np.float64)


def _check(name: str, values: Column, good: npt.NDArray[np.bool_], expected: str) -> None:
    """Raise RequestError for the first row that is not ``good``, or that is infinite."""
    import numpy as np  # noqa: PLC0415 - as in the caller

    bad = np.flatnonzero(~good | np.isinf(values))
    if bad.size:
        row = int(bad[0])
        raise RequestError(
            explain(f"{name} is out of range in row {row}", got=f"{values.flat[row]:g}", expected=expected)
        )
