"""Tensor parallelism: one process per GPU under ``torchrun``; the first measures, the others follow it.

Invariant: every process makes the same calls in the same order, or a collective waits for ever. The first
process therefore says what comes next over a group of its own (gloo: waiting there costs no GPU time), then
does it too.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final

from llmco2.errors import explain
from llmco2.measurement.meters.clock import MonotonicClock
from llmco2.measurement.meters.meter import Clock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.transformers_workload import TransformersWorkload
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts

_PATIENCE: Final = timedelta(days=7)  # of followers between two commands
_LAUNCHER: Final = "torchrun --nproc-per-node {n} --no-python llmco2 measure …"


def rank() -> int:
    """Return this process's place under ``torchrun``, 0 without it."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes ``torchrun`` started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_world(configuration: RunConfiguration) -> None:
    """Refuse a tensor-parallel configuration that was not started with one process per GPU."""
    if configuration.tensor_parallel not in {1, world_size()}:
        raise WorkloadError(
            "unsupported",
            explain(
                f"tensor_parallel {configuration.tensor_parallel} needs as many processes",
                got=world_size(),
                remedy=_LAUNCHER.format(n=configuration.tensor_parallel),
            ),
        )


class CommandChannel:
    """Carries commands from the first process to the others."""

    def __init__(self, device_type: str) -> None:
        """Join the other processes; ``device_type`` is ``cuda`` or ``cpu``."""
        import torch  # noqa: PLC0415
        import torch.distributed as dist  # noqa: PLC0415

        if device_type == "cuda":
            torch.cuda.set_device(local_rank())
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")
        self._dist = dist
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def tell(self, command: str, argument: Any = None) -> None:
        """Send one command to all followers."""
        self._dist.broadcast_object_list([command, argument], src=0, group=self._group)

    def end(self) -> None:
        """Let the followers go, and leave them."""
        self.tell("end")
        self.leave()

    def leave(self) -> None:
        """Leave the other processes; the group's threads must end before the process does."""
        self._dist.destroy_process_group()

    def hear(self) -> tuple[str, Any]:
        """Wait for the next command."""
        message: list[Any] = [None, None]
        self._dist.broadcast_object_list(message, src=0, group=self._group)
        return str(message[0]), message[1]


def local_rank() -> int:
    """Return this process's GPU on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class ParallelWorkload:
    """A transformers workload that takes the followers along in each step."""

    decodes_alone = True

    def __init__(
        self, configuration: RunConfiguration, *, channel: CommandChannel, clock: Clock, device: str
    ) -> None:
        self._configuration, self._channel = configuration, channel
        self._own = TransformersWorkload(configuration, clock=clock, device=device)
        self._told = False

    @property
    def facts(self) -> WorkloadFacts:
        """What the first process knows."""
        return self._own.facts

    def load(self) -> None:
        """Load every shard."""
        require_world(self._configuration)
        self._told = True
        self._channel.tell("load", self._configuration)
        self._own.load()

    def prefill(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run the prompt on all GPUs."""
        self._channel.tell("prefill", repeats)
        return self._own.prefill(repeats)

    def decode(self, repeats: int) -> None:
        """Decode on all GPUs."""
        self._channel.tell("decode", repeats)
        self._own.decode(repeats)

    def whole(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run both on all GPUs."""
        self._channel.tell("whole", repeats)
        return self._own.whole(repeats)

    def step_time_batch1_s(self) -> float | None:
        """Time single steps on all GPUs."""
        self._channel.tell("step_time")
        return self._own.step_time_batch1_s()

    def close(self) -> None:
        """Drop every shard."""
        if self._told:
            self._told = False
            self._channel.tell("close")
        self._own.close()


def follow(channel: CommandChannel, *, device: str) -> None:
    """Do what the first process says until it says ``end``.

    A step that fails here fails there too (out of memory, no config), and is on record there.
    """
    workload: TransformersWorkload | None = None
    while True:
        command, argument = channel.hear()
        if command == "end":
            channel.leave()
            return
        try:
            if command == "load":
                workload = TransformersWorkload(argument, clock=MonotonicClock(), device=device)
                workload.load()
            elif workload is not None:
                _STEPS[command](workload, argument)
        except WorkloadError:
            continue


_STEPS: Final[dict[str, Any]] = {
    "prefill": lambda workload, repeats: workload.prefill(repeats),
    "decode": lambda workload, repeats: workload.decode(repeats),
    "whole": lambda workload, repeats: workload.whole(repeats),
    "step_time": lambda workload, _: workload.step_time_batch1_s(),
    "close": lambda workload, _: workload.close(),
}
