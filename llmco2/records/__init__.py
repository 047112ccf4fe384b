"""The records that every flow shares: a request, its energies, a footprint, a measured run."""
