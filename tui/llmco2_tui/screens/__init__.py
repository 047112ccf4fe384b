"""Screens that lie over the views and hand back what was chosen."""
