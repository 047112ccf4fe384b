"""Which way of serving a model takes least, within targets of latency and GPUs.

Invariant: everything that is answered comes from one table of predictions, and nothing here prints.
"""
