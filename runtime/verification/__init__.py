"""Verify that a result computes what the original computes."""
