"""Measured kernel latencies of PyPI's ``aiconfigurator-core`` (Apache-2.0), as one table a kernel kind.

Invariant: a row that is kept was measured for the kernel it names, on the board it names; every rule that drops rows
says which flaw of the tables it answers.
"""
