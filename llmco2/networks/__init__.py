"""The learned parts, as plain torch modules: coefficients of the physical readout, and the paper's own two networks.

Invariant: nothing here knows a trainer, a file or a command line.
"""
