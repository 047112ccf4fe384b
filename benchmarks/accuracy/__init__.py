"""Accuracy of the product and of other estimates on measured runs: errors, coverage, rankings, kernels."""
