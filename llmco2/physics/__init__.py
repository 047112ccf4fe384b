"""Times and energies of a phase from counted operators: peak times, descriptors and the physical phase energy.

Invariant: learned coefficients read only what does not depend on the size of a request, which makes answers monotone.
"""
