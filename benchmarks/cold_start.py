"""CPU seconds that a cold ``llmco2 predict`` costs beyond Python's own start.

Each run is a process of its own; user and system time of the finished child are added up. The two commands
take turns, so that a slower minute of the machine falls on both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL_S = 0.6
REQUEST = (
    "meta-llama/Llama-3.1-8B-Instruct",
    *("--gpu", "H100-SXM5-80GB", "--zone", "FRA"),
    *("--batch-size", "8", "--prompt-tokens", "512", "--output-tokens", "256"),
)


def cpu_seconds(command: list[str]) -> float:
    """Run ``command`` and return the CPU seconds of its process."""
    before = os.times()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tui")])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path})
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return round(spent, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--checkpoint", help="in place of the one that ships")
    args = parser.parse_args()
    bare = [sys.executable, "-c", "pass"]
    predict = [sys.executable, "-m", "llmco2.cli.main", "predict", *REQUEST]
    if args.checkpoint:
        predict += ["--checkpoint", args.checkpoint]
    cpu_seconds(predict)  # compiles what is not compiled yet and warms the file cache
    pairs = [(cpu_seconds(predict), cpu_seconds(bare)) for _ in range(args.runs)]
    python_s = statistics.median(pair[1] for pair in pairs)
    beyond = [spent - python_s for spent, _ in pairs]
    print(f"python -c pass        {python_s:.2f} s CPU (median of {args.runs})")
    print(f"llmco2 predict beyond {min(beyond):.2f} s CPU least, {statistics.median(beyond):.2f} s median")
    print(
        f"goal                  {GOAL_S:.2f} s: {'met' if statistics.median(beyond) <= GOAL_S else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
