"""How the checkpoint that ships is made: node functions from kernels, host constants from runs, and their errors.

Invariant: every number of the checkpoint comes out of this recipe, PyPI's kernel tables and a table of public runs.
"""
