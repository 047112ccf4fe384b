"""How an answer is shown: a table for people, JSON and CSV for machines.

Invariant: nothing here computes a physical quantity; a report rounds and converts at the edge, and
only there.
"""
