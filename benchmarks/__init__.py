"""The laboratory beside the package: accuracy, the release of a checkpoint, public measurement files, timings.

Invariant: this package is in no wheel, and ``llmco2`` imports nothing of it. Its commands run from a checkout:
``python -m benchmarks.accuracy``, ``.release``, ``.public_runs``, ``.kernel_tables``.
"""
