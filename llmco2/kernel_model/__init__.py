"""The kernels of a step as measured kernels see them: shapes per rank, physical features, learned node functions.

Invariant: a feature is a ratio of physical quantities or a size of the kernel, never a name of a board. Formats with
equal bytes and equal rates share every feature, so they share every answer.
"""
