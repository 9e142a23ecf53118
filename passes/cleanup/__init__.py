"""Passes that remove what does not affect the result."""
