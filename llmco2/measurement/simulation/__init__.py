"""Simulated GPUs under the real pynvml and zeus, where there is no GPU; every reading says ``simulated``."""
