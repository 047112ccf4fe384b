"""Everything below training: tables of runs and kernels, importers, group splits, workloads and focused
sampling."""
