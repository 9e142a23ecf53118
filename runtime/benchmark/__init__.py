"""Measure latency, peak memory and the time of each operator."""
