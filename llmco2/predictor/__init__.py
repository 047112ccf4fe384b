"""Predictions from shipped numbers, with numpy alone: checkpoint, network, intervals, domain, front door."""
