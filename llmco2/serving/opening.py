"""Opening sessions with serving engines: which of the machine's GPUs are whose.

Invariant: GPUs are a server's because somebody said so, or its processes compute on them, or there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from llmco2.carbon.factors import CarbonFactors
from llmco2.errors import InputError, MeasurementError, explain
from llmco2.measurement.meters.meter import Clock, Device, EnergyMeter
from llmco2.measurement.workloads.gpu_processes import gpus_of_server
from llmco2.serving.client import checked_url
from llmco2.serving.comparing import Predict
from llmco2.serving.deployment import GIVEN, Given, is_here
from llmco2.serving.memory import Memory, Remembered
from llmco2.serving.session import OwnGpus, ServerSession

_MOST_ANSWERS: Final = 512
Factors = Callable[[str], CarbonFactors | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The servers that the command line names; ``gpus`` beside ``urls``, ``None`` where nothing was said."""

    urls: tuple[str, ...] = ()
    gpus: tuple[tuple[int, ...] | None, ...] = ()
    served_model: str | None = None
    given: Given = field(default_factory=Given)


def gpu_indices(text: str) -> tuple[int, ...]:
    """Return the GPU indices that ``text`` lists, such as ``0,1``, each once; raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        raise InputError(explain("not a list of GPUs", got=repr(text), expected="such as 0,1"))
    return tuple(dict.fromkeys(int(part) for part in parts))


def _by_process(url: str) -> tuple[int, ...]:
    try:
        return gpus_of_server(url)
    except MeasurementError:
        return ()


def own_gpus(
    url: str,
    said: Sequence[int] | None,
    devices: Sequence[Device],
    by_process: Callable[[str], tuple[int, ...]] = _by_process,
    remembered: Remembered | None = None,
) -> OwnGpus:
    """Return which of the machine's GPUs are a server's: as said, by its processes, as remembered, or the only one.

    Raises:
        InputError: a GPU that is not here was said, GPUs of several kinds, or nobody can tell which are its own.
    """
    known = {device.index: device for device in devices}
    if said is not None:
        lacking = [index for index in said if index not in known]
        if lacking:
            raise InputError(
                explain(f"--server-gpus names GPU {lacking[0]}", expected=f"of {', '.join(map(str, known))}")
            )
        return _owned(url, said, known, GIVEN)
    if not is_here(url):
        return OwnGpus(indices=(), origin="it runs on another machine, whose GPUs cannot be read from here")
    found = by_process(url)
    if found:
        return _owned(url, found, known, "by its processes")
    if remembered is not None and remembered.gpus and set(remembered.gpus) <= set(known):
        return _owned(url, remembered.gpus, known, f"remembered of {remembered.said_on}")
    if len(devices) == 1:
        return _owned(
            url, tuple(known), known, "assumed: the only GPU here, and its processes cannot be seen"
        )
    raise InputError(
        explain(
            f"cannot tell which GPUs {url} uses: its processes are not to be seen",
            remedy=f"say so with --server-gpus {','.join(map(str, known))} or fewer",
        )
    )


def ask_for_gpus(
    options: ServerOptions, devices: Sequence[Device], ask: Callable[[str], str], memory: Memory | None = None
) -> ServerOptions:
    """Return options with the GPUs of servers that nothing tells, as ``ask`` answers each question.

    Raises:
        InputError: the answer is no list of GPUs that are here.
    """
    said = [options.gpus[place] if place < len(options.gpus) else None for place in range(len(options.urls))]
    for place, url in enumerate(options.urls):
        try:
            remembered = None if memory is None else memory.recall(str(checked_url(url)))
            own_gpus(url, said[place], devices, remembered=remembered)
        except InputError:
            if said[place] is not None:
                raise
            every = ",".join(str(device.index) for device in devices)
            said[place] = own_gpus(url, gpu_indices(ask(f"GPUs of {url}, of {every}: ")), devices).indices
    return replace(options, gpus=tuple(said))


def _owned(url: str, indices: Sequence[int], known: dict[int, Device], origin: str) -> OwnGpus:
    names = {known[index].name for index in indices if index in known}
    if len(names) > 1:
        raise InputError(
            explain(f"the GPUs of {url} differ", got=", ".join(sorted(names)), expected="one kind")
        )
    return OwnGpus(indices=tuple(sorted(set(indices))), device=next(iter(names), None), origin=origin)


def open_sessions(  # noqa: PLR0917 - what a session is made of
    options: ServerOptions,
    meter: EnergyMeter | None,
    clock: Clock,
    predict: Predict,
    factors: Factors,
    memory: Memory | None = None,
) -> list[ServerSession]:
    """Return a session for each server; no server is read yet.

    Raises:
        InputError: as :func:`own_gpus` does; or ``memory`` is damaged.
    """
    devices = () if meter is None else meter.devices()
    predict = lru_cache(maxsize=_MOST_ANSWERS)(predict)
    sessions = []
    for place, url in enumerate(options.urls):
        said = options.gpus[place] if place < len(options.gpus) else None
        if meter is None:
            gpus = OwnGpus(indices=(), origin="this machine has no GPU that can be read")
        else:
            remembered = None if memory is None else memory.recall(str(checked_url(url)))
            gpus = own_gpus(url, said, devices, remembered=remembered)
        sessions.append(
            ServerSession(
                url,
                predict=predict,
                gpus=gpus,
                now_s=clock.now_s,
                given=options.given,
                served_model=options.served_model,
                factors=factors,
                memory=memory,
            )
        )
    return sessions
