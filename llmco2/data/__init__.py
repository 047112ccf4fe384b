"""Everything below training: tables of runs and kernels, rows of measured kernels and how they are drawn, workloads."""
