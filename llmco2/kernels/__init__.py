"""What an inference does: kernels of each phase with their FLOPs and bytes, their graph, their roofline, their memory.

Invariant: counting is exact arithmetic on shapes, vectorised over requests, and knows nothing of any measurement.
"""
