"""Serving engines and exporters as they describe themselves: pages read, intervals made, energy shared out.

Invariant: what a page lacks is missing and never zero, and a page can cost no more than its limits.
"""
