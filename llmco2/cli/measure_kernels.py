"""``llmco2 measure --kernels``: latency and energy of single kernels on the GPU at hand.

Invariant: as for whole runs, the output holds every kernel that was finished, whatever ends the command.
"""

from __future__ import annotations

import argparse
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from llmco2.catalog.gpus import resolve_gpu
from llmco2.cli.measure_tools import (
    DEFAULT_SIMULATED_GPU,
    catalog_name,
    real_meter,
    rest_power_w,
    simulated_gpus,
    simulated_idle_w,
)
from llmco2.errors import MeasurementError, explain
from llmco2.measurement.campaigns.data_card import check_card
from llmco2.measurement.campaigns.progress import ProgressDisplay
from llmco2.measurement.campaigns.run_log import KernelLog
from llmco2.measurement.campaigns.runner import Summary
from llmco2.measurement.kernels.campaign import KernelTools, run_kernel_campaign
from llmco2.measurement.kernels.campaign_file import load_kernel_campaign
from llmco2.measurement.kernels.card import write_kernel_card
from llmco2.measurement.kernels.kernel import Kernel
from llmco2.measurement.kernels.shapes import KernelShape
from llmco2.measurement.kernels.simulated_kernel import SimulatedKernel, simulated_launch
from llmco2.measurement.meters.meter import EnergyMeter


def measure_kernels(args: argparse.Namespace) -> tuple[Summary, Path]:
    """Measure the campaign of kernels that ``args`` name; return how it ended and where its card lies.

    Raises:
        InputError: the campaign, the output or the simulated GPU is not what it should be.
        MeasurementError: there is no GPU to measure, or the output cannot be written any further.
    """
    from rich.console import Console  # noqa: PLC0415

    campaign = load_kernel_campaign(args.kernels)
    check_card(args.output)
    tools, context = _simulated(args) if args.simulate else (_real(args), nullcontext())
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt like any
    with KernelLog(args.output) as log:
        if log.repair is not None:
            console.print(f"{args.output}: {log.repair}", highlight=False)
        with context, ProgressDisplay(console) as display:
            summary = run_kernel_campaign(
                campaign,
                log,
                tools,
                listener=display,
                allow_shared=args.allow_shared,
                retry_failed=args.retry_failed,
            )
        card = write_kernel_card(args.output, log.rows)
    return summary, card


def _real(args: argparse.Namespace) -> KernelTools:
    def open_meter(gpus: int) -> EnergyMeter:
        meter = real_meter(gpus, allow_shared=args.allow_shared)
        try:
            _need_cuda()
        except BaseException:
            meter.close()
            raise
        return meter

    return KernelTools(
        open_meter=open_meter, make_kernel=_torch_kernel, gpu_name=catalog_name, idle_power_w=rest_power_w
    )


def _torch_kernel(shape: KernelShape) -> Kernel:
    from llmco2.measurement.kernels.torch_kernel import TorchKernel  # noqa: PLC0415

    return TorchKernel(shape, device="cuda:0")


def _need_cuda() -> None:
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        raise MeasurementError(
            explain(
                "torch cannot use the GPU",
                got=f"torch {torch.__version__}",
                expected="a build with CUDA",
                remedy="install one (llmco2 doctor says how), or try --simulate",
            )
        )


def _simulated(args: argparse.Namespace) -> tuple[KernelTools, AbstractContextManager[Any]]:
    record = resolve_gpu(args.simulated_gpu or DEFAULT_SIMULATED_GPU)
    idle_w = simulated_idle_w(record)
    rig = simulated_gpus(record, 1)

    def make_kernel(shape: KernelShape) -> Kernel:
        launch = simulated_launch(shape, record, idle_power_w=idle_w)
        return SimulatedKernel(shape, launch, rig=rig, idle_power_w=idle_w)

    tools = KernelTools(
        open_meter=lambda gpus: real_meter(gpus, allow_shared=args.allow_shared, clock=rig.clock),
        make_kernel=make_kernel,
        gpu_name=catalog_name,
        idle_power_w=rest_power_w,
    )
    return tools, rig
