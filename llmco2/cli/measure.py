"""``llmco2 measure``: label configurations or single kernels with the energy they take on the GPUs at hand.

Invariant: whatever ends the command, the output file holds every configuration that was finished, and running
the same command again goes on with the rest.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from llmco2.cli.arguments import whole
from llmco2.errors import InputError, explain

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130
DEFAULT_OUTPUT: Final = Path("runs.jsonl")
DEFAULT_KERNEL_OUTPUT: Final = Path("kernels.jsonl")
_EXAMPLES: Final = """examples:
  llmco2 measure --campaign datasets/campaigns/quick.yaml --simulate
  llmco2 measure meta-llama/Llama-3.1-8B --model-path ./Llama-3.1-8B --batch-size 8 --prompt-tokens 512
  llmco2 measure Qwen/Qwen3-8B --server http://127.0.0.1:8000 --engine vllm-0.11 --batch-size 16
  llmco2 measure --kernels datasets/campaigns/kernels.yaml --simulate
"""
# option of the quick mode: (kind, metavar, help); its name is a key of a configuration
_SINGLE: Final[dict[str, tuple[Any, str, str]]] = {
    "model_path": (str, "PATH", "folder or config.json (default: the local model cache, else the catalog)"),
    "weights": (str, "KIND", "random or checkpoint (default: random)"),
    "precision": (str, "NAME", "bf16, fp16, fp32, int8, nf4; of a server: what it serves (default: bf16)"),
    "kv_precision": (str, "NAME", "of the KV cache, where it differs"),
    "attention": (str, "NAME", "eager, sdpa, flash_attention_2 … (default: sdpa)"),
    "batch_size": (whole, "N", "sequences at once; of a server: concurrent requests (default: 1)"),
    "prompt_tokens": (whole, "N", "prompt tokens (default: 128)"),
    "output_tokens": (whole, "N", "output tokens, all of them made (default: 32)"),
    "tensor_parallel": (whole, "N", "GPUs that share the model (default: 1)"),
    "seed": (whole, "N", "of random weights and prompts (default: 0)"),
    "served_model": (str, "NAME", "the name the server knows (default: the first it lists)"),
    "engine": (str, "NAME", "the server's engine: vllm-0.11, sglang, tgi … (default: unknown)"),
}


def add_parser(subparsers: Any) -> None:
    """Add ``measure`` and its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "measure",
        help="measure a campaign of configurations on the GPUs at hand",
        description="Measure prefill and decode energy, phase by phase, or latency and energy of single\n"
        "kernels, and append one durable row each.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="measure one configuration of this model")
    parser.add_argument(
        "--campaign", type=Path, metavar="FILE", help="YAML campaign: a grid, a list, or focused"
    )
    parser.add_argument(
        "--kernels", type=Path, metavar="FILE", help="YAML campaign of single kernels at many shapes"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"rows, JSON Lines (default: {DEFAULT_OUTPUT}; of kernels {DEFAULT_KERNEL_OUTPUT})",
    )
    parser.add_argument("--simulate", action="store_true", help="use simulated GPUs; every row is marked")
    parser.add_argument("--simulated-gpu", metavar="GPU", help="which kind to simulate (default: an H100)")
    parser.add_argument(
        "--allow-shared", action="store_true", help="measure although others use the GPU; flagged"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run again what failed before")
    parser.add_argument("--server", metavar="URL", help="measure a running OpenAI-compatible server")
    for name, (kind, metavar, text) in _SINGLE.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument("--static-cache", action="store_const", const=True, help="preallocate the KV cache")
    parser.add_argument("--compile", action="store_const", const=True, help="torch.compile the decode step")


def run(args: argparse.Namespace) -> int:
    """Measure, and return the exit code."""
    if args.kernels is not None:
        return _run_kernels(args)
    from llmco2.measurement.workloads.parallel import follow, rank, world_size  # noqa: PLC0415

    args.output = args.output or DEFAULT_OUTPUT
    campaign = _campaign(args)
    channel = _channel() if world_size() > 1 and not args.simulate else None
    if channel is not None and rank() > 0:
        follow(channel, device="cuda")
        return 0
    try:
        return _measure(args, campaign, _rig(args, campaign, channel))
    finally:
        if channel is not None:
            channel.end()


def _run_kernels(args: argparse.Namespace) -> int:
    from llmco2.cli.measure_kernels import measure_kernels  # noqa: PLC0415

    given = "--campaign" if args.campaign is not None else args.model or _first_option(args)
    if given is not None:
        raise InputError(explain("a campaign of kernels and something else", got=given, remedy="choose one"))
    _check_simulation(args)
    args.output = args.output or DEFAULT_KERNEL_OUTPUT
    summary, card = measure_kernels(args)
    return _report(summary, args, card)


def _first_option(args: argparse.Namespace) -> str | None:
    """Return the first option that describes a single configuration, if one was given."""
    names = (*_SINGLE, "server", "static_cache", "compile")
    return next((f"--{n.replace('_', '-')}" for n in names if getattr(args, n) is not None), None)


def _check_simulation(args: argparse.Namespace) -> None:
    if args.simulated_gpu is not None and not args.simulate:
        raise InputError(
            explain("--simulated-gpu without --simulate", got=args.simulated_gpu, remedy="add --simulate")
        )


def _channel() -> Any:
    from llmco2.measurement.workloads.parallel import CommandChannel  # noqa: PLC0415

    return CommandChannel("cuda")


def _measure(args: argparse.Namespace, campaign: Any, rig: Any) -> int:
    from rich.console import Console  # noqa: PLC0415

    from llmco2.measurement.campaigns.campaign import run_campaign  # noqa: PLC0415
    from llmco2.measurement.campaigns.data_card import check_card, write_card  # noqa: PLC0415
    from llmco2.measurement.campaigns.progress import ProgressDisplay  # noqa: PLC0415
    from llmco2.measurement.campaigns.run_log import RunLog  # noqa: PLC0415

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt like any
    check_card(args.output)
    with RunLog(args.output) as log:
        if log.repair is not None:
            console.print(f"{args.output}: {log.repair}", highlight=False)
        with rig.context, ProgressDisplay(console) as display:
            summary = run_campaign(
                campaign,
                log,
                rig.tools,
                listener=display,
                allow_shared=args.allow_shared,
                retry_failed=args.retry_failed,
            )
        card = write_card(args.output, log.rows)
    return _report(summary, args, card)


def _campaign(args: argparse.Namespace) -> Any:
    from llmco2.measurement.campaigns.campaign_file import Campaign, load_campaign  # noqa: PLC0415
    from llmco2.measurement.campaigns.plan import MeasurePlan  # noqa: PLC0415
    from llmco2.measurement.workloads.configuration import configuration_from  # noqa: PLC0415

    single = {name: getattr(args, name) for name in _SINGLE if getattr(args, name) is not None}
    single |= {
        key: True for key, given in (("static_cache", args.static_cache), ("compiled", args.compile)) if given
    }
    if args.server is not None:
        single |= {"workload": "server", "server_url": args.server}
    if args.campaign is not None:
        if args.model is not None or single:
            given = args.model or _first_option(args)
            raise InputError(
                explain(
                    "a campaign file and a single configuration", got=given, remedy="write it into the file"
                )
            )
        return load_campaign(args.campaign)
    if args.model is None:
        expected = "MODEL or --campaign FILE or --kernels FILE"
        raise InputError(explain("nothing to measure", expected=expected))
    if single.get("compiled"):
        single.setdefault("static_cache", True)
    configuration = configuration_from({"model": args.model, **single}, "measure")
    return Campaign(name="single", configurations=(configuration,), plan=MeasurePlan())


def _rig(args: argparse.Namespace, campaign: Any, channel: Any) -> Any:
    from llmco2.cli.measure_tools import DEFAULT_SIMULATED_GPU, real_rig, simulated_rig  # noqa: PLC0415
    from llmco2.measurement.workloads.server_process import server_processes, with_descendants  # noqa: PLC0415

    if args.simulate:
        _refuse_simulated_server(campaign)
        return simulated_rig(
            campaign, gpu=args.simulated_gpu or DEFAULT_SIMULATED_GPU, allow_shared=args.allow_shared
        )
    _check_simulation(args)
    servers = {c.server_url for c in campaign.configurations if c.server_url}
    own_pids = frozenset[int]().union(*(server_processes(url) for url in servers))
    if channel is not None:  # the processes that the same torchrun started work for us
        own_pids |= with_descendants({os.getppid()})
    return real_rig(campaign, allow_shared=args.allow_shared, own_pids=own_pids, channel=channel)


def _refuse_simulated_server(campaign: Any) -> None:
    """Refuse to draw a server's answers on simulated GPUs: nothing would be asked of the server."""
    url = next((c.server_url for c in campaign.configurations if c.server_url), None)
    if url is not None:
        raise InputError(
            explain(
                "a server cannot be simulated",
                got=url,
                expected="--simulate, or a server on real GPUs",
                remedy="leave out --simulate",
            )
        )


def _report(summary: Any, args: argparse.Namespace, card: Path) -> int:
    words = f"{summary.measured} measured, {summary.failed} failed, {summary.left} left"
    note = "; SIMULATED: no real GPU drew this, and training refuses it unless asked" if args.simulate else ""
    print(f"{words}: {args.output}, described in {card}{note}")
    if summary.stopped_because is None:
        return EXIT_FAILURE if summary.failed and not summary.measured else 0
    print(f"stopped: {summary.stopped_because}", file=sys.stderr)
    print(f"resume: {_resume_line(sys.argv[1:])}", file=sys.stderr)
    return EXIT_INTERRUPTED if summary.stopped_because == "interrupted" else EXIT_FAILURE


def _resume_line(arguments: Sequence[str]) -> str:
    return "llmco2 " + shlex.join(arguments)
