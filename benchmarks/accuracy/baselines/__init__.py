"""Other estimates of energy and time: closed forms of others, formulas fitted to runs, trees, kernels alone."""
