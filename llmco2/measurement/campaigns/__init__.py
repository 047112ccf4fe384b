"""Campaigns: which configurations are measured, how carefully, and the durable log of what came out."""
