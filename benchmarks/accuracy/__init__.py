"""Accuracy of the shipped model and of its rivals where nothing was fitted: folds, contenders, figures, tables."""
