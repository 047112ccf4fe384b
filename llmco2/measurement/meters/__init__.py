"""Meters of real, simulated and recorded GPUs behind one protocol.

Invariant: a value that could not be read is ``None`` with a reason, never zero.
"""
