"""The learned parts, as plain torch modules: coefficients of the physical readout.

Invariant: nothing here knows a trainer, a file or a command line.
"""
