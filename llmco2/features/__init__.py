"""From requests to numbers a network can read: deployments, roofline times, descriptors, physical readout.

Invariant: what does not depend on the size of a request (deployments, descriptors) is kept apart from what
does (roofline times), because learned coefficients may read only the first: that is what makes answers
monotone.
"""
