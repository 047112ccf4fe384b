"""The learned parts, as plain torch modules: node functions of measured kernels.

Invariant: nothing here knows a trainer, a file or a command line.
"""
