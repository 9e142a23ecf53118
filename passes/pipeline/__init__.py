"""Passes, pipelines, the registry and the log of a run."""
