"""A module of one's own, as a user would name it by its class path."""

from __future__ import annotations

from llmco2.training.kernel_module import KernelModule


class OwnModule(KernelModule):
    """The shipped one under another name."""
