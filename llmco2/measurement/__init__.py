"""Measuring: meters behind one protocol, workloads, campaigns, and the check of the machine.

Invariant: this is the only part that touches zeus and pynvml, and it imports them when a meter is made, not
before. A value that could not be read is ``None`` with a reason, never zero; whatever no real GPU drew says
``simulated``.
"""
