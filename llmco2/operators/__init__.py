"""What an inference does: the operators of each phase with FLOPs and bytes, their graph, roofline and memory.

Invariant: counting is exact arithmetic on shapes, vectorised over requests, and knows no measurement.
"""
