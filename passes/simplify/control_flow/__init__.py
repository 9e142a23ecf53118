"""Passes on If, Loop and Scan."""
