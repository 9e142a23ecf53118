"""Outlining of the standard's function bodies."""
