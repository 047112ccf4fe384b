"""The check of this machine before it measures: each finding with its fix."""
