"""Measuring single kernels: latency and energy of one launch at many shapes.

Windows, meters, the log and the course of a campaign are those of whole runs; here is what differs.
"""
