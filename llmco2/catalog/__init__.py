"""Reference facts with their sources (GPUs, models, servers, grids) and the kind resolution of names."""
