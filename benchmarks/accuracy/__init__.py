"""Accuracy of the shipped model and of its baselines where nothing was fitted: folds, methods, figures, tables."""
