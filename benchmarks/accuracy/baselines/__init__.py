"""What the shipped model is compared with: closed forms, forests and networks of others, and ablations of its own.

Invariant: every baseline fits on a fold's training rows that know an energy, and reads no label of a test row.
"""
